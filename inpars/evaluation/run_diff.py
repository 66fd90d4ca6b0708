"""The queries that gained and lost most between two systems, with the top results of both."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from inpars.records import Qrels

SHOWN_CHARACTERS = 300


@dataclass(frozen=True, slots=True)
class Change:
    """One query's value of a measure, before and after."""

    query_id: str
    baseline: float
    system: float

    @property
    def difference(self) -> float:
        """Above 0 if the system gained."""
        return self.system - self.baseline


@dataclass(frozen=True, slots=True)
class ShownDocument:
    """A document as it is displayed; relevance is None if unjudged, the text is empty if unknown."""

    doc_id: str
    relevance: int | None
    text: str


@dataclass(frozen=True, slots=True)
class ShownChange:
    """A change with the query's words and the first documents of both systems."""

    change: Change
    query: str
    baseline_first: tuple[ShownDocument, ...]
    system_first: tuple[ShownDocument, ...]


def most_changed(
    baseline: Mapping[str, float], system: Mapping[str, float], count: int
) -> tuple[list[Change], list[Change]]:
    """The `count` largest gains and losses, largest first, ties by query_id; unchanged queries are left out."""
    changes = [Change(query_id, value, system[query_id]) for query_id, value in baseline.items()]
    gains = sorted((c for c in changes if c.difference > 0), key=lambda c: (-c.difference, c.query_id))
    losses = sorted((c for c in changes if c.difference < 0), key=lambda c: (c.difference, c.query_id))
    return gains[:count], losses[:count]


def show(
    changes: Sequence[Change],
    firsts: tuple[Mapping[str, Sequence[str]], Mapping[str, Sequence[str]]],
    qrels: Qrels,
    query_text: Callable[[str], str],
    document_text: Callable[[str], str],
) -> list[ShownChange]:
    """Add texts to the changes; `firsts` are the top doc_ids per query, of the baseline and of the system."""

    def documents(query_id: str, ranked: Mapping[str, Sequence[str]]) -> tuple[ShownDocument, ...]:
        grades = qrels.get(query_id, {})
        return tuple(
            ShownDocument(doc_id, grades.get(doc_id), document_text(doc_id)[:SHOWN_CHARACTERS])
            for doc_id in ranked.get(query_id, ())
        )

    return [
        ShownChange(
            change,
            query_text(change.query_id),
            documents(change.query_id, firsts[0]),
            documents(change.query_id, firsts[1]),
        )
        for change in changes
    ]
