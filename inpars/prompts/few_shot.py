"""Which worked examples a document's prompt shows: all of a file, some at random, or those most like the document."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal, TypeAlias

from inpars.errors import ConfigError, PromptError
from inpars.options import FlagGroup, check, option
from inpars.prompts.load import load_prompt, read_examples
from inpars.prompts.mixture import PromptMixture, PromptSource, mixture_parts
from inpars.prompts.templates import Example, Prompt, PromptChoice

ExamplesChoice: TypeAlias = Literal["all", "random", "nearest"]
DEFAULT_COUNT = 3  # of `random` and `nearest`; `all` shows all


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleOptions:
    """The source of the examples, and how each document's examples are chosen."""

    FLAG_GROUP: ClassVar = FlagGroup("examples in the prompt", advanced=True)

    examples: Path | None = option(
        None, help="JSON lines with `document` and `query` to use instead of the prompt's examples"
    )
    examples_choice: ExamplesChoice = option(
        "all", help="which examples each document gets: all, random, or its nearest by BM25"
    )
    num_examples: int | None = option(
        None, help=f"examples in a prompt (default: all; random and nearest {DEFAULT_COUNT})", minimum=1
    )
    max_example_words: int = option(200, help="maximum words per example document", minimum=1)


def named_prompt(text: str, options: ExampleOptions, seed: int = 0) -> PromptSource:
    """`choose_prompt` of a name or a path, or of each part of a mixture, `claim:0.5,keywords:0.5` for instance."""
    parts = mixture_parts(text)
    if parts is None:
        return choose_prompt(load_prompt(text), options, seed)
    prompts = tuple((choose_prompt(load_prompt(name), options, seed), share) for name, share in parts)
    return PromptMixture(prompts, seed)


def choose_prompt(prompt: Prompt, options: ExampleOptions, seed: int = 0) -> Prompt | PromptChoice:
    """The prompt with the examples the options name, chosen for each document where they say so.

    Raises PromptError for a prompt that is made for examples and has none, ConfigError where there are too few.
    """
    check(options)
    pool = _cut_examples(options) if options.examples else prompt.examples
    if not pool:
        _refuse_without_examples(prompt, options)
    count = options.num_examples
    if count is not None and count > len(pool):
        raise ConfigError(f"--num-examples is {count}, but there are {len(pool)} examples; give more with --examples")
    if options.examples_choice == "all":
        return prompt.with_examples(pool[:count])
    choice = PromptChoice(prompt, pool, options.examples_choice, min(count or DEFAULT_COUNT, len(pool)), seed)
    choice.longest()  # a form that cannot show examples says so now
    return choice


def _cut_examples(options: ExampleOptions) -> tuple[Example, ...]:
    if options.examples is None:
        return ()
    beginning = re.compile(rf"\s*(?:\S+\s*){{0,{options.max_example_words}}}")
    examples = read_examples(options.examples)
    if not examples:
        raise PromptError(f"{options.examples}: no examples in this file; write some, one JSON object a line")
    return tuple(replace(example, document=_first(beginning, example.document)) for example in examples)


def _first(beginning: re.Pattern[str], text: str) -> str:
    match = beginning.match(text)
    return match[0].strip() if match else text


def _refuse_without_examples(prompt: Prompt, options: ExampleOptions) -> None:
    where = prompt.source or f"prompt {prompt.name!r}"
    if prompt.wants_examples:
        raise PromptError(
            f"{where}: made to be filled with a collection's own examples and has none; "
            "give some with --examples FILE (JSON lines with document and query)"
        )
    if options.examples_choice != "all":
        raise PromptError(f"{where}: no examples to choose from; give some with --examples FILE")
