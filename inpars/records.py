"""The records that stages exchange: small frozen dataclasses whose ids are always `str`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

LogProbKind: TypeAlias = Literal["raw", "processed", "absent"]
FinishReason: TypeAlias = Literal["stop", "length", "error"]
PEOPLE = "people"  # `model` of queries written by people
ABOVE_THE_TEXT = ("title", "heading", "faq")  # `prompt` of people's queries that may be their document's heading
HIGHEST_EXPONENT = 600.0  # avoids overflow of exp for invalid log-probs above 0

Run: TypeAlias = dict[str, dict[str, float]]
"""query_id -> doc_id -> score. The order is arbitrary: `inpars.io.runs.rank` sorts."""

Qrels: TypeAlias = dict[str, dict[str, int]]
"""query_id -> doc_id -> relevance grade; above 0 is relevant unless a measure says otherwise."""


@dataclass(frozen=True, slots=True)
class Document:
    """One retrievable passage.

    `metadata` is BEIR's field; `inpars.documents.chunks` lists what `inpars ingest` writes to it.
    """

    doc_id: str
    text: str
    title: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def full_text(self) -> str:
        """Title and text joined by a space, as BM25 and the encoders read the document."""
        return f"{self.title} {self.text}".strip() if self.title else self.text


class FullText(str):
    """A document's title and text in one string that remembers the title, for windows of long documents."""

    heading = ""  # `title` is a method of every str

    @classmethod
    def of(cls, document: Document) -> FullText:
        """The document's `full_text`."""
        text = cls(document.full_text)
        text.heading = document.title
        return text

    def parts(self) -> Document:
        """A document with title and text, without an id."""
        return Document("", self[len(self.heading) :].lstrip(), self.heading)


@dataclass(frozen=True, slots=True)
class Query:
    """One information need in a searcher's words."""

    query_id: str
    text: str


@dataclass(frozen=True, slots=True)
class SyntheticQuery:
    """A query that a model or a person wrote for a document.

    `token_log_probs` are natural logs under the model's raw distribution, one per kept token of `text`; `stop_log_prob`
    is that of the token that ended it, None if it reached the length limit. `log_prob_kind` is `absent` if the
    generator returned none. `token_ids` are the kept tokens in the model's vocabulary, empty if unknown. `grades` are
    those of all relevant documents, if there are several or the grade is not 1; `doc_id` is one of the best.
    """

    query_id: str
    doc_id: str
    text: str
    token_log_probs: tuple[float, ...]
    stop_log_prob: float | None
    finish_reason: FinishReason
    log_prob_kind: LogProbKind
    prompt: str
    model: str
    token_ids: tuple[int, ...] = ()
    grades: Mapping[str, int] = field(default_factory=dict, hash=False)

    @property
    def positives(self) -> Mapping[str, int]:
        """Grade per relevant document."""
        return self.grades or {self.doc_id: 1}

    @property
    def by_people(self) -> bool:
        """Whether people wrote it, so that it has no log-probs."""
        return self.model == PEOPLE

    @property
    def may_stand_above(self) -> bool:
        """Whether it may be its document's title or heading."""
        return self.by_people and self.prompt in ABOVE_THE_TEXT

    @property
    def sum_log_probs(self) -> float:
        """Sum of the token log-probabilities; -inf for an empty query."""
        return math.fsum(self.token_log_probs) if self.token_log_probs else -math.inf

    @property
    def mean_log_probs(self) -> float:
        """Mean of the token log-probabilities; -inf for an empty query."""
        return self.sum_log_probs / len(self.token_log_probs) if self.token_log_probs else -math.inf

    @property
    def mean_probs(self) -> float:
        """Mean of the token probabilities; -inf for an empty query, so that it sorts last like the others."""
        if not self.token_log_probs:
            return -math.inf
        probs = (math.exp(min(value, HIGHEST_EXPONENT)) for value in self.token_log_probs)
        return math.fsum(probs) / len(self.token_log_probs)


@dataclass(frozen=True, slots=True)
class Triple:
    """A query, a relevant document and one assumed not relevant."""

    query_id: str
    positive_doc_id: str
    negative_doc_id: str


@dataclass(frozen=True, slots=True)
class ScoredDocument:
    """One line of a run."""

    query_id: str
    doc_id: str
    score: float


@dataclass(frozen=True, slots=True)
class Qrel:
    """One relevance judgement."""

    query_id: str
    doc_id: str
    relevance: int
