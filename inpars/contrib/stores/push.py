"""Push an index into a vector store until both hold the same rows, sending only rows that are new or changed.

The store keeps a digest of document and embedding in every row, so a push that was killed resumes with the missing
rows. Importing this module loads no store's client.
"""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt

from inpars.batches import chunks
from inpars.errors import BackendError, ConfigError, UnknownNameError
from inpars.io.formats import document_record
from inpars.progress import SILENT, Progress
from inpars.records import Document
from inpars.retrieval.vector_index import VectorIndex

BATCH = 256  # rows per request
SHOWN = 3  # ids per message
STORES = {
    "qdrant": "http(s) address, or a folder for its local mode",
    "lancedb": "folder, or an address of LanceDB or an object store",
    "milvus": "address, or a file that ends in .db for Milvus Lite",
    "pgvector": "PostgreSQL address: postgresql://USER@HOST/DATABASE",
    "elasticsearch": "address, http://localhost:9200 for instance",
    "opensearch": "address, as Elasticsearch's",
    "weaviate": "address, http://localhost:8080 for instance, or a cluster of Weaviate Cloud",
}


@dataclass(frozen=True, slots=True)
class Row:
    """A passage with its embedding, as stores keep it."""

    document: Document
    vector: npt.NDArray[np.float32]

    @property
    def digest(self) -> str:
        """32 hexadecimal digits of the document and its embedding."""
        text = json.dumps(document_record(self.document), sort_keys=True, ensure_ascii=False)
        vector = np.ascontiguousarray(self.vector, dtype="<f4").tobytes()
        return hashlib.sha256(text.encode() + b"\0" + vector).hexdigest()[:32]


class Store(Protocol):
    """One collection of a vector store, searched by inner product."""

    def prepare(self, width: int) -> None:
        """Create the collection unless it exists. Raises ConfigError if it has other fields or another width."""

    def contents(self) -> Mapping[str, str]:
        """doc_id -> digest of every row."""

    def put(self, rows: Sequence[Row]) -> None:
        """Insert rows, replacing those with the same doc_id; durable on return."""

    def delete(self, doc_ids: Sequence[str]) -> None: ...

    def nearest(self, vector: npt.NDArray[np.float32], k: int) -> list[tuple[str, float]]:
        """doc_id and inner product of the k nearest, best first."""

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a push did, and the doc_ids by which the store still differs from the index."""

    documents: int
    sent: int
    unchanged: int
    deleted: int
    missing: tuple[str, ...]
    changed: tuple[str, ...]
    extra: tuple[str, ...]

    @property
    def differences(self) -> list[str]:
        """One line per kind, `2 missing: a, b`; empty if store and index agree."""
        kinds = {"missing": self.missing, "changed": self.changed, "not in the index": self.extra}
        return [
            f"{len(ids)} {kind}: {', '.join(ids[:SHOWN])}{', ...' if len(ids) > SHOWN else ''}"
            for kind, ids in kinds.items()
            if ids
        ]


def push(index: VectorIndex, store: Store, *, sync: bool = False, progress: Progress = SILENT) -> Pushed:
    """Send new and changed rows, then compare the store with the index; `sync` deletes rows that the index lacks.

    Raises ConfigError if the collection exists with other fields or another width.
    """
    store.prepare(index.state.width)
    before = store.contents()
    sent = 0
    digests: dict[str, str] = {}
    for batch in chunks(progress.track(rows_of(index), total=len(index), description="pushing", unit="passage"), BATCH):
        batch_digests = {row.document.doc_id: row.digest for row in batch}
        digests |= batch_digests
        changed = [row for row in batch if before.get(row.document.doc_id) != batch_digests[row.document.doc_id]]
        if changed:
            store.put(changed)
        sent += len(changed)
    gone = sorted(before.keys() - digests.keys()) if sync else []
    for ids in chunks(gone, BATCH):
        store.delete(ids)
    after = store.contents()
    return Pushed(
        documents=len(digests),
        sent=sent,
        unchanged=len(digests) - sent,
        deleted=len(gone),
        missing=tuple(sorted(digests.keys() - after.keys())),
        changed=tuple(sorted(doc_id for doc_id in digests.keys() & after.keys() if digests[doc_id] != after[doc_id])),
        extra=tuple(sorted(after.keys() - digests.keys())),
    )


def rows_of(index: VectorIndex) -> Iterator[Row]:
    """The documents of the index with their embeddings."""
    for segment in index.segments:
        for row in np.flatnonzero(segment.live).tolist():
            yield Row(segment.document(row), segment.vectors[row])


def check_width(stored_width: object, width: int, name: str) -> None:
    """Raise ConfigError if a collection has embeddings of another width than the index."""
    if stored_width != width:
        raise ConfigError(
            f"collection {name!r} has embeddings of width {stored_width}, the index {width}; give another --collection"
        )


def check_fields(stored: Container[str], name: str) -> None:
    """Raise ConfigError if a collection lacks a field that a push writes."""
    if lacking := [field for field in FIELDS if field not in stored]:
        raise ConfigError(
            f"collection {name!r} lacks {', '.join(lacking)}: `inpars index push` did not create it; "
            "give another --collection"
        )


FIELDS: tuple[str, ...] = ("doc_id", "title", "text", "metadata", "digest", "vector")


def fields_of(row: Row) -> dict[str, Any]:
    """A row as field name -> value."""
    document = row.document
    texts = {"doc_id": document.doc_id, "title": document.title, "text": document.text}
    return {**texts, "metadata": dict(document.metadata), "digest": row.digest, "vector": row.vector.tolist()}


def open_store(kind: str, target: str, collection: str) -> Store:
    """The collection of a store. Raises UnknownNameError for an unknown kind, MissingDependencyError on import."""
    if kind not in STORES:
        raise UnknownNameError("store", kind, STORES)
    module = importlib.import_module(f"inpars.contrib.stores.{kind}")
    return cast(Store, module.open_collection(target, collection))


@contextmanager
def store_errors(kind: str) -> Iterator[None]:
    """Raise errors of a store's client as one-line BackendErrors."""
    errors: tuple[type[Exception], ...] = importlib.import_module(f"inpars.contrib.stores.{kind}").ERRORS
    try:
        yield
    except errors as error:
        raise BackendError(f"{kind}: {type(error).__name__}: {' '.join(str(error).split())[:300]}") from error
