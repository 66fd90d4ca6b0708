"""Who writes queries: one protocol, one module a kind of model. Importing this package loads no torch."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from inpars.records import Document, FinishReason, LogProbKind


@dataclass(frozen=True, slots=True)
class GeneratedQuery:
    """One query with the log-probabilities of its kept tokens, as `SyntheticQuery` defines them."""

    text: str
    token_ids: tuple[int, ...]
    token_log_probs: tuple[float, ...]
    stop_log_prob: float | None
    finish_reason: FinishReason
    log_prob_kind: LogProbKind | None = None  # where it differs from the generator's


class QueryGenerator(Protocol):
    """Writes queries for documents. What it writes for a chunk depends on that chunk alone."""

    name: str
    log_prob_kind: LogProbKind
    device: str  # for manifests

    def plan(self, documents: Sequence[Document]) -> list[list[int]]:
        """Positions of the documents in chunks that are generated and stored as wholes, in order."""

    def generate(self, documents: Sequence[Document]) -> list[list[GeneratedQuery]]:
        """The queries of each document of one chunk."""


@runtime_checkable
class ConcurrentGenerator(Protocol):
    """A generator that can write for several chunks at the same time."""

    def generate_each(self, chunks: Iterable[Sequence[Document]]) -> Iterator[list[list[GeneratedQuery]]]:
        """The queries of each chunk, in order; chunks are taken as there is room for them."""


def generate_each(
    generator: QueryGenerator, chunks: Iterable[Sequence[Document]]
) -> Generator[list[list[GeneratedQuery]]]:
    """What a generator writes for each chunk, in order, as fast as it can; closed, it ends what is under way."""
    yield from (
        generator.generate_each(chunks)
        if isinstance(generator, ConcurrentGenerator)
        else map(generator.generate, chunks)
    )


@runtime_checkable
class PaidGenerator(Protocol):
    """A generator that costs money and holds files open."""

    def status(self) -> str:
        """What it cost so far and what failed, for those who watch."""

    def results(self) -> Mapping[str, Any]:
        """The same for the manifest."""

    def skipped(self, items: Sequence[Any]) -> None:
        """Documents, or pairs, that an earlier run is done with; only what there is to say of them is wanted."""

    def notes(self) -> list[str]:
        """Remarks about the queries, printed at the end, one per line."""

    def close(self) -> None:
        """End what is under way, keeping what is answered."""
