"""Reads triples and groups them into training examples. Loads no torch."""

from __future__ import annotations

import itertools
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
HEADERS = (("query", "positive", "negative"), ("anchor", "positive", "negative"), ("query", "pos", "neg"))


@dataclass(frozen=True, slots=True)
class Group:
    """A query with its positive and its negatives, or with all positives, best first, and their grades."""

    query: str
    positive: str
    negatives: tuple[str, ...]
    more: tuple[str, ...] = ()  # further positives
    grades: tuple[int, ...] = (1,)  # of `positive`, then of `more`

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """(query, document) with the positives first."""
        return [(self.query, document) for document in (self.positive, *self.more, *self.negatives)]

    @property
    def labels(self) -> list[float]:
        """The grade of each pair; 0 for a negative."""
        return [*map(float, self.grades), *(0.0 for _ in self.negatives)]


def read_triple_texts(path: Path, limit: int | None = None) -> list[TripleTexts]:
    """The triples of a file, at most `limit`. Raises DataFormatError, and ConfigError for no triples or ids alone."""
    rows = list(itertools.islice(stream_triple_texts(path), limit))
    if not rows:
        raise ConfigError(f"{path}: there are no triples to train on")
    texts = (text for row in rows for text in (row.query, row.positive, row.negative))
    if path.name.endswith(".ids.tsv") or all(map(str.isdecimal, texts)):
        raise ConfigError(f"{path} holds ids of queries and documents; give the triples of their texts")
    return rows


def stream_triple_texts(path: Path) -> Iterator[TripleTexts]:
    """Stream the triples of a file. Raises DataFormatError for a line without 3 columns."""
    for number, line in read_lines(path):
        fields = line.split("\t")
        if number == 1 and tuple(field.strip().lower() for field in fields) in HEADERS:
            continue
        if len(fields) != 3 or not all(field.strip() for field in fields):
            raise DataFormatError(
                "a triple has 3 tab-separated texts: query, positive, negative", path=path, line=number, excerpt=line
            )
        yield TripleTexts(*fields)


def grouped(rows: Iterable[TripleTexts]) -> list[Group]:
    """Group triples by query and positive, in order of first appearance."""
    negatives: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        negatives.setdefault((row.query, row.positive), []).append(row.negative)
    return [Group(query, positive, tuple(texts)) for (query, positive), texts in negatives.items()]


def listed(rows: Iterable[TripleTexts], grades: Grades) -> list[Group]:
    """Group triples by query: positives by descending grade, then negatives, each text once.

    The default grade is 1. A query's positives are never among its negatives.
    """
    positives: dict[str, dict[str, int]] = {}
    negatives: dict[str, dict[str, None]] = {}
    for row in rows:
        positives.setdefault(row.query, {})[row.positive] = grades.get((row.query, row.positive), 1)
        negatives.setdefault(row.query, {})[row.negative] = None
    groups = []
    for query, graded in positives.items():
        best, *others = sorted(graded, key=graded.__getitem__, reverse=True)  # stable: ties keep their order
        hard_negatives = tuple(text for text in negatives[query] if text not in graded)
        ordered_grades = tuple(graded[text] for text in (best, *others))
        groups.append(Group(query, best, hard_negatives, tuple(others), ordered_grades))
    return groups


def pairs_once(rows: Iterable[TripleTexts]) -> list[TripleTexts]:
    """The first triple per query and positive, for training without negatives."""
    return list({(row.query, row.positive): row for row in reversed(list(rows))}.values())[::-1]


def batches_of(count: int, size: int) -> int:
    """Number of batches of at most `size` examples."""
    return -(-count // size)
