"""The engine's results: hits and answers. Offsets are characters of `document.text`.

Texts are not escaped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from inpars.records import Document

AnswerKind: TypeAlias = Literal["extractive", "generated"]
"""Quoted from a document, or written by a language model from several."""

NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Span:
    """Characters `start` to `end` (exclusive) of a document's text."""

    start: int
    end: int

    def of(self, text: str) -> str:
        return text[self.start : self.end]


@dataclass(frozen=True, slots=True)
class Hit:
    """One retrieved document.

    `score` orders the hits of one query and is not comparable across queries. `scores` and `ranks` (from 1) are those
    of each part of the system that found the document (`bm25`, `dense`, `base`, `maxsim`, `reranker`). `spans` are the
    query's words in `document.text`, in order, without overlap.
    """

    document: Document
    score: float
    scores: Mapping[str, float] = field(default_factory=dict)
    spans: tuple[Span, ...] = ()
    ranks: Mapping[str, int] = field(default_factory=dict)

    @property
    def metadata(self) -> Mapping[str, Any]:
        """Source, page, headings and offsets, as far as ingestion knew them."""
        return self.document.metadata


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer; without one, `answered` is False, `text` is empty and `reason` says why.

    `sources` are the retrieved hits, numbered from 1; `cited` are the numbers of those that support the answer. An
    extractive answer is `span` of the cited source's text; its `score` is the reader's, comparable for one reader only;
    generated answers have none. `method` names the model and how it answered. `closest`: the text is only the sentence
    closest to the question, and no reader judged it.
    """

    question: str
    kind: AnswerKind
    answered: bool
    text: str
    method: str
    score: float | None = None
    span: Span | None = None
    cited: tuple[int, ...] = ()
    sources: tuple[Hit, ...] = ()
    reason: str = ""
    closest: bool = False

    @property
    def source(self) -> Hit | None:
        """The first cited hit."""
        return self.sources[self.cited[0] - 1] if self.cited else None
