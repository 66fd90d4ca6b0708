"""A segment of an index on disk: documents, their embeddings and a table of ids, written once and never changed.

Rows are the documents in the order they were written. Everything is memory-mapped: opening reads a few bytes, and a
million documents need 32 MB of table. Knows no models, and of faiss only that its index may be next to a segment.
"""

from __future__ import annotations

import mmap
import os
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from inpars.errors import DataFormatError
from inpars.io.formats import parse_document, write_documents
from inpars.io.json_text import JsonError, parse_json
from inpars.io.storage import atomic_file, read_json_at
from inpars.records import Document
from inpars.text.hashing import key64

Embeddings = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]
DOCUMENTS = "documents.jsonl"
VECTORS = "vectors.npy"
TABLE: dict[str, npt.DTypeLike] = {
    "offsets": np.int64,
    "hashes": np.uint64,
    "rows": np.int64,
}  # where each row begins; hashes of the ids in ascending order, and their rows
ROWS_PER_BLOCK = 16_384  # scored together
MAX_TIES = 4096  # equal to the k-th score, that are kept beyond k


class Segment:
    """One part of an index, opened for reading; safe to read from several threads."""

    def __init__(self, folder: Path, deleted: Path | None = None) -> None:
        """Map the files; `deleted` lists the rows that are gone. Raises DataFormatError where one of them is torn."""
        self.folder, self.name = folder, folder.name
        self._path = folder / DOCUMENTS
        try:
            with self._path.open("rb") as stream:
                self._bytes = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
            self._offsets, self._hashes, self._rows = (
                load_array(folder / f"{name}.npy", kind) for name, kind in TABLE.items()
            )
            self.vectors: Embeddings = load_array(folder / VECTORS, np.float32, axes=2)
            self.live = np.ones(len(self._offsets), dtype=np.bool_)
            if deleted is not None:
                self.live[load_array(deleted, np.int64)] = False
        except (ValueError, EOFError, IndexError) as error:
            raise _torn(folder, str(error)) from None
        rows = {len(part) for part in (self._offsets, self._hashes, self._rows, self.vectors)}
        if len(rows) > 1 or self._offsets[-1] >= len(self._bytes):
            raise _torn(folder, "its files are not of the same documents")

    def __len__(self) -> int:
        """Rows, deleted ones too."""
        return len(self._offsets)

    @property
    def live_count(self) -> int:
        return int(self.live.sum())

    def document(self, row: int) -> Document:
        offset = int(self._offsets[row])
        if not 0 <= offset < len(self._bytes):
            raise _torn(self.folder, f"document {row + 1} is beyond its file")
        end = self._bytes.find(b"\n", offset)
        try:
            return parse_document(parse_json(self._bytes[offset:end]), self._path, row + 1)
        except (JsonError, AttributeError) as error:
            raise _torn(self.folder, f"document {row + 1}: {error}") from None

    def view(self, name: str) -> tuple[Embeddings, Rows]:
        """The embeddings of all windows under a view, (windows, width), and how many each row has."""
        try:
            vectors = load_array(self.folder / f"view-{name}.npy", np.float32, axes=2)
            counts = load_array(self.folder / f"view-{name}.counts.npy", np.int64)
        except ValueError as error:
            raise _torn(self.folder, str(error)) from None
        if len(counts) != len(self) or counts.sum() != len(vectors):
            raise _torn(self.folder, f"view {name} is not of the same documents")
        return vectors, counts

    def documents(self) -> Iterator[Document]:
        """The documents that are not deleted, in the order of the rows."""
        return (self.document(int(row)) for row in np.flatnonzero(self.live))

    def find(self, doc_id: str) -> int | None:
        """The row of a document that is not deleted."""
        key = np.uint64(key64(doc_id))
        position = int(np.searchsorted(self._hashes, key))
        while position < len(self._hashes) and self._hashes[position] == key:
            row = int(self._rows[position])
            if not 0 <= row < len(self):
                raise _torn(self.folder, f"row {row} of {len(self)}")
            if self.live[row] and self.document(row).doc_id == doc_id:
                return row
            position += 1
        return None


def write_rows(folder: Path, documents: Iterable[Document]) -> int:
    """Write documents and the table of their ids, and return their number; embeddings follow."""
    count = write_documents(folder / DOCUMENTS, documents)
    offsets, hashes, offset = array("q"), array("Q"), 0
    with (folder / DOCUMENTS).open("rb") as stream:
        for number, raw in enumerate(stream, start=1):
            hashes.append(key64(parse_document(parse_json(raw), folder / DOCUMENTS, number).doc_id))
            offsets.append(offset)
            offset += len(raw)
    keys = np.frombuffer(hashes, dtype=np.uint64) if hashes else np.empty(0, dtype=np.uint64)
    order = np.argsort(keys, kind="stable")
    starts = np.frombuffer(offsets, dtype=np.int64) if offsets else np.empty(0, dtype=np.int64)
    for name, values in zip(TABLE, (starts, keys[order], order.astype(np.int64)), strict=True):
        np.save(folder / f"{name}.npy", values)
    return count


def write_vectors(folder: Path, blocks: Iterable[Embeddings], count: int, width: int) -> None:
    """Write the embeddings of all rows, given block by block."""
    partial = folder / f"partial-{VECTORS}"
    file: Any = np.lib.format.open_memmap(partial, mode="w+", dtype=np.float32, shape=(count, width))
    start = 0
    for block in blocks:
        file[start : start + len(block)] = block
        start += len(block)
    file.flush()
    partial.replace(folder / VECTORS)


def save_array(path: Path, array: npt.NDArray[Any]) -> None:
    """Write an array's file, which appears when it is whole."""
    with atomic_file(path) as working, working.open("wb") as stream:
        np.save(stream, array)


def load_array(path: Path, kind: npt.DTypeLike, axes: int = 1) -> Any:
    """Map an array's file. Raises ValueError for what is none of this kind, and with as many axes."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError:
        raise
    except Exception as error:  # numpy parses a broken header as Python, which raises all there is
        raise ValueError(f"{path.name}: {type(error).__name__}") from None
    if not isinstance(array, np.ndarray) or array.dtype != kind or array.ndim != axes:
        raise ValueError(f"{path.name} holds no {np.dtype(kind)} array of {axes} dimensions")
    return array


def read_texts_at(folder: Path, rows: range) -> list[str]:
    """Title and text of some rows; the table that says where they begin must be there."""
    starts = load_array(folder / "offsets.npy", np.int64)[rows.start : rows.stop]
    records = zip(rows, read_json_at(folder / DOCUMENTS, map(int, starts)), strict=True)
    return [parse_document(record, folder / DOCUMENTS, row + 1).full_text for row, record in records]


def nearest_rows(
    vectors: Embeddings, queries: Embeddings, k: int, allowed: npt.NDArray[np.bool_]
) -> tuple[Embeddings, Rows]:
    """Exact search among the allowed rows: products and rows as `best` keeps them, (queries, rows), in no order."""
    scores = np.empty((len(queries), 0), dtype=np.float32)
    rows = np.empty((len(queries), 0), dtype=np.int64)
    for start in range(0, len(vectors), ROWS_PER_BLOCK):
        chosen = np.flatnonzero(allowed[start : start + ROWS_PER_BLOCK])
        if not len(chosen):
            continue
        block = vectors[start : start + ROWS_PER_BLOCK]
        products = queries @ (block if len(chosen) == len(block) else block[chosen]).T  # (queries, rows of the block)
        scores = np.concatenate([scores, products], axis=1)
        rows = np.concatenate([rows, np.broadcast_to(chosen + start, products.shape)], axis=1)
        scores, rows = best(scores, rows, k)
    return scores, rows


def nearest_by_window(
    view: tuple[Embeddings, Rows], queries: Embeddings, k: int, allowed: npt.NDArray[np.bool_]
) -> tuple[Embeddings, Rows]:
    """As `nearest_rows`, by the nearest window of each row."""
    vectors, counts = view
    scores, rows = np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
    ends = np.concatenate([[0], np.cumsum(counts)])
    for start in range(0, len(counts), ROWS_PER_BLOCK):
        stop = min(len(counts), start + ROWS_PER_BLOCK)
        products = queries @ vectors[ends[start] : ends[stop]].T  # (queries, windows of the block)
        row_products = np.maximum.reduceat(
            products, ends[start:stop] - ends[start], axis=1
        )  # (queries, rows of the block)
        chosen = np.flatnonzero(allowed[start:stop])
        scores = np.concatenate([scores, row_products[:, chosen]], axis=1)
        rows = np.concatenate([rows, np.broadcast_to(chosen + start, (len(queries), len(chosen)))], axis=1)
        scores, rows = best(scores, rows, k)
    return scores, rows


def write_view(folder: Path, name: str, parts: Iterable[tuple[Embeddings, Rows]]) -> None:
    """Write the windows' embeddings of all rows and how many each row has, given block by block."""
    vectors, counts = zip(*parts, strict=True)
    save_array(folder / f"view-{name}.counts.npy", np.concatenate(counts))
    save_array(folder / f"view-{name}.npy", np.concatenate(vectors))  # last: it says that the view is whole


def best(scores: Embeddings, rows: Rows, k: int) -> tuple[Embeddings, Rows]:
    """The k highest scores of each query with their rows, in no order, and others that equal the k-th: ids decide."""
    if scores.shape[1] <= k:
        return scores, rows
    top = np.argpartition(-scores, k - 1, axis=1)[:, :k]
    least = np.take_along_axis(scores, top, axis=1).min(axis=1, keepdims=True)
    width = min(int((scores >= least).sum(axis=1).max()), k + MAX_TIES)
    if width > k:
        top = np.argpartition(-scores, width - 1, axis=1)[:, :width]
    return np.take_along_axis(scores, top, axis=1), np.take_along_axis(rows, top, axis=1)


def _torn(folder: Path, reason: str) -> DataFormatError:
    return DataFormatError(f"this part of an index is damaged ({reason}); build the index again", path=folder)


def sync_folder(folder: Path) -> None:
    """Make files of a folder, and its list of them, durable."""
    for path in [*(path for path in folder.iterdir() if path.is_file()), folder]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
