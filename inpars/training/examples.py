"""Training examples from a file of triples. Knows nothing of models; importing it loads no torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from inpars.errors import ConfigError, DataFormatError
from inpars.storage import read_lines


@dataclass(frozen=True, slots=True)
class TripleTexts:
    """One line of `triples.tsv`."""

    query: str
    positive: str
    negative: str


@dataclass(frozen=True, slots=True)
class Group:
    """A query with its positive and all of its negatives."""

    query: str
    positive: str
    negatives: tuple[str, ...]

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """(query, document) with the positive first."""
        return [(self.query, document) for document in (self.positive, *self.negatives)]


def read_triple_texts(path: Path) -> list[TripleTexts]:
    """All lines of a file of triples. Raises DataFormatError for what has not three columns, ConfigError for none."""
    rows = list(stream_triple_texts(path))
    if not rows:
        raise ConfigError(f"{path}: there are no triples to train on")
    return rows


def stream_triple_texts(path: Path) -> Iterator[TripleTexts]:
    """The lines of a file of triples, one after the other. Raises DataFormatError for what has not three columns."""
    for number, line in read_lines(path):
        fields = line.split("\t")
        if len(fields) != 3 or not all(field.strip() for field in fields):
            raise DataFormatError(
                "a triple has 3 tab-separated texts: query, positive, negative", path=path, line=number, excerpt=line
            )
        yield TripleTexts(*fields)


def grouped(rows: Iterable[TripleTexts]) -> list[Group]:
    """Triples of the same query and positive taken together, in the order of their first lines."""
    negatives: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        negatives.setdefault((row.query, row.positive), []).append(row.negative)
    return [Group(query, positive, tuple(found)) for (query, positive), found in negatives.items()]


def pairs_once(rows: Iterable[TripleTexts]) -> list[TripleTexts]:
    """The first triple of every query and positive, for a training that does not use the negatives."""
    return list({(row.query, row.positive): row for row in reversed(list(rows))}.values())[::-1]


def batches_of(count: int, size: int) -> int:
    """Batches that hold so many examples."""
    return -(-count // size)


def limited(rows: Sequence[TripleTexts], limit: int | None) -> Sequence[TripleTexts]:
    """The first `limit` rows."""
    return rows if limit is None else rows[:limit]
