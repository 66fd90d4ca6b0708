"""What goes over the wire: requests and responses of every endpoint, as pydantic models, and as the OpenAPI shows them.

Embeddings have OpenAI's shape, reranking Jina's and Cohere's; search, answers and votes are ours.
`hit_row` and `answer_row` make such rows of hits and answers, for HTTP and for agents. Knows no model.
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
"""A response as JSON has it."""


class Wire(BaseModel):
    """Whole numbers are not taken from texts, nor texts from numbers."""

    model_config = ConfigDict(strict=True, protected_namespaces=())


class RequestBody(Wire):
    """A request: other servers' names for its fields are taken, and a field that is not understood is refused."""

    dialect: ClassVar[dialects.Dialect] = dialects.OURS

    @model_validator(mode="before")
    @classmethod
    def _in_our_words(cls, body: Any) -> Any:  # noqa: ANN401  whatever JSON holds
        return dialects.translated(body, cls.model_fields, cls.dialect) if isinstance(body, dict) else body


class EmbeddingsRequest(RequestBody):
    """OpenAI's request; `input_type` is ours."""

    dialect = dialects.EMBEDDINGS
    input: (
        Annotated[str, StringConstraints(min_length=1)]
        | Annotated[list[Annotated[str, StringConstraints(min_length=1)]], Field(min_length=1)]
    ) = Field(description="One text or several; token ids are not taken, their vocabulary is another model's.")
    model: str | None = Field(None, max_length=500, description="A system that has a retriever, or its model's name.")
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(None, ge=1, le=MAX_DIMENSIONS, description="Keep the first so many, normalised.")
    input_type: Literal["document", "query"] = Field("document", description="Which of the model's prompts to put.")
    user: str | None = Field(None, max_length=500)

    @field_validator("input", mode="before")
    @classmethod
    def _texts_alone(cls, value: Any) -> Any:  # noqa: ANN401  whatever JSON holds
        if isinstance(value, list) and any(isinstance(each, int | list) for each in value):
            raise PydanticCustomError("token_ids", "token ids are another model's; send the texts themselves")
        return value


class Embedding(Wire):
    """One vector."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str = Field(description="Numbers, or base64 of little-endian float32.")


class Usage(Wire):
    """Tokens that were read."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsResponse(Wire):
    """OpenAI's response."""

    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: Usage


class RerankDocument(Wire):
    """A document that is more than its text."""

    model_config = ConfigDict(extra="allow")
    text: str
    title: str | None = None

    @property
    def full_text(self) -> str:
        """What is read: the title, where there is one, before the text."""
        return Document("", self.text, self.title or "").full_text


class RerankRequest(RequestBody):
    """Jina's and Cohere's request; `texts` and `top_k`, as others call two of its fields, are taken too."""

    dialect = dialects.RERANK
    query: QueryText
    documents: list[str | RerankDocument] = Field(min_length=1)
    model: str | None = Field(None, max_length=500)
    top_n: int | None = Field(None, ge=1)
    return_documents: bool = False
    raw_scores: bool = Field(False, description="Give the model's margin as relevance_score too.")


class RerankResult(Wire):
    """One document's place; `relevance_score` is the logistic function of `score`, the model's margin."""

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
    """A query, and with what and where to search."""

    dialect = dialects.SEARCH
    query: QueryText
    k: int = Field(10, ge=1, le=MAX_K)
    system: Name | None = Field(None, description="One of /v1/systems; the best by default.")
    filters: Filters = Field(default_factory=dict, description="Metadata that hits must have; * stands for anything.")


class SpanOut(Wire):
    """Characters (Unicode code points) of a text."""

    start: int
    end: int


class HitOut(Wire):
    """A document that was found."""

    doc_id: str
    title: str
    text: str
    score: float | None
    scores: dict[str, float | None] = Field(description="What each part of the system said of it.")
    ranks: dict[str, int] = Field(description="Where each part of the system has it, from 1.")
    spans: list[SpanOut] = Field(description="The query's words in the text.")
    snippet: SpanOut = Field(description="The whole sentences of the text with most of the query's words.")
    metadata: dict[str, Any]
    file: bool = Field(description="Whether GET /file?doc_id=ID gives the file that it was read from.")


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
    """An answer from the sources alone, or why there is none."""

    question: str
    kind: str
    answered: bool
    text: str
    reason: str
    method: str
    score: float | None
    closest: bool = Field(description="The text is the sentence closest to the question, which no model has read.")
    span: SpanOut | None = Field(description="Where an extractive answer stands in the first cited source.")
    cited: list[int] = Field(description="Places of the sources it rests on, from 1.")
    sources: list[HitOut]
    took_ms: float


class Vote(RequestBody):
    """A judgement: 1 is relevant, 0 is not, null takes an earlier one back."""

    query: QueryText
    doc_id: Annotated[str, StringConstraints(min_length=1, max_length=1000)]
    relevance: Literal[0, 1] | None
    system: Name | None = None
    rank: int | None = Field(None, ge=1, le=MAX_K)


class SystemOut(Wire):
    """A way to search."""

    name: str
    description: str
    default: bool


class Collection(Wire):
    """What is served."""

    documents: int
    systems: list[SystemOut]
    answers: list[str] = Field(description="Kinds of answers there are.")
    closest: bool = Field(description="Extractive answers are only the sentences closest to the question.")
    fields: dict[str, dict[str, int]] = Field(
        description="Metadata to filter by: the commonest values, each with the documents that have it."
    )
    counted: int = Field(description="Documents that were looked at for `fields`.")
    examples: list[str] = Field(description="Queries to try.")
    reranker: str | None
    feedback: bool
    notes: list[str]


class FaultBody(Wire):
    """What went wrong."""

    message: str
    type: str
    code: str
    param: str | None = None


class Fault(Wire):
    """OpenAI's shape of errors."""

    error: FaultBody


def hit_row(hit: Hit, quoted: Span | None = None) -> Row:
    """A hit, as `wire.HitOut`; the snippet is around what an answer quotes of it, if anything."""
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
    """An answer, as `wire.AnswerOut` without its time."""
    row = asdict(replace(answer, sources=(), alternatives=()))
    del row["alternatives"]
    quoted = dict.fromkeys(answer.cited, answer.span)
    return row | {"sources": [hit_row(hit, quoted.get(number)) for number, hit in enumerate(answer.sources, start=1)]}
