"""Requests and responses of every endpoint as pydantic models, which the OpenAPI documentation shows.

Embeddings follow OpenAI's format, reranking Jina's and Cohere's; search, answers and votes have our own. `hit_row` and
`answer_row` convert hits and answers, for HTTP and for agents.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator
from pydantic_core import PydanticCustomError

from inpars.apps.qa.records import Answer, Hit, Span
from inpars.apps.qa.sentences import snippet
from inpars.apps.serve import dialects
from inpars.records import Document

MAX_QUERY_CHARACTERS = 4000
MAX_K = 100
MAX_FILTERS = 8
MAX_DIMENSIONS = 65536

QueryText = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_QUERY_CHARACTERS),
    Field(examples=["who"]),
]
Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]
FilterValue = Annotated[str, StringConstraints(min_length=1, max_length=500)]
Filters = Annotated[dict[Name, FilterValue], Field(max_length=MAX_FILTERS)]
SNIPPET = 420  # characters

Row: TypeAlias = dict[str, Any]
"""A JSON object."""


class Wire(BaseModel):
    """Strict types: no numbers from strings or strings from numbers."""

    model_config = ConfigDict(strict=True, protected_namespaces=())


class RequestBody(Wire):
    """A request: accepts other servers' names for its fields, and refuses unknown fields."""

    dialect: ClassVar[dialects.Dialect] = dialects.OURS

    @model_validator(mode="before")
    @classmethod
    def _translate(cls, body: Any) -> Any:  # noqa: ANN401  a JSON value
        return dialects.translated(body, cls.model_fields, cls.dialect) if isinstance(body, dict) else body


class EmbeddingsRequest(RequestBody):
    """OpenAI's request; `input_type` is our addition."""

    dialect = dialects.EMBEDDINGS
    input: (
        Annotated[str, StringConstraints(min_length=1)]
        | Annotated[list[Annotated[str, StringConstraints(min_length=1)]], Field(min_length=1)]
    ) = Field(description="One text or several, not token ids, which belong to another model's vocabulary.")
    model: str | None = Field(None, max_length=500, description="A system with a bi-encoder, or its model's name.")
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(None, ge=1, le=MAX_DIMENSIONS, description="Dimensions to keep, normalised again.")
    input_type: Literal["document", "query"] = Field("document", description="Which of the model's prompts to use.")
    user: str | None = Field(None, max_length=500)

    @field_validator("input", mode="before")
    @classmethod
    def _refuse_token_ids(cls, value: Any) -> Any:  # noqa: ANN401  a JSON value
        if isinstance(value, list) and any(isinstance(item, int | list) for item in value):
            raise PydanticCustomError("token_ids", "token ids are another model's; send the texts themselves")
        return value


class Embedding(Wire):
    """One vector."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str = Field(description="Numbers, or base64 of little-endian float32.")


class Usage(Wire):
    """Input tokens."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsResponse(Wire):
    """OpenAI's response."""

    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: Usage


class RerankDocument(Wire):
    """A document with a title or other fields."""

    model_config = ConfigDict(extra="allow")
    text: str
    title: str | None = None

    @property
    def full_text(self) -> str:
        """The model's input: the title, if any, before the text."""
        return Document("", self.text, self.title or "").full_text


class RerankRequest(RequestBody):
    """Jina's and Cohere's request; other servers' names for its fields (`texts`, `top_k`) are accepted too."""

    dialect = dialects.RERANK
    query: QueryText
    documents: list[str | RerankDocument] = Field(min_length=1)
    model: str | None = Field(None, max_length=500)
    top_n: int | None = Field(None, ge=1)
    return_documents: bool = False
    raw_scores: bool = Field(False, description="Return the model's margin as relevance_score too.")


class RerankResult(Wire):
    """One document; `relevance_score` is the logistic function of `score`, the model's margin."""

    index: int
    relevance_score: float
    score: float
    document: dict[str, Any] | None = None


class RerankResponse(Wire):
    """Best first."""

    model: str
    results: list[RerankResult]
    usage: Usage


class SearchRequest(RequestBody):
    """A query, the system to search with, and filters."""

    dialect = dialects.SEARCH
    query: QueryText
    k: int = Field(10, ge=1, le=MAX_K)
    system: Name | None = Field(None, description="A system of /v1/collection; the best by default.")
    filters: Filters = Field(default_factory=dict, description="Metadata that hits must have; * matches any text.")


class SpanOut(Wire):
    """A range of characters (Unicode code points) in a text."""

    start: int
    end: int


class HitOut(Wire):
    """A retrieved document."""

    doc_id: str
    title: str
    text: str
    score: float | None
    scores: dict[str, float | None] = Field(description="The score from each part of the system.")
    ranks: dict[str, int] = Field(description="The rank in each part of the system, from 1.")
    spans: list[SpanOut] = Field(description="The query's words in the text.")
    snippet: SpanOut = Field(description="The whole sentences of the text with most of the query's words.")
    metadata: dict[str, Any]
    file: bool = Field(description="Whether GET /file?doc_id=ID returns its source file.")


class SearchResponse(Wire):
    """Best first."""

    query: str
    system: str
    hits: list[HitOut]
    took_ms: float


class AskRequest(RequestBody):
    """A question."""

    question: QueryText
    kind: Literal["extractive", "generated"] = "extractive"
    k: int = Field(5, ge=1, le=20, description="Passages to answer from.")
    system: Name | None = None
    filters: Filters = Field(default_factory=dict)


class AnswerOut(Wire):
    """An answer from the sources alone, or the reason why there is none."""

    question: str
    kind: str
    answered: bool
    text: str
    reason: str
    method: str
    score: float | None
    closest: bool = Field(description="The text is only the sentence closest to the question; no reader judged it.")
    span: SpanOut | None = Field(description="The position of an extractive answer in the first cited source.")
    cited: list[int] = Field(description="Numbers of the sources that support it, from 1.")
    sources: list[HitOut]
    took_ms: float


class Vote(RequestBody):
    """A judgement: 1 relevant, 0 not relevant, null takes an earlier vote back."""

    query: QueryText
    doc_id: Annotated[str, StringConstraints(min_length=1, max_length=1000)]
    relevance: Literal[0, 1] | None
    system: Name | None = None
    rank: int | None = Field(None, ge=1, le=MAX_K)


class SystemOut(Wire):
    """A system to search with."""

    name: str
    description: str
    default: bool


class Collection(Wire):
    """The documents served, and the features available."""

    documents: int
    systems: list[SystemOut]
    answers: list[str] = Field(description="Available kinds of answers.")
    closest: bool = Field(description="Extractive answers are only the sentences closest to the question.")
    fields: dict[str, dict[str, int]] = Field(
        description="Metadata to filter by: the most common values with their document counts."
    )
    counted: int = Field(description="Documents counted for `fields`.")
    examples: list[str] = Field(description="Queries to try.")
    reranker: str | None
    feedback: bool
    notes: list[str]


class FaultBody(Wire):
    """OpenAI's error object."""

    message: str
    type: str
    code: str
    param: str | None = None


class Fault(Wire):
    """OpenAI's error response."""

    error: FaultBody


def hit_row(hit: Hit, quoted: Span | None = None) -> Row:
    """A `wire.HitOut` without `file`; the snippet surrounds the text that an answer quotes, if any."""
    spans = hit.spans if quoted is None else (quoted,)
    return {
        "doc_id": hit.document.doc_id,
        "title": hit.document.title,
        "text": hit.document.text,
        "score": hit.score,
        "scores": dict(hit.scores),
        "ranks": dict(hit.ranks),
        "spans": [asdict(span) for span in hit.spans],
        "snippet": asdict(snippet(hit.document.text, spans, SNIPPET)),
        "metadata": dict(hit.metadata),
    }


def answer_row(answer: Answer) -> Row:
    """A `wire.AnswerOut` without its time."""
    quoted = dict.fromkeys(answer.cited, answer.span)
    row = asdict(replace(answer, sources=()))
    return row | {"sources": [hit_row(hit, quoted.get(number)) for number, hit in enumerate(answer.sources, start=1)]}
