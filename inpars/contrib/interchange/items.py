"""What a format is read into and written from: the package's records, and the few that only other toolkits have.

Knows nothing of any one format. Where a format has no ids they are made from the text, so that equal texts get equal
ids in every file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, groupby
from typing import Any, TypeAlias

from inpars.records import Document, Qrel, Query, ScoredDocument, SyntheticQuery, Triple

ID_BYTES = 8


@dataclass(frozen=True, slots=True)
class Negative:
    """A document that should not answer, and what is known of how it was found."""

    document: Document
    source: str = ""
    rank: int | None = None
    score: float | None = None
    reranker_score: float | None = None


@dataclass(frozen=True, slots=True)
class Example:
    """A query, a document that answers it and the negatives drawn for the two."""

    query: Query
    positive: Document
    negatives: tuple[Negative, ...] = ()
    positive_score: float | None = None
    positive_reranker_score: float | None = None
    grade: int = 1  # of the positive

    @property
    def distinct_negatives(self) -> tuple[Negative, ...]:
        """Each negative document once, as the first of those who found it has it."""
        first: dict[str, Negative] = {}
        for negative in self.negatives:
            first.setdefault(negative.document.doc_id, negative)
        return tuple(first.values())


@dataclass(frozen=True, slots=True)
class Margin:
    """How much more a reranker gives to the positive than to the negative (GPL's pseudo label)."""

    triple: Triple
    value: float


@dataclass(frozen=True, slots=True)
class JudgedQuery:
    """A judgement and the split it belongs to."""

    qrel: Qrel
    split: str = "train"


@dataclass(frozen=True, slots=True)
class Synthetic:
    """A synthetic query, its document where the file has the text, and the fields that are not ours."""

    query: SyntheticQuery
    document: Document | None = None
    others: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Labelled:
    """One of the documents that a query has labels for; those of a query belong together, wherever they stand."""

    query: Query
    document: Document
    grade: int


@dataclass(frozen=True, slots=True)
class Skipped:
    """That something of the input goes nowhere, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unkept:
    """That a part of a record is not kept, a field for instance, though the record is."""

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
    positive_scores: tuple[float | None, ...]  # of the reranker, one a positive
    grades: tuple[int, ...]  # of the positives


def grouped(examples: Iterable[Example]) -> Iterator[Group]:
    """Neighbouring examples of one query taken together."""
    for _, neighbours in groupby(examples, key=lambda example: example.query):
        together = list(neighbours)
        scores = {example.positive: example.positive_reranker_score for example in together}
        everything = Example(together[0].query, together[0].positive, tuple(chain(*(e.negatives for e in together))))
        grades = tuple({example.positive: example.grade for example in together}.values())
        yield Group(everything.query, tuple(scores), everything.distinct_negatives, tuple(scores.values()), grades)


def of_labels(query: Query, labels: Iterable[tuple[Document, int]]) -> Iterator[Item]:
    """All that the labels of one query tell: its judgements, and every positive (above 0) with all negatives.

    Of several labels of one document the first counts.
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
    """Every positive once with all negatives; of a query without positives its texts, and that it is skipped.

    What is listed as a positive is no negative of its query.
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
    """An id for a text that has none: `d-` or `q-` and 16 hexadecimal digits of the text's hash."""
    return f"{kind}-{hashlib.blake2b(text.encode(), digest_size=ID_BYTES).hexdigest()}"


def document_of(text: str) -> Document:
    """A document that is only a text."""
    return Document(made_id("d", text), text)


def query_of(text: str) -> Query:
    """A query that is only a text."""
    return Query(made_id("q", text), text)
