"""Query generation: the generator protocols; each kind of model has its own module. Importing it loads no torch."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from inpars.records import Document, FinishReason, LogProbKind


@dataclass(frozen=True, slots=True)
class GeneratedQuery:
    """One query with its tokens' log-probabilities, as defined in `SyntheticQuery`."""

    text: str
    token_ids: tuple[int, ...]
    token_log_probs: tuple[float, ...]
    stop_log_prob: float | None
    finish_reason: FinishReason
    log_prob_kind: LogProbKind | None = None  # if it differs from the generator's


class QueryGenerator(Protocol):
    """Generates queries for documents, each chunk independently of the others."""

    name: str
    log_prob_kind: LogProbKind
    device: str  # for manifests

    def plan(self, documents: Sequence[Document]) -> list[list[int]]:
        """Positions of the documents in chunks; each chunk is generated and stored as a whole, in this order."""

    def generate(self, documents: Sequence[Document]) -> list[list[GeneratedQuery]]:
        """The queries of each document of one chunk."""


@runtime_checkable
class ReportingGenerator(Protocol):
    """A generator that reports documents as they finish, before their chunk does."""

    on_finished: Callable[[int], None] | None  # receives their number


@runtime_checkable
class ConcurrentGenerator(Protocol):
    """A generator that can process several chunks at the same time."""

    def generate_each(self, chunks: Iterable[Sequence[Document]]) -> Iterator[list[list[GeneratedQuery]]]:
        """The queries of each chunk, in order; chunks are consumed as capacity allows."""


def generate_each(
    generator: QueryGenerator, chunks: Iterable[Sequence[Document]]
) -> Generator[list[list[GeneratedQuery]]]:
    """The queries of each chunk, in order, concurrently if the generator can; closing cancels running work."""
    yield from (
        generator.generate_each(chunks)
        if isinstance(generator, ConcurrentGenerator)
        else map(generator.generate, chunks)
    )


@runtime_checkable
class PaidGenerator(Protocol):
    """A generator that costs money and holds files open."""

    def status(self) -> str:
        """Cost and failures so far, for the progress line."""

    def results(self) -> Mapping[str, Any]:
        """Cost and remarks for the manifest."""

    def skipped(self, items: Sequence[Any]) -> None:
        """Include documents, or pairs, that an earlier run finished in the notes."""

    def notes(self) -> list[str]:
        """Remarks about the queries, printed at the end, one per line."""

    def close(self) -> None:
        """Wait for running requests; answers are kept."""
