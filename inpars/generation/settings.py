"""Settings and helpers shared by all generators. Importing it loads no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from inpars.batches import slices
from inpars.errors import ConfigError
from inpars.models.compute_options import ComputingOptions
from inpars.prompts.mixture import PromptSource
from inpars.records import Document


@dataclass(frozen=True, slots=True)
class DecodingSettings:
    """Limits in tokens, sampling, and the batch size (None: chosen for the device)."""

    max_doc_tokens: int = 256
    max_new_tokens: int = 64
    num_queries: int = 1
    temperature: float = 0.0  # 0: greedy
    top_p: float = 1.0
    seed: int = 0
    batch_size: int | None = None

    def check(self) -> None:
        """Raise ConfigError with all invalid settings."""
        problems = []
        if self.num_queries < 1:
            problems.append(f"--num-queries is {self.num_queries}; it must be at least 1")
        if self.temperature < 0:
            problems.append(f"--temperature is {self.temperature}; it must not be negative")
        if not 0 < self.top_p <= 1:
            problems.append(f"--top-p is {self.top_p}; it must be above 0 and at most 1")
        if self.num_queries > 1 and self.temperature == 0:
            problems.append(
                "several queries per document would all be the same; give --temperature 1 with --num-queries"
            )
        if problems:
            raise ConfigError(problems)


def chunks_by_length(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Positions in chunks of similar length, shortest first."""
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    return [list(chunk) for chunk in slices(order, size)]


def query_ids(documents: Sequence[Document], num_queries: int) -> list[str]:
    """Ids of the queries to generate, document by document; sampling depends on them."""
    return [f"{document.doc_id}-q{number}" for document in documents for number in range(num_queries)]


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A local model with prompt, decoding settings and device."""

    model: str
    prompt: PromptSource
    settings: DecodingSettings
    computing: ComputingOptions
