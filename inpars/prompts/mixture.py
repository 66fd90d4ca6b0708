"""Several prompts, each used for a share of the documents: `claim:0.5,keywords:0.3,inpars:0.2`.

A document's prompt depends on the seed and its id only, not on order, shards or other documents.
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

KEYS = 2.0**64  # number of values of `sampling_key`


@dataclass(frozen=True)
class PromptMixture:
    """Prompts with their shares, which sum to 1. Raises PromptError for equal names or different stop strings."""

    parts: tuple[tuple[Prompt | PromptChoice, float], ...]
    seed: int = 0

    def __post_init__(self) -> None:
        names = [part.name for part, _ in self.parts]
        if duplicate := next((name for name in names if names.count(name) > 1), None):
            raise PromptError(f"the mixture names prompt {duplicate!r} twice; give it once with the sum of the weights")
        if len({part.longest().stop for part, _ in self.parts}) > 1:
            raise PromptError(
                f"the prompts of the mixture ({', '.join(names)}) have different `stop` strings; give them one"
            )

    @cached_property
    def name(self) -> str:
        """Names and shares of the prompts."""
        return ",".join(f"{part.name}:{share:.4g}" for part, share in self.parts)

    @cached_property
    def text(self) -> str:
        """Everything that affects the model's input, as one string to hash."""
        parts = [[part.name, part.text, share] for part, share in self.parts]
        return json.dumps({"parts": parts, "seed": self.seed}, ensure_ascii=False, sort_keys=True)

    @property
    def examples(self) -> tuple[Example, ...]:
        """The examples of all prompts."""
        return tuple(example for part, _ in self.parts for example in part.examples)

    def part_of(self, doc_id: str) -> Prompt | PromptChoice:
        """The prompt for a document."""
        point, total = sampling_key(self.seed, f"prompt of {doc_id}") / KEYS, 0.0
        for part, share in self.parts:
            total += share
            if point < total:
                return part
        return self.parts[-1][0]

    def name_for(self, doc_id: str) -> str:
        """The name of the prompt for a document."""
        return self.part_of(doc_id).name

    def for_document(self, document: Document) -> Prompt:
        """The prompt for a document, with its examples."""
        return self.part_of(document.doc_id).for_document(document)

    def longest(self) -> Prompt:
        """The longest prompt, for length checks."""
        return max((part.longest() for part, _ in self.parts), key=lambda prompt: len(prompt.render("")))

    def stop_position(self, generated: str) -> int:
        """Position of the first stop string; all prompts have the same ones."""
        return self.parts[0][0].stop_position(generated)


PromptSource = Prompt | PromptChoice | PromptMixture
"""One prompt for all documents, one with examples chosen per document, or a mixture of prompts."""


def parts_of(prompt: PromptSource) -> dict[str, Prompt | PromptChoice]:
    """The prompts of a mixture by name; otherwise the one prompt."""
    return {part.name: part for part, _ in prompt.parts} if isinstance(prompt, PromptMixture) else {prompt.name: prompt}


def prompt_named(prompt: PromptSource, name: str) -> Prompt | PromptChoice:
    """The mixture's prompt of this name, as stored with a query; a prompt that is no mixture is returned as is.

    Raises PromptError if the mixture has no such prompt.
    """
    if not isinstance(prompt, PromptMixture):
        return prompt
    if (part := parts_of(prompt).get(name)) is None:
        raise PromptError(f"the mixture {prompt.name} has no prompt {name!r}; use the --prompt it was written with")
    return part


def example_prompt_of(prompt: PromptSource) -> Prompt | None:
    """The prompt whose examples query likelihood uses: of a mixture the one with the largest share.

    None if its examples vary per document.
    """
    if isinstance(prompt, PromptMixture):
        prompt, _ = max(prompt.parts, key=lambda part: part[1])
    return prompt if isinstance(prompt, Prompt) else None


def mixture_parts(text: str) -> list[tuple[str, float]] | None:
    """Parse `claim:0.5,keywords:0.5` to names and shares; None for a single name or path. Raises PromptError."""
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
