"""The items that formats are read into and written from: the package's records, and some that only toolkits have.

Independent of any one format. Missing ids are made from the text, so equal texts get equal ids in every file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any, TypeAlias

from inpars.records import Document, Qrel, Query, ScoredDocument, SyntheticQuery, Triple

ID_BYTES = 8


@dataclass(frozen=True, slots=True)
class Negative:
    """A negative document, its source, rank and scores if known."""

    document: Document
    source: str = ""
    rank: int | None = None
    score: float | None = None
    reranker_score: float | None = None


@dataclass(frozen=True, slots=True)
class Example:
    """A query, a positive and the negatives drawn for the pair."""

    query: Query
    positive: Document
    negatives: tuple[Negative, ...] = ()
    positive_score: float | None = None
    positive_reranker_score: float | None = None
    grade: int = 1  # of the positive

    @property
    def distinct_negatives(self) -> tuple[Negative, ...]:
        """Each negative document once, as its first source has it."""
        return distinct(self.negatives)


@dataclass(frozen=True, slots=True)
class Margin:
    """A reranker's score of the positive minus that of the negative (GPL's pseudo label)."""

    triple: Triple
    value: float


@dataclass(frozen=True, slots=True)
class JudgedQuery:
    """A judgement and its split."""

    qrel: Qrel
    split: str = "train"


@dataclass(frozen=True, slots=True)
class Synthetic:
    """A synthetic query, its document if the file has the text, and the other toolkit's fields."""

    query: SyntheticQuery
    document: Document | None = None
    others: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Labelled:
    """One labelled document of a query, whose labels may be scattered over the file."""

    query: Query
    document: Document
    grade: int


@dataclass(frozen=True, slots=True)
class Skipped:
    """A marker that a part of the input was dropped, with the reason."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unkept:
    """A marker that a part of a record, for example a field, was not kept."""

    what: str


Item: TypeAlias = (
    Document
    | Query
    | JudgedQuery
    | ScoredDocument
    | Triple
    | Example
    | Margin
    | Synthetic
    | Labelled
    | Skipped
    | Unkept
)


@dataclass(frozen=True, slots=True)
class Group:
    """A query with all its neighbouring positives and negatives, each document once."""

    query: Query
    positives: tuple[Document, ...]
    negatives: tuple[Negative, ...]
    positive_scores: tuple[float | None, ...]  # the reranker's, one per positive
    grades: tuple[int, ...]  # of the positives


def distinct(negatives: Iterable[Negative]) -> tuple[Negative, ...]:
    """The first negative of each document."""
    first: dict[str, Negative] = {}
    for negative in negatives:
        first.setdefault(negative.document.doc_id, negative)
    return tuple(first.values())


def grouped(examples: Iterable[Example]) -> Iterator[Group]:
    """Merge neighbouring examples of one query."""
    for query, neighbours in groupby(examples, key=lambda example: example.query):
        together = list(neighbours)
        scores = {example.positive: example.positive_reranker_score for example in together}
        grades = {example.positive: example.grade for example in together}
        negatives = distinct(negative for example in together for negative in example.negatives)
        yield Group(query, tuple(scores), negatives, tuple(scores.values()), tuple(grades.values()))


def of_labels(query: Query, labels: Iterable[tuple[Document, int]]) -> Iterator[Item]:
    """The judgements of one labelled query, and one example per positive (label above 0) with all negatives.

    If a document has several labels, the first counts.
    """
    grades: dict[Document, int] = {}
    for document, grade in labels:
        if document in grades:
            same = grades[document] == grade
            yield Skipped("repeated_label" if same else "other_label_after_the_first")
        grades.setdefault(document, grade)
    positives = tuple(document for document, grade in grades.items() if grade > 0)
    negatives = tuple(Negative(document) for document, grade in grades.items() if grade <= 0)
    for document in positives:
        yield JudgedQuery(Qrel(query.query_id, document.doc_id, grades[document]))
    for item in examples_of(query, positives, negatives):
        yield replace(item, grade=grades[item.positive]) if isinstance(item, Example) else item


def examples_of(
    query: Query,
    positives: Sequence[Document],
    negatives: Sequence[Negative],
    positive_scores: Sequence[float | None] | None = None,
) -> Iterator[Item]:
    """One example per distinct positive with all negatives; for a query without positives its texts and a `Skipped`.

    Documents listed as positives are dropped from the negatives.
    """
    scores: dict[str, tuple[Document, float | None]] = {}
    for document, score in zip(positives, positive_scores or [None] * len(positives), strict=True):
        if document.doc_id in scores:
            yield Skipped("repeated_positive")
        scores.setdefault(document.doc_id, (document, score))
    usable = tuple(negative for negative in negatives if negative.document.doc_id not in scores)
    for _ in range(len(negatives) - len(usable)):
        yield Skipped("positive_as_negative")
    for document, score in scores.values():
        yield Example(query, document, usable, positive_reranker_score=score)
    if not scores:
        yield query
        yield from (negative.document for negative in negatives)
        yield Skipped("no_positive")


def made_id(kind: str, text: str) -> str:
    """An id for a text without one: `d-` or `q-` and 16 hexadecimal digits of the text's hash."""
    return f"{kind}-{hashlib.blake2b(text.encode(), digest_size=ID_BYTES).hexdigest()}"


def document_of(text: str) -> Document:
    """A document with an id made from its text."""
    return Document(made_id("d", text), text)


def query_of(text: str) -> Query:
    """A query with an id made from its text."""
    return Query(made_id("q", text), text)
