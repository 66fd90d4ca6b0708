"""The endpoints' work without HTTP: each request goes to the engine through a batcher shared by all clients."""

from __future__ import annotations

import base64
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from inpars.apps.qa.engine import MAX_DOCUMENTS, Engine
from inpars.apps.qa.records import Answer, AnswerKind, Hit
from inpars.apps.serve import wire
from inpars.apps.serve.batcher import Batcher, one_thread
from inpars.apps.serve.feedback import Feedback
from inpars.apps.serve.metrics import Metrics
from inpars.apps.serve.options import ServeOptions
from inpars.apps.serve.source_files import SourceFiles
from inpars.apps.serve.wire import Row, answer_row, hit_row
from inpars.errors import ConfigError, DataFormatError, UnknownNameError
from inpars.protocols import TextEncoder
from inpars.records import Document

CountTokens: TypeAlias = Callable[[str, Sequence[str]], Sequence[int]]
"""(model, texts) -> tokens per text; called from one thread."""
SearchKey: TypeAlias = tuple[str, int, tuple[tuple[str, str], ...]]
EmbedKey: TypeAlias = tuple[str, Literal["document", "query"]]
Embedded: TypeAlias = tuple[npt.NDArray[np.float32], int]
Question: TypeAlias = tuple[str, Sequence[Hit], AnswerKind]

WARM_UP_QUERY = "which words warm a model"
MAX_VALUES = 200  # per field
USUAL_FIELDS = ("source", "headings")


class Service:
    """Search, answers, embeddings and reranking for many clients at once."""

    def __init__(
        self,
        engine: Engine,
        *,
        options: ServeOptions | None = None,
        feedback: Feedback | None = None,
        fields: Mapping[str, Mapping[str, int]] | None = None,
        examples: Sequence[str] = (),
        files: SourceFiles | None = None,
        count_tokens: CountTokens | None = None,
    ) -> None:
        """`fields` are the metadata to filter by, `examples` queries to try; `count_tokens` defaults to words."""
        self.engine, self.metrics, self.feedback = engine, Metrics(), feedback
        self.fields = {name: dict(values) for name, values in (fields or {}).items()}
        self.examples, self.files = list(examples), files
        self.options, self._count_tokens = options or ServeOptions(), count_tokens or _words
        observed: dict[str, Any] = {"observe": lambda name, items: self.metrics.batches.labels(name).observe(items)}
        common = observed | {
            "max_items": self.options.max_batch,
            "wait_seconds": self.options.batch_wait_ms / 1000,
            "thread": one_thread("models"),
        }
        self._searches: Batcher[SearchKey, str, list[Hit]] = Batcher("search", self._search, **common)
        self._embeds: Batcher[EmbedKey, str, Embedded] = Batcher("embed", self._embed, **common)
        self._reranks: Batcher[None, tuple[str, str], tuple[float, int]] = Batcher("rerank", self._rerank, **common)
        # generated answers take seconds: searches must not wait for them
        self._answers: Batcher[None, Question, Answer] = Batcher(
            "ask", self._answer, max_items=1, wait_seconds=0.0, **observed
        )

    def warm(self) -> None:
        """Run every model once, so that the first client does not wait for its set-up."""
        for name in self.engine.systems:
            self.engine.search([WARM_UP_QUERY], 1, system=name)
        for name in self.engine.encoders:
            self._embed((name, "document"), [WARM_UP_QUERY])

    async def close(self) -> None:
        for batcher in (self._searches, self._embeds, self._reranks, self._answers):
            await batcher.close()

    async def search(self, request: wire.SearchRequest) -> Row:
        """A `wire.SearchResponse`."""
        started = time.perf_counter()
        system = request.system or self.engine.default_system
        hits = await self._hits(request.query, request.k, system, request.filters)
        return {
            "query": request.query,
            "system": system,
            "hits": [hit_row(hit) | self._file_of(hit) for hit in hits],
            "took_ms": _milliseconds_since(started),
        }

    async def ask(self, request: wire.AskRequest) -> Row:
        """A `wire.AnswerOut`."""
        started = time.perf_counter()
        if request.kind not in self.answers():
            raise ConfigError(f"this server gives no {request.kind} answers; see /v1/collection")
        system = request.system or self.engine.default_system
        hits = await self._hits(request.question, request.k, system, request.filters)
        [answer] = await self._answers.submit(None, [(request.question, hits, request.kind)])
        row = answer_row(answer)
        sources = [source | self._file_of(hit) for source, hit in zip(row["sources"], answer.sources, strict=True)]
        return row | {"sources": sources, "took_ms": _milliseconds_since(started)}

    async def embeddings(self, request: wire.EmbeddingsRequest) -> Row:
        """A `wire.EmbeddingsResponse`."""
        texts = [request.input] if isinstance(request.input, str) else request.input
        self._check_count(len(texts), "input")
        name, encoder = self._encoder(request.model)
        encoded = await self._embeds.submit((name, request.input_type), texts)
        vectors = [_truncated(vector, request.dimensions) for vector, _ in encoded]
        as_base64 = request.encoding_format == "base64"
        data = [
            {"object": "embedding", "index": index, "embedding": _base64(vector) if as_base64 else vector.tolist()}
            for index, vector in enumerate(vectors)
        ]
        return {"object": "list", "data": data, "model": encoder.name, "usage": _usage(t for _, t in encoded)}

    async def rerank(self, request: wire.RerankRequest) -> Row:
        """A `wire.RerankResponse`."""
        scorer = self.engine.reranker
        if scorer is None:
            raise UnknownNameError("model", request.model or "", [], "this server has no reranker; see --reranker")
        if request.model not in (None, scorer.name, "reranker"):
            raise UnknownNameError("model", request.model or "", [scorer.name])
        self._check_count(len(request.documents), "documents")
        documents = [d if isinstance(d, str) else d.full_text for d in request.documents]
        scored = await self._reranks.submit(None, [(request.query, text) for text in documents])
        order = sorted(range(len(scored)), key=lambda index: (-scored[index][0], index))[: request.top_n]
        results: list[Row] = []
        for index in order:
            score, document = scored[index][0], request.documents[index]
            relevance = score if request.raw_scores else float(expit(score))
            results.append({"index": index, "relevance_score": relevance, "score": score})
            if request.return_documents:
                text = {"text": document} if isinstance(document, str) else document.model_dump(exclude_unset=True)
                results[-1]["document"] = text
        return {"model": scorer.name, "results": results, "usage": _usage(t for _, t in scored)}

    def answers(self) -> list[str]:
        kinds = {"extractive": self.engine.reader, "generated": self.engine.writer}
        return [kind for kind, part in kinds.items() if part is not None]

    def collection(self) -> Row:
        """A `wire.Collection`."""
        engine = self.engine
        systems = [
            {"name": name, "description": system.description, "default": name == engine.default_system}
            for name, system in engine.systems.items()
        ]
        return {
            "documents": len(engine.documents),
            "systems": systems,
            "answers": self.answers(),
            "closest": engine.reader is not None and engine.reader.closest,
            "fields": self.fields,
            "counted": min(len(engine.documents), MAX_DOCUMENTS),
            "examples": self.examples,
            "reranker": engine.reranker.name if engine.reranker else None,
            "feedback": self.feedback is not None,
            "notes": list(engine.notes),
        }

    def models(self) -> list[str]:
        """The models that /v1/embeddings and /v1/rerank accept."""
        reranker = [self.engine.reranker.name] if self.engine.reranker else []
        return list(dict.fromkeys([encoder.name for encoder in self.engine.encoders.values()] + reranker))

    def source_file(self, doc_id: str) -> Path:
        """The source file of a document. Raises UnknownNameError if it is not in the folder of --files."""
        path = self.files.path_of(self.document(doc_id)) if self.files is not None else None
        if path is None:
            raise UnknownNameError("file of", doc_id[:80], [], "it is not in the folder of --files")
        return path

    def _file_of(self, hit: Hit) -> Row:
        return {"file": self.files is not None and self.files.path_of(hit.document) is not None}

    def document(self, doc_id: str) -> Document:
        """Raises UnknownNameError for a document that is not in the collection."""
        try:
            return self.engine.documents[doc_id]
        except (KeyError, DataFormatError) as error:
            raise UnknownNameError("document", doc_id[:80], [], "it is not in this collection") from error

    async def _hits(self, query: str, k: int, system: str, filters: Mapping[str, str]) -> list[Hit]:
        [hits] = await self._searches.submit((system, k, tuple(sorted(filters.items()))), [query])
        return hits

    def _encoder(self, model: str | None) -> tuple[str, TextEncoder]:
        encoders = self.engine.encoders
        for name, encoder in encoders.items():
            if model in (None, name, encoder.name):
                return name, encoder
        raise UnknownNameError("model", model or "", {encoder.name for encoder in encoders.values()})

    def _check_count(self, count: int, field: str) -> None:
        if count > self.options.max_texts:
            raise ConfigError(f"{field}: {count} texts; at most {self.options.max_texts} go in one request")

    # run in the batchers' threads

    def _search(self, key: SearchKey, queries: Sequence[str]) -> list[list[Hit]]:
        system, k, filters = key
        return self.engine.search(queries, k, system=system, filters=dict(filters))

    def _embed(self, key: EmbedKey, texts: Sequence[str]) -> list[Embedded]:
        name, input_type = key
        encoder = self.engine.encoders[name]
        vectors = encoder.encode_queries(texts) if input_type == "query" else encoder.encode_documents(texts)
        return list(zip(vectors, self._count_tokens(encoder.name, texts), strict=True))

    def _rerank(self, _: None, pairs: Sequence[tuple[str, str]]) -> list[tuple[float, int]]:
        scorer = self.engine.reranker
        assert scorer is not None  # noqa: S101, RUF100 - checked by `rerank`
        queries = self._count_tokens(scorer.name, [query for query, _ in pairs])
        documents = self._count_tokens(scorer.name, [document for _, document in pairs])
        tokens = [query + document for query, document in zip(queries, documents, strict=True)]
        return list(zip(scorer.score(pairs), tokens, strict=True))

    def _answer(self, _: None, questions: Sequence[Question]) -> list[Answer]:
        return [self.engine.answer_from(question, hits, kind=kind) for question, hits, kind in questions]


def _words(_: str, texts: Sequence[str]) -> list[int]:
    return [len(text.split()) for text in texts]


def _truncated(vector: npt.NDArray[np.float32], dimensions: int | None) -> npt.NDArray[np.float32]:
    """The first dimensions, normalised again, as for Matryoshka models."""
    if dimensions is None or dimensions == len(vector):
        return vector
    if dimensions > len(vector):
        raise ConfigError(f"dimensions: {dimensions} requested, the model has {len(vector)}")
    head = vector[:dimensions]
    norm = float(np.linalg.norm(head))
    return head / np.float32(norm) if norm else head


def _base64(vector: npt.NDArray[np.float32]) -> str:
    """OpenAI's encoding: little-endian float32."""
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()


def _usage(tokens: Iterable[int]) -> Row:
    total = sum(tokens)
    return {"prompt_tokens": total, "total_tokens": total}


def _milliseconds_since(started: float) -> float:
    """`started` is a value of `time.perf_counter`."""
    return round((time.perf_counter() - started) * 1000, 2)


def metadata_fields(documents: Iterable[Document]) -> dict[str, dict[str, int]]:
    """The metadata fields to filter by (source, headings, text that documents share): document counts per value.

    The most common values come first.
    """
    counts: dict[str, Counter[str]] = {}
    for document in islice(documents, MAX_DOCUMENTS):
        for name, value in getattr(document, "metadata", {}).items():
            values = value if isinstance(value, list) else [value]
            counts.setdefault(name, Counter()).update({text for text in values if isinstance(text, str) and text})
    return {
        name: dict(values.most_common(MAX_VALUES))
        for name, values in sorted(counts.items())
        if values and (name in USUAL_FIELDS or len(values) < values.total())
    }
