"""What the engine gives back: hits, extracts and answers. Frozen; offsets are characters of `document.text`.

Knows nothing of models. Texts are as the documents have them: whoever shows them on a page escapes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from inpars.records import Document

AnswerKind: TypeAlias = Literal["extractive", "generated"]
"""Words of a document as they stand, or a text that a language model wrote from several."""

NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Span:
    """Characters `start` up to, not including, `end` of a document's text."""

    start: int
    end: int

    def of(self, text: str) -> str:
        return text[self.start : self.end]


@dataclass(frozen=True, slots=True)
class Hit:
    """One document that was found.

    `score` orders the hits of one query and means nothing across queries. `scores` holds what each part said of the
    document (`bm25`, `dense`, `base`, `maxsim`, `reranker`), without those that did not find it, and `ranks` where each
    part has it, from 1. `spans` are the query's words in `document.text`, in order, without overlap.
    """

    document: Document
    score: float
    scores: Mapping[str, float] = field(default_factory=dict)
    spans: tuple[Span, ...] = ()
    ranks: Mapping[str, int] = field(default_factory=dict)

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What ingestion knew of the document: source, page, headings, offsets; empty where it knew nothing."""
        return self.document.metadata


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, or that there is none: then `answered` is False, `text` empty and `reason` says why.

    `sources` are the retrieved hits that could be used; their numbers are their places, from 1. `cited` are the
    numbers of those the answer rests on. An extractive answer is `span` of the text of the source it cites; `score`
    is the reader's, comparable for one reader only, and None for generated answers. `method` names the model that
    answered and how. `closest` says that the text is only the sentence closest to the question, which no model read.
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
    alternatives: tuple[Answer, ...] = field(default=(), repr=False)

    @property
    def source(self) -> Hit | None:
        """The first hit the answer rests on."""
        return self.sources[self.cited[0] - 1] if self.cited else None
