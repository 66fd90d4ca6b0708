"""Documents and queries with the word weights of a sparse retriever, in the formats of search engines.

OpenSearch and Elasticsearch: bodies of the bulk API with a `rank_features` or `sparse_vector` field, and query bodies.
Qdrant: points with a named sparse vector. Lucene keeps 9 significant bits: a weight changes by up to 0.4%.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from inpars.batches import chunks
from inpars.contrib.interchange.source import Layout, Source, Written
from inpars.io.formats import document_record
from inpars.io.storage import write_json, write_jsonl

if TYPE_CHECKING:
    from inpars.retrieval.sparse import Encoder

Weights: TypeAlias = Sequence[tuple[int, float]]  # column of the vocabulary, weight
FIELD = "sparse"
BATCH = 512  # texts
INDEX, DOCUMENTS, QUERIES = "index.json", "documents.jsonl", "queries.jsonl"
BULK_LINES = 2  # per document
ENGINES: dict[str, tuple[str, Callable[[dict[str, float]], dict[str, Any]]]] = {  # field type, query
    "opensearch": ("rank_features", lambda tokens: {"neural_sparse": {FIELD: {"query_tokens": tokens}}}),
    "elasticsearch": (
        "sparse_vector",
        lambda tokens: {"sparse_vector": {"field": FIELD, "query_vector": tokens, "prune": False}},
    ),
}


def write_bulk(source: Source, folder: Path, layout: Layout, written: Written, *, engine: str) -> None:
    """Bodies of the bulk API and query bodies for OpenSearch or Elasticsearch."""
    encoder = _encoder(source)
    kind, query_of = ENGINES[engine]

    def rows() -> Iterator[dict[str, Any]]:
        for document, weights in _weighted(source.documents(), lambda doc: doc.full_text, encoder.encode_documents):
            record = document_record(document)
            yield {"index": {"_id": record.pop("_id")}}
            yield {**record, FIELD: _by_word(weights, encoder)}

    def queries() -> Iterator[dict[str, Any]]:
        for query, weights in _weighted(source.queries(), lambda query: query.text, encoder.encode_queries):
            yield {"query_id": query.query_id, "query": query_of(_by_word(weights, encoder))}

    texts = {name: {"type": "text"} for name in ("title", "text")}
    write_json(folder / INDEX, {"mappings": {"properties": {**texts, FIELD: {"type": kind}}}})
    _write_rows(source, folder, written, rows(), queries, BULK_LINES)


def write_qdrant(source: Source, folder: Path, layout: Layout, written: Written) -> None:
    """Points with our ids in the payload, because Qdrant's are UUIDs; and queries."""
    encoder = _encoder(source)

    def points() -> Iterator[dict[str, Any]]:
        for document, weights in _weighted(source.documents(), lambda doc: doc.full_text, encoder.encode_documents):
            record = document_record(document)
            payload = {"doc_id": record.pop("_id"), **record, **dict(document.metadata)}
            point_id = str(uuid.uuid5(uuid.NAMESPACE_URL, document.doc_id))
            yield {"id": point_id, "vector": {FIELD: _columns(weights)}, "payload": payload}

    def queries() -> Iterator[dict[str, Any]]:
        for query, weights in _weighted(source.queries(), lambda query: query.text, encoder.encode_queries):
            yield {"query_id": query.query_id, "query": _columns(weights), "using": FIELD, "with_payload": True}

    write_json(folder / INDEX, {"sparse_vectors": {FIELD: {}}})
    _write_rows(source, folder, written, points(), queries, 1)


def _encoder(source: Source) -> Encoder:
    from inpars.retrieval.sparse import Encoder  # torch

    return Encoder(source.needed_retriever())


def _weighted(
    items: Iterable[Any], text_of: Callable[[Any], str], encode: Callable[..., Any]
) -> Iterator[tuple[Any, Weights]]:
    """Each item with its nonzero word weights."""
    for batch in chunks(items, BATCH):
        matrix = encode([text_of(item) for item in batch])
        matrix.sort_indices()
        for row, item in enumerate(batch):
            entries = slice(*matrix.indptr[row : row + 2])
            yield item, list(zip(matrix.indices[entries].tolist(), matrix.data[entries].tolist(), strict=True))


def _columns(weights: Weights) -> dict[str, Any]:
    return {"indices": [column for column, _ in weights], "values": [weight for _, weight in weights]}


def _by_word(weights: Weights, encoder: Encoder) -> dict[str, float]:
    """Weights by word; a word with a dot, which the field refuses, is named by its vocabulary number."""
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
    lines_per_document: int,
) -> None:
    """Write the documents, and the queries if the source has any."""
    written.counts[DOCUMENTS] = write_jsonl(folder / DOCUMENTS, rows) // lines_per_document
    if source.has_queries:
        written.counts[QUERIES] = write_jsonl(folder / QUERIES, queries())
