"""Documents and queries with the word weights of a sparse retriever, as search engines take them.

OpenSearch and Elasticsearch: bodies of the bulk API with a `rank_features` or `sparse_vector` field, and queries that
can be sent. Qdrant: points with a named sparse vector. Lucene keeps 9 significant bits: a weight changes by up to 0.4%.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from inpars.batches import chunks
from inpars.contrib.interchange.source import Layout, Source, Written
from inpars.io.formats import document_record
from inpars.io.storage import atomic_writer, write_jsonl

if TYPE_CHECKING:
    from inpars.retrieval.sparse import Encoder

Weights: TypeAlias = Sequence[tuple[int, float]]  # columns of the vocabulary, and what they count
FIELD = "sparse"
TOGETHER = 512  # texts
INDEX, DOCUMENTS, QUERIES = "index.json", "documents.jsonl", "queries.jsonl"
ROWS_OF_DOCUMENT = 2  # of the bulk API
ENGINES: dict[str, tuple[str, Callable[[dict[str, float]], dict[str, Any]]]] = {  # kind of field, query for it
    "opensearch": ("rank_features", lambda tokens: {"neural_sparse": {FIELD: {"query_tokens": tokens}}}),
    "elasticsearch": (
        "sparse_vector",
        lambda tokens: {"sparse_vector": {"field": FIELD, "query_vector": tokens, "prune": False}},
    ),
}


def write_bulk(source: Source, folder: Path, layout: Layout, written: Written, *, engine: str) -> None:
    """Bodies of the bulk API of OpenSearch or Elasticsearch, and queries that can be sent."""
    encoder = _encoder(source)
    kind, query_of = ENGINES[engine]

    def rows() -> Iterator[dict[str, Any]]:
        for document, weights in _weighed(source.documents(), lambda one: one.full_text, encoder.encode_documents):
            record = document_record(document)
            yield {"index": {"_id": record.pop("_id")}}
            yield {**record, FIELD: _by_word(weights, encoder)}

    def queries() -> Iterator[dict[str, Any]]:
        for query, weights in _weighed(source.queries(), lambda one: one.text, encoder.encode_queries):
            yield {"query_id": query.query_id, "query": query_of(_by_word(weights, encoder))}

    texts = {name: {"type": "text"} for name in ("title", "text")}
    _write_object(folder / INDEX, {"mappings": {"properties": {**texts, FIELD: {"type": kind}}}})
    _write_rows(source, folder, written, rows(), queries, ROWS_OF_DOCUMENT)


def write_qdrant(source: Source, folder: Path, layout: Layout, written: Written) -> None:
    """Points, whose ids are UUIDs of ours; ours is in the payload."""
    encoder = _encoder(source)

    def points() -> Iterator[dict[str, Any]]:
        for document, weights in _weighed(source.documents(), lambda one: one.full_text, encoder.encode_documents):
            record = document_record(document)
            payload = {"doc_id": record.pop("_id"), **record, **dict(document.metadata)}
            identity = str(uuid.uuid5(uuid.NAMESPACE_URL, document.doc_id))
            yield {"id": identity, "vector": {FIELD: _columns(weights)}, "payload": payload}

    def queries() -> Iterator[dict[str, Any]]:
        for query, weights in _weighed(source.queries(), lambda one: one.text, encoder.encode_queries):
            yield {"query_id": query.query_id, "query": _columns(weights), "using": FIELD, "with_payload": True}

    _write_object(folder / INDEX, {"sparse_vectors": {FIELD: {}}})
    _write_rows(source, folder, written, points(), queries, 1)


def _encoder(source: Source) -> Encoder:
    from inpars.retrieval.sparse import Encoder  # torch

    return Encoder(source.needed_retriever())


def _weighed(
    items: Iterable[Any], text_of: Callable[[Any], str], encode: Callable[..., Any]
) -> Iterator[tuple[Any, Weights]]:
    """Each item with the weights of its words that are above 0."""
    for part in chunks(items, TOGETHER):
        matrix = encode([text_of(item) for item in part])
        matrix.sort_indices()
        for row, item in enumerate(part):
            entries = slice(*matrix.indptr[row : row + 2])
            yield item, list(zip(matrix.indices[entries].tolist(), matrix.data[entries].tolist(), strict=True))


def _columns(weights: Weights) -> dict[str, Any]:
    return {"indices": [column for column, _ in weights], "values": [weight for _, weight in weights]}


def _by_word(weights: Weights, encoder: Encoder) -> dict[str, float]:
    """Weights by word; a word with a dot, which the field refuses, goes by its number in the vocabulary."""
    columns = [column for column, _ in weights]
    names = [
        f"#{column}" if "." in word else word for column, word in zip(columns, encoder.words(columns), strict=True)
    ]
    return dict(zip(names, (weight for _, weight in weights), strict=True))


def _write_rows(
    source: Source,
    folder: Path,
    written: Written,
    rows: Iterable[dict[str, Any]],
    queries: Callable[[], Iterable[dict[str, Any]]],
    rows_of_document: int,
) -> None:
    """The documents, and the queries where there are some."""
    written.counts[DOCUMENTS] = write_jsonl(folder / DOCUMENTS, rows) // rows_of_document
    if source.has_queries:
        written.counts[QUERIES] = write_jsonl(folder / QUERIES, queries())


def _write_object(path: Path, value: dict[str, Any]) -> None:
    with atomic_writer(path) as stream:
        json.dump(value, stream, indent=1)
        stream.write("\n")
