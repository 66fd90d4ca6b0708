"""Which worked examples a document's prompt shows: all of a file, some at random, or those most like the document.

Examples near to the document and drawn anew for each give more varied and better queries than one fixed set. Knows
nothing of models. Promptagator (arXiv 2209.11755); choice by BM25: Rubin et al. (arXiv 2112.08633), Robertson and
Zaragoza 2009 for BM25 itself.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeAlias

from inpars.errors import ConfigError, PromptError
from inpars.options import check, option
from inpars.prompting.prompts import read_examples
from inpars.prompting.templates import Example, Prompt, PromptSource
from inpars.records import Document
from inpars.text.hashing import sampling_key
from inpars.text.words import words

ExamplesChoice: TypeAlias = Literal["all", "random", "nearest"]
DEFAULT_COUNT = 3  # of `random` and `nearest`; `all` shows all
K1, B = 0.9, 0.4  # BM25's constants as Anserini has them
COMPARED_WORDS = 30  # texts that begin with the same words are the same


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleOptions:
    """Where the examples come from and which of them a document is shown."""

    examples: Path | None = option(
        None, help="JSON lines with `document` and `query`, shown instead of the prompt's own examples"
    )
    examples_choice: ExamplesChoice = option(
        "all", help="all in their order; random: drawn for each document; nearest: most like the document by BM25"
    )
    num_examples: int | None = option(
        None, help=f"examples in a prompt (default: all; random and nearest {DEFAULT_COUNT})", minimum=1
    )
    max_example_words: int = option(200, help="words of a document of --examples that are shown", minimum=1)


def choose_prompt(prompt: Prompt, options: ExampleOptions, seed: int = 0) -> PromptSource:
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


@dataclass(frozen=True)
class PromptChoice:
    """A prompt whose examples differ from document to document; never a document's own example."""

    prompt: Prompt
    examples: tuple[Example, ...]
    how: Literal["random", "nearest"]
    count: int
    seed: int = 0

    @property
    def name(self) -> str:
        """The prompt's name with the choice, `inpars+nearest3` for instance."""
        return f"{self.prompt.name}+{self.how}{self.count}"

    @cached_property
    def text(self) -> str:
        """Everything that decides what a model is shown, to be hashed."""
        examples = [asdict(example) for example in self.examples]
        values = {"prompt": self.prompt.text, "examples": examples, "how": self.how, "count": self.count}
        return json.dumps({**values, "seed": self.seed}, ensure_ascii=False, sort_keys=True)

    def for_document(self, document: Document) -> Prompt:
        """The prompt with this document's examples; the likest stands last, next to the document."""
        positions = [n for n, example in enumerate(self.examples) if not _is_own(example, document)]
        if self.how == "random":
            positions.sort(key=lambda n: sampling_key(self.seed, f"{document.doc_id}\0{n}"))
        else:
            scores = self._ranking.scores(document.full_text)
            positions.sort(key=lambda n: (-scores[n], n))
        return self.prompt.with_examples(self.examples[n] for n in reversed(positions[: self.count]))

    def longest(self) -> Prompt:
        """The prompt with the longest examples, for checks of room."""
        by_length = sorted(self.examples, key=lambda example: -len(example.document))
        return self.prompt.with_examples(by_length[: self.count])

    def stop_position(self, generated: str) -> int:
        """Where the first stop string begins; the length where there is none."""
        return self.prompt.stop_position(generated)

    @cached_property
    def _ranking(self) -> BM25Scores:
        return BM25Scores([words(example.document) for example in self.examples])


class BM25Scores:
    """BM25 over a few texts, in memory."""

    def __init__(self, texts: Sequence[Sequence[str]]) -> None:
        self._size = len(texts)
        mean = sum(map(len, texts)) / max(1, len(texts))
        self._weights: dict[str, list[tuple[int, float]]] = {}  # word -> (text, weight)
        for number, text in enumerate(texts):
            norm = K1 * (1 - B + B * len(text) / mean) if mean else K1
            for word, count in Counter(text).items():
                self._weights.setdefault(word, []).append((number, count / (count + norm)))

    def scores(self, query: str) -> list[float]:
        """Each text's score; every distinct word of the query counts once, as queries here are whole documents."""
        found = [0.0] * self._size
        for word in sorted(set(words(query))):
            holders = self._weights.get(word, ())
            idf = math.log1p((self._size - len(holders) + 0.5) / (len(holders) + 0.5))
            for number, weight in holders:
                found[number] += idf * weight
        return found


def _cut_examples(options: ExampleOptions) -> tuple[Example, ...]:
    if options.examples is None:
        return ()
    shown = re.compile(rf"\s*(?:\S+\s*){{0,{options.max_example_words}}}")
    found = read_examples(options.examples)
    if not found:
        raise PromptError(f"{options.examples}: no examples in this file; write some, one JSON object a line")
    return tuple(replace(example, document=_first(shown, example.document)) for example in found)


def _first(shown: re.Pattern[str], text: str) -> str:
    found = shown.match(text)
    return found[0].strip() if found else text


def _refuse_without_examples(prompt: Prompt, options: ExampleOptions) -> None:
    where = prompt.source or f"prompt {prompt.name!r}"
    if prompt.wants_examples:
        raise PromptError(
            f"{where}: made to be filled with a collection's own examples and has none; "
            "give some with --examples FILE (JSON lines with document and query)"
        )
    if options.examples_choice != "all":
        raise PromptError(f"{where}: no examples to choose from; give some with --examples FILE")


def _is_own(example: Example, document: Document) -> bool:
    """Whether the example was made from this very document."""
    if example.doc_id and example.doc_id == document.doc_id:
        return True
    start = example.document.split()[:COMPARED_WORDS]
    return start in (document.text.split()[:COMPARED_WORDS], document.full_text.split()[:COMPARED_WORDS])
