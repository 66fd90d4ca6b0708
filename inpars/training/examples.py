"""Training examples from a file of triples. Knows nothing of models; importing it loads no torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

from inpars.errors import ConfigError, DataFormatError
from inpars.io.storage import read_lines


@dataclass(frozen=True, slots=True)
class TripleTexts:
    """One line of `triples.tsv`."""

    query: str
    positive: str
    negative: str


Grades: TypeAlias = Mapping[tuple[str, str], int]
"""(query, positive) -> grade."""
NO_GRADES: Grades = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Group:
    """A query with its positive and all of its negatives, or with all positives, the best first, and their grades."""

    query: str
    positive: str
    negatives: tuple[str, ...]
    more: tuple[str, ...] = ()  # further positives
    grades: tuple[int, ...] = (1,)  # of the positive and of these

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """(query, document) with the positives first."""
        return [(self.query, document) for document in (self.positive, *self.more, *self.negatives)]

    @property
    def labels(self) -> list[float]:
        """The grade of each of the pairs; 0 for a negative."""
        return [*map(float, self.grades), *(0.0 for _ in self.negatives)]


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
    return [Group(query, positive, tuple(texts)) for (query, positive), texts in negatives.items()]


def listed(rows: Iterable[TripleTexts], grades: Grades) -> list[Group]:
    """Triples of the same query as one list: its positives by their grades, then all negatives, each text once.

    A positive without a grade has 1. What is a positive of the query is none of its negatives.
    """
    positives: dict[str, dict[str, int]] = {}
    negatives: dict[str, dict[str, None]] = {}
    for row in rows:
        positives.setdefault(row.query, {})[row.positive] = grades.get((row.query, row.positive), 1)
        negatives.setdefault(row.query, {})[row.negative] = None
    groups = []
    for query, known in positives.items():
        (best, first), *others = sorted(known.items(), key=lambda entry: -entry[1])  # equals in their order
        hard_negatives = tuple(text for text in negatives[query] if text not in known)
        groups.append(
            Group(query, best, hard_negatives, tuple(text for text, _ in others), (first, *(g for _, g in others)))
        )
    return groups


def pairs_once(rows: Iterable[TripleTexts]) -> list[TripleTexts]:
    """The first triple of every query and positive, for a training that does not use the negatives."""
    return list({(row.query, row.positive): row for row in reversed(list(rows))}.values())[::-1]


def batches_of(count: int, size: int) -> int:
    """Batches of `size` examples."""
    return -(-count // size)
