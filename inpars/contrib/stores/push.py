"""Push an index into a vector store until both hold the same; what is there already is not sent again.

Every row carries a digest of its document and its embedding, and the store is what remembers: a push that was killed
goes on where the store has nothing yet. Importing this loads the client of no store.
"""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Iterator, Mapping, Sequence
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

BATCH = 256  # rows sent together
SHOWN = 3  # ids that a message names
STORES = {
    "qdrant": "http(s) address, or a folder for its local mode",
    "lancedb": "folder, or an address of LanceDB or an object store",
    "milvus": "address, or a file that ends in .db for Milvus Lite",
    "pgvector": "PostgreSQL address: postgresql://USER@HOST/DATABASE",
    "elasticsearch": "address, http://localhost:9200 for instance",
    "opensearch": "address, as Elasticsearch's",
}


@dataclass(frozen=True, slots=True)
class Row:
    """A passage as stores keep it; `digest` tells its content from any other."""

    document: Document
    vector: npt.NDArray[np.float32]

    @property
    def digest(self) -> str:
        """32 hexadecimal digits of the document and its embedding."""
        text = json.dumps(document_record(self.document), sort_keys=True, ensure_ascii=False)
        vector = np.ascontiguousarray(self.vector, dtype="<f4").tobytes()
        return hashlib.sha256(text.encode() + b"\0" + vector).hexdigest()[:32]


class Store(Protocol):
    """One collection of a vector store, compared by inner products."""

    def prepare(self, width: int) -> None:
        """Make the collection unless it is there. Raises ConfigError for one that is not of such a push."""

    def contents(self) -> Mapping[str, str]:
        """doc_id -> digest of all that is there."""

    def put(self, rows: Sequence[Row]) -> None:
        """Insert rows, or replace those of the same doc_id; durable when it returns."""

    def delete(self, doc_ids: Sequence[str]) -> None:
        """Remove rows."""

    def nearest(self, vector: npt.NDArray[np.float32], k: int) -> list[tuple[str, float]]:
        """doc_id and inner product of the k nearest, best first."""

    def close(self) -> None:
        """Let the connection go."""


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a push did, and in what the store then differs from the index: ids that it lacks, has else, or has alone."""

    documents: int
    sent: int
    unchanged: int
    deleted: int
    missing: tuple[str, ...]
    changed: tuple[str, ...]
    extra: tuple[str, ...]

    @property
    def differences(self) -> list[str]:
        """One line per kind, `2 missing: a, b`; empty where both hold the same."""
        kinds = {"missing": self.missing, "changed": self.changed, "not in the index": self.extra}
        return [
            f"{len(ids)} {kind}: {', '.join(ids[:SHOWN])}{', ...' if len(ids) > SHOWN else ''}"
            for kind, ids in kinds.items()
            if ids
        ]


def push(index: VectorIndex, store: Store, *, sync: bool = False, progress: Progress = SILENT) -> Pushed:
    """Send what the store lacks or has otherwise, then read it back and compare; `sync` deletes what the index lacks.

    Raises ConfigError where the store has a collection of that name that is something else.
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
    """Raise ConfigError where a collection is of another width."""
    if stored_width != width:
        raise ConfigError(
            f"collection {name!r} is there already with embeddings of width {stored_width}, the index has {width}; "
            "give another --collection"
        )


def check_fields(stored: Sequence[str] | set[str], name: str) -> None:
    """Raise ConfigError where a collection lacks what a push writes."""
    if lacking := [field for field in FIELDS if field not in stored]:
        raise ConfigError(
            f"collection {name!r} is there already and lacks {', '.join(lacking)}: it is not of `inpars index push`; "
            "give another --collection"
        )


FIELDS: tuple[str, ...] = ("doc_id", "title", "text", "metadata", "digest", "vector")


def fields_of(row: Row) -> dict[str, Any]:
    """A row by the names of its fields."""
    document = row.document
    texts = {"doc_id": document.doc_id, "title": document.title, "text": document.text}
    return {**texts, "metadata": dict(document.metadata), "digest": row.digest, "vector": row.vector.tolist()}


def open_store(kind: str, target: str, collection: str) -> Store:
    """The collection of a store. Raises UnknownNameError for a kind that is none, MissingDependencyError by import."""
    if kind not in STORES:
        raise UnknownNameError("store", kind, STORES)
    module = importlib.import_module(f"inpars.contrib.stores.{kind}")
    return cast(Store, module.open_collection(target, collection))


@contextmanager
def store_errors(kind: str) -> Iterator[None]:
    """Raise the errors of a store's client as BackendError, in one line."""
    errors: tuple[type[Exception], ...] = importlib.import_module(f"inpars.contrib.stores.{kind}").ERRORS
    try:
        yield
    except errors as error:
        raise BackendError(f"{kind}: {type(error).__name__}: {' '.join(str(error).split())[:300]}") from error
