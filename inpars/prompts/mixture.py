"""Several prompts, each for its share of the documents: `claim:0.5,keywords:0.3,inpars:0.2`.

Which prompt a document gets depends on the seed and its id alone, not on order, shards or other documents.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from inpars.errors import PromptError
from inpars.prompts.templates import Example, Prompt, PromptChoice
from inpars.records import Document
from inpars.text.hashing import sampling_key

KEYS = 2.0**64  # of `sampling_key`


@dataclass(frozen=True)
class PromptMixture:
    """Prompts with their shares of the documents, which add up to 1. Raises PromptError for two of one name or stop."""

    parts: tuple[tuple[Prompt | PromptChoice, float], ...]
    seed: int = 0

    def __post_init__(self) -> None:
        names = [part.name for part, _ in self.parts]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise PromptError(f"the mixture names prompt {twice!r} twice; give it once with the sum of the weights")
        if len({part.longest().stop for part, _ in self.parts}) > 1:
            raise PromptError(
                f"the prompts of the mixture ({', '.join(names)}) have different `stop` strings; give them one"
            )

    @cached_property
    def name(self) -> str:
        """The prompts' names with their shares."""
        return ",".join(f"{part.name}:{share:.4g}" for part, share in self.parts)

    @cached_property
    def text(self) -> str:
        """Everything that decides what a model is shown, to be hashed."""
        parts = [[part.name, part.text, share] for part, share in self.parts]
        return json.dumps({"parts": parts, "seed": self.seed}, ensure_ascii=False, sort_keys=True)

    @property
    def examples(self) -> tuple[Example, ...]:
        """Those of all prompts."""
        return tuple(example for part, _ in self.parts for example in part.examples)

    @property
    def main(self) -> Prompt | PromptChoice:
        """The prompt with the largest share, the first of equals."""
        return max(self.parts, key=lambda part: part[1])[0]

    def part_of(self, doc_id: str) -> Prompt | PromptChoice:
        """The prompt of a document."""
        point, total = sampling_key(self.seed, f"prompt of {doc_id}") / KEYS, 0.0
        for part, share in self.parts:
            total += share
            if point < total:
                return part
        return self.parts[-1][0]

    def name_for(self, doc_id: str) -> str:
        """The name of the document's prompt."""
        return self.part_of(doc_id).name

    def form_of(self, doc_id: str) -> Prompt:
        """A prompt that reads replies as the document's does."""
        return self.part_of(doc_id).longest()

    def for_document(self, document: Document) -> Prompt:
        """The document's prompt."""
        return self.part_of(document.doc_id).for_document(document)

    def longest(self) -> Prompt:
        """The longest prompt, for checks of room."""
        return max((part.longest() for part, _ in self.parts), key=lambda prompt: len(prompt.render("")))

    def stop_position(self, generated: str) -> int:
        """Where the first stop string begins, the same for all prompts."""
        return self.parts[0][0].stop_position(generated)


PromptSource = Prompt | PromptChoice | PromptMixture
"""What gives each document its prompt: one for all, one with examples chosen for each, or one of several."""


def parts_of(prompt: PromptSource) -> dict[str, Prompt | PromptChoice]:
    """The prompts by name that documents get: those of a mixture, else the one."""
    return {part.name: part for part, _ in prompt.parts} if isinstance(prompt, PromptMixture) else {prompt.name: prompt}


def prompt_named(prompt: PromptSource, name: str) -> PromptSource:
    """The prompt of a mixture that a query was written with, by the name in its record; any other prompt as it is.

    Raises PromptError for a name that the mixture lacks.
    """
    if not isinstance(prompt, PromptMixture):
        return prompt
    found = parts_of(prompt).get(name)
    if found is None:
        raise PromptError(
            f"the mixture {prompt.name} has no prompt {name!r}; give --prompt the one it was written with"
        )
    return found


def example_prompt_of(prompt: PromptSource) -> Prompt | None:
    """The prompt whose examples a query likelihood is shown: the same for all documents, of a mixture its main one."""
    main = prompt.main if isinstance(prompt, PromptMixture) else prompt
    return main if isinstance(main, Prompt) else None


def mixture_parts(text: str) -> list[tuple[str, float]] | None:
    """Names and shares of `claim:0.5,keywords:0.5`; None for the name or path of one prompt. Raises PromptError."""
    if "," not in text or Path(text).is_file():
        return None
    weighted = [_part(part.strip(), text) for part in text.split(",")]
    total = math.fsum(weight for _, weight in weighted)
    return [(name, weight / total) for name, weight in weighted]


def _part(part: str, text: str) -> tuple[str, float]:
    name, _, weight = part.rpartition(":")
    try:
        value = float(weight)
    except ValueError:
        value = math.nan
    if not (name and math.isfinite(value) and value > 0):
        raise PromptError(f"--prompt {text}: {part!r} has no weight above 0; write NAME:WEIGHT, claim:0.5,keywords:0.5")
    return name, value
