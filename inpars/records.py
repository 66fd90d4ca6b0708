"""What flows between the stages: small frozen records whose ids are always `str`.

Knows nothing of files, models or stages.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

LogProbKind: TypeAlias = Literal["raw", "processed", "absent"]
FinishReason: TypeAlias = Literal["stop", "length", "error"]
PEOPLE = "people"  # the `model` of queries that no model wrote
ABOVE_THE_TEXT = ("title", "heading", "faq")  # the `prompt` of those that may stand above their document's text
HIGHEST_EXPONENT = 600.0  # of e, whose sum over a query is still a number; no log-probability is above 0

Run: TypeAlias = dict[str, dict[str, float]]
"""query_id -> doc_id -> score. Order inside is not trusted: `inpars.io.runs.rank` decides."""

Qrels: TypeAlias = dict[str, dict[str, int]]
"""query_id -> doc_id -> relevance grade; above 0 is relevant unless a measure says otherwise."""


@dataclass(frozen=True, slots=True)
class Document:
    """One retrievable passage.

    `metadata` is BEIR's: what a collection tells about its documents. What `inpars ingest` puts there is listed in
    `inpars.documents.chunks`.
    """

    doc_id: str
    text: str
    title: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def full_text(self) -> str:
        """Title and text joined by a blank, as BM25 and the encoders see the document."""
        return f"{self.title} {self.text}".strip() if self.title else self.text


class FullText(str):
    """A document's title and text in one, which still knows the title, so that windows of it can have it too."""

    heading = ""  # `title` is a method of every str

    @classmethod
    def of(cls, document: Document) -> FullText:
        """The document's `full_text`."""
        text = cls(document.full_text)
        text.heading = document.title
        return text

    def parts(self) -> Document:
        """Title and text as a document without an id."""
        return Document("", self[len(self.heading) :].lstrip(), self.heading)


@dataclass(frozen=True, slots=True)
class Query:
    """One information need in a searcher's words."""

    query_id: str
    text: str


@dataclass(frozen=True, slots=True)
class SyntheticQuery:
    """A query a model, or people, wrote for a document.

    `token_log_probs` are natural logs under the model's raw distribution, one for each kept token of `text`;
    `stop_log_prob` is the value of the token that ended it, None where the length limit did. `log_prob_kind`
    says `absent` where the generator gave none. `token_ids` are the kept tokens in the model's vocabulary, empty where
    unknown. `grades` are those of all documents that answer it, where these are several or not of grade 1; `doc_id` is
    one of the best.
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
        """Grade by document of all that answer it."""
        return self.grades or {self.doc_id: 1}

    @property
    def by_people(self) -> bool:
        """Whether people wrote it, so that it has no log-probabilities to be ranked by."""
        return self.model == PEOPLE

    @property
    def may_stand_above(self) -> bool:
        """Whether it is of a kind that may be its document's own title or heading."""
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
    """A query, a document that answers it and one that should not."""

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
