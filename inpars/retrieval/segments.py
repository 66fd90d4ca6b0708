"""A segment of an index on disk: documents, embeddings and a table of ids, written once and never changed.

Rows are the documents in writing order. All files are memory-mapped, so opening is fast; the table takes 32 MB per
million documents.
"""

from __future__ import annotations

import mmap
from array import array
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from inpars.errors import DataFormatError
from inpars.io.formats import parse_document, write_documents
from inpars.io.json_text import JsonError, parse_json
from inpars.io.storage import atomic_file, read_json_at, read_jsonl_with_offsets, sync
from inpars.records import Document
from inpars.text.hashing import key64

Embeddings = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]
DOCUMENTS = "documents.jsonl"
VECTORS = "vectors.npy"
TABLE: dict[str, npt.DTypeLike] = {"offsets": np.int64, "hashes": np.uint64, "rows": np.int64}
"""The byte offset of each row; sorted hashes of the ids, and their rows."""
ROWS_PER_BLOCK = 16_384  # scored together
MAX_TIES = 4096  # results tied with the k-th that are kept beyond k


class Segment:
    """A segment opened for reading. Thread-safe."""

    def __init__(self, folder: Path, deleted: Path | None = None) -> None:
        """Map the files; `deleted` is the file of deleted rows. Raises DataFormatError if one is damaged."""
        self.folder = folder
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
            raise _damaged(folder, str(error)) from None
        rows = {len(part) for part in (self._offsets, self._hashes, self._rows, self.vectors)}
        if len(rows) > 1 or self._offsets[-1] >= len(self._bytes):
            raise _damaged(folder, "its files are not of the same documents")

    def __len__(self) -> int:
        """The number of rows, including deleted ones."""
        return len(self._offsets)

    @property
    def live_count(self) -> int:
        return int(self.live.sum())

    def document(self, row: int) -> Document:
        offset = int(self._offsets[row])
        if not 0 <= offset < len(self._bytes):
            raise _damaged(self.folder, f"document {row + 1} is beyond its file")
        end = self._bytes.find(b"\n", offset)
        try:
            return parse_document(parse_json(self._bytes[offset:end]), self._path, row + 1)
        except (JsonError, AttributeError) as error:
            raise _damaged(self.folder, f"document {row + 1}: {error}") from None

    def view(self, name: str) -> tuple[Embeddings, Rows]:
        """A view's embeddings, (windows, width), and the number of windows per row, (rows,)."""
        try:
            vectors = load_array(self.folder / f"view-{name}.npy", np.float32, axes=2)
            counts = load_array(self.folder / f"view-{name}.counts.npy", np.int64)
        except ValueError as error:
            raise _damaged(self.folder, str(error)) from None
        if len(counts) != len(self) or counts.sum() != len(vectors):
            raise _damaged(self.folder, f"view {name} is not of the same documents")
        return vectors, counts

    def documents(self) -> Iterator[Document]:
        """The documents that are not deleted, in row order."""
        return (self.document(int(row)) for row in np.flatnonzero(self.live))

    def find(self, doc_id: str) -> int | None:
        """The row of a document that is not deleted."""
        key = np.uint64(key64(doc_id))
        position = int(np.searchsorted(self._hashes, key))
        while position < len(self._hashes) and self._hashes[position] == key:
            row = int(self._rows[position])
            if not 0 <= row < len(self):
                raise _damaged(self.folder, f"row {row} of {len(self)}")
            if self.live[row] and self.document(row).doc_id == doc_id:
                return row
            position += 1
        return None


def write_rows(folder: Path, documents: Iterable[Document]) -> int:
    """Write documents and the table of their ids; return their number."""
    path = folder / DOCUMENTS
    count = write_documents(path, documents)
    offsets, hashes = array("q"), array("Q")
    for offset, number, record in read_jsonl_with_offsets(path):
        offsets.append(offset)
        hashes.append(key64(parse_document(record, path, number).doc_id))
    keys, starts = np.frombuffer(hashes, dtype=np.uint64), np.frombuffer(offsets, dtype=np.int64)
    order = np.argsort(keys, kind="stable")
    for name, values in zip(TABLE, (starts, keys[order], order.astype(np.int64)), strict=True):
        np.save(folder / f"{name}.npy", values)
    return count


def write_vectors(folder: Path, blocks: Iterable[Embeddings], count: int, width: int) -> None:
    """Write the embeddings of all rows, given in blocks."""
    partial = folder / f"partial-{VECTORS}"
    file: Any = np.lib.format.open_memmap(partial, mode="w+", dtype=np.float32, shape=(count, width))
    start = 0
    for block in blocks:
        file[start : start + len(block)] = block
        start += len(block)
    file.flush()
    partial.replace(folder / VECTORS)


def save_array(path: Path, array: npt.NDArray[Any]) -> None:
    """Write an array atomically."""
    with atomic_file(path) as working, working.open("wb") as stream:
        np.save(stream, array)


def load_array(path: Path, kind: npt.DTypeLike, axes: int = 1) -> Any:
    """Memory-map an array. Raises ValueError if it is damaged or its type or number of axes differs."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError:
        raise
    except Exception as error:  # numpy evaluates the header as Python, which may raise anything
        raise ValueError(f"{path.name}: {type(error).__name__}") from None
    if not isinstance(array, np.ndarray) or array.dtype != kind or array.ndim != axes:
        raise ValueError(f"{path.name} holds no {np.dtype(kind)} array of {axes} dimensions")
    return array


def read_texts_at(folder: Path, rows: range) -> list[str]:
    """Title and text of a range of rows; `write_rows` must be complete."""
    starts = load_array(folder / "offsets.npy", np.int64)[rows.start : rows.stop]
    records = zip(rows, read_json_at(folder / DOCUMENTS, map(int, starts)), strict=True)
    return [parse_document(record, folder / DOCUMENTS, row + 1).full_text for row, record in records]


def nearest_rows(
    vectors: Embeddings, queries: Embeddings, k: int, allowed: npt.NDArray[np.bool_]
) -> tuple[Embeddings, Rows]:
    """Exact search among the allowed rows: the scores and rows kept by `best`, both (queries, rows)."""

    def products(start: int, stop: int, chosen: Rows) -> Embeddings:
        block = vectors[start:stop]
        scores: Embeddings = queries @ (block if len(chosen) == len(block) else block[chosen]).T
        return scores

    return _nearest(products, len(queries), k, allowed)


def nearest_by_window(
    view: tuple[Embeddings, Rows], queries: Embeddings, k: int, allowed: npt.NDArray[np.bool_]
) -> tuple[Embeddings, Rows]:
    """Like `nearest_rows`, by the nearest window of each row."""
    vectors, counts = view
    ends = np.concatenate([[0], np.cumsum(counts)])

    def products(start: int, stop: int, chosen: Rows) -> Embeddings:
        windows = queries @ vectors[ends[start] : ends[stop]].T  # (queries, windows of the block)
        scores: Embeddings = np.maximum.reduceat(windows, ends[start:stop] - ends[start], axis=1)[:, chosen]
        return scores

    return _nearest(products, len(queries), k, allowed)


def _nearest(
    products: Callable[[int, int, Rows], Embeddings], queries: int, k: int, allowed: npt.NDArray[np.bool_]
) -> tuple[Embeddings, Rows]:
    """Search block by block; `products` scores some rows of a block, (queries, chosen)."""
    scores = np.empty((queries, 0), dtype=np.float32)
    rows = np.empty((queries, 0), dtype=np.int64)
    for start in range(0, len(allowed), ROWS_PER_BLOCK):
        stop = min(len(allowed), start + ROWS_PER_BLOCK)
        chosen = np.flatnonzero(allowed[start:stop])
        if len(chosen):
            scores = np.concatenate([scores, products(start, stop, chosen)], axis=1)
            rows = np.concatenate([rows, np.broadcast_to(chosen + start, (queries, len(chosen)))], axis=1)
            scores, rows = best(scores, rows, k)
    return scores, rows


def write_view(folder: Path, name: str, parts: Iterable[tuple[Embeddings, Rows]]) -> None:
    """Write a view's embeddings and window counts, given in blocks."""
    vectors, counts = zip(*parts, strict=True)
    save_array(folder / f"view-{name}.counts.npy", np.concatenate(counts))
    save_array(folder / f"view-{name}.npy", np.concatenate(vectors))  # last, as it marks the view as complete


def best(scores: Embeddings, rows: Rows, k: int) -> tuple[Embeddings, Rows]:
    """The k highest scores per query with their rows, unordered, and those tied with the k-th (ids decide later)."""
    if scores.shape[1] <= k:
        return scores, rows
    top = np.argpartition(-scores, k - 1, axis=1)[:, :k]
    least = np.take_along_axis(scores, top, axis=1).min(axis=1, keepdims=True)
    width = min(int((scores >= least).sum(axis=1).max()), k + MAX_TIES)
    if width > k:
        top = np.argpartition(-scores, width - 1, axis=1)[:, :width]
    return np.take_along_axis(scores, top, axis=1), np.take_along_axis(rows, top, axis=1)


def _damaged(folder: Path, reason: str) -> DataFormatError:
    return DataFormatError(f"this part of an index is damaged ({reason}); build the index again", path=folder)


def sync_folder(folder: Path) -> None:
    """Flush a folder and its files to disk."""
    for path in [*(path for path in folder.iterdir() if path.is_file()), folder]:
        sync(path)
