"""Corpora on disk: streamed in order, looked up by id, never held in memory.

JSON lines and tab-separated files without a header are read in place. Compressed files are unpacked into the cache and
other formats are converted to JSON lines there, once. The cache also holds an index of three memory-mapped arrays
(sorted 64-bit hashes of the ids, byte offsets, 64-bit hashes of the texts): 24 bytes per document.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import shutil
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, overload

import numpy as np
import numpy.typing as npt

from inpars.cache import cache_folder
from inpars.errors import DataFormatError, StaleInputError
from inpars.io.formats import document_from_tsv, parse_document, read_documents, write_documents
from inpars.io.manifest import FileStamp
from inpars.io.packing import is_packed, plain_name
from inpars.io.record_files import IdChoices, records_form
from inpars.io.storage import atomic_file, atomic_folder, decode_line, open_lines, parse_object, storage_errors
from inpars.io.tables import DOC_ID_FIELDS, DOCUMENTS, MSMARCO_DOCUMENTS, Table
from inpars.records import Document, FullText
from inpars.text.hashing import hex_key, key64

INDEX_FORMAT = 3  # increase when the same file yields different documents
UNKNOWN_ID_HINT = "the ids of this file belong to another corpus"

Keys = npt.NDArray[np.uint64]
COPY, REMARKS = "corpus.jsonl", "remarks.json"
COPY_FORMAT = "records-1"  # change when the same file is converted differently


@dataclass(frozen=True, slots=True)
class _Index:
    """One entry per document in each array, ascending by the hash of its id."""

    hashes: Keys
    offsets: Keys
    text_keys: Keys
    sha256: str
    remarks: tuple[str, ...]


class Documents(Protocol):
    """Documents that can be read repeatedly, such as a `Corpus`."""

    @property
    def sha256(self) -> str:
        """A hash of the content."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Document]: ...

    def __contains__(self, doc_id: object) -> bool: ...

    def __getitem__(self, doc_id: str) -> Document: ...


class Corpus:
    """The documents of one file: iterate for all in file order, use `corpus[doc_id]` for one."""

    def __init__(self, path: Path, cache: Path | None = None) -> None:
        """Open a corpus file and index it if necessary.

        Raises DataFormatError if the file is empty or an id is missing or not unique.
        """
        self.path = path
        cache = cache or cache_folder()
        self._lines = corpus_lines(path, cache)
        self._index = _index(self._lines, path, cache)
        self.sha256 = self._index.sha256
        self.remarks = (*self._lines.remarks, *self._index.remarks)  # about guessed columns and ids
        with self._lines.path.open("rb") as stream:
            self._bytes = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)

    @property
    def stamp(self) -> FileStamp:
        """A stamp of the documents' content."""
        return FileStamp(str(self.path), self.sha256, self.path.stat().st_size, len(self))

    def __len__(self) -> int:
        return len(self._index.hashes)

    def __iter__(self) -> Iterator[Document]:
        return read_documents(self._lines.path)

    def __contains__(self, doc_id: object) -> bool:
        return isinstance(doc_id, str) and self._find(doc_id) is not None

    def __getitem__(self, doc_id: str) -> Document:
        for position in self._positions(doc_id):
            document = self.at(position)
            if document.doc_id == doc_id:
                return document
        raise self._unknown(doc_id)

    def texts(self, doc_ids: Iterable[str]) -> list[str]:
        """Title and text of each document as a `FullText`, in the order of the ids."""
        return [FullText.of(self[doc_id]) for doc_id in doc_ids]

    def at(self, position: int) -> Document:
        """The document at a position in the order of hashed ids, which does not depend on the file's order."""
        return self._read_at(int(self._index.offsets[position]))

    def text_key(self, doc_id: str) -> int:
        """`text_key` of a document's title and text, without reading them.

        Raises DataFormatError for an unknown id.
        """
        positions = self._positions(doc_id)
        position = positions[0] if len(positions) == 1 else self._find(doc_id)
        if position is None:
            raise self._unknown(doc_id)
        return int(self._index.text_keys[position])

    def in_file_order(self) -> Sequence[Document]:
        """The documents in file order, each read on access."""
        return SelectedDocuments(self._read_at, np.sort(self._index.offsets))

    def _unknown(self, doc_id: str) -> DataFormatError:
        return DataFormatError(f"no document {doc_id!r}; {UNKNOWN_ID_HINT}", path=self.path)

    def _find(self, doc_id: str) -> int | None:
        """The position of a document in the index; compares ids, not only their hashes."""
        return next((position for position in self._positions(doc_id) if self.at(position).doc_id == doc_id), None)

    def _positions(self, doc_id: str) -> range:
        key, hashes = np.uint64(key64(doc_id)), self._index.hashes
        first = last = int(np.searchsorted(hashes, key))
        while last < len(hashes) and hashes[last] == key:
            last += 1
        return range(first, last)

    def _read_at(self, offset: int) -> Document:
        end = self._bytes.find(b"\n", offset)
        raw, number = self._bytes[offset : end if end >= 0 else None], 1 if offset == 0 else 2
        return _parse_line(raw, self._lines.path, number, self._lines.table)


class SelectedDocuments(Sequence[Document]):
    """Documents at given positions of a sequence or offsets of a file, each read on access."""

    def __init__(self, read: Callable[[int], Document], positions: npt.NDArray[np.integer[Any]]) -> None:
        self._read = read
        self.positions = positions  # what `read` takes: file offsets or positions, (documents,)

    def __len__(self) -> int:
        return len(self.positions)

    @overload
    def __getitem__(self, position: int) -> Document: ...

    @overload
    def __getitem__(self, position: slice) -> Sequence[Document]: ...

    def __getitem__(self, position: int | slice) -> Document | Sequence[Document]:
        if isinstance(position, slice):
            return SelectedDocuments(self._read, self.positions[position])
        return self._read(int(self.positions[position]))


def text_key(text: str) -> int:
    """A 64-bit hash of a text that ignores differences in whitespace but not in case."""
    return key64(" ".join(text.split()))


def cached_corpus(key: str, documents: Callable[[], Iterable[Document]]) -> Corpus:
    """A corpus of documents that are written to the cache under `key` the first time."""
    folder = cache_folder() / "corpora" / hex_key(key)
    path = folder / "corpus.jsonl"
    if not path.exists():
        with storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        write_documents(path, documents())
    return Corpus(path)


def open_corpus(path: Path, sha256: str) -> Corpus:
    """Open a corpus in another process. Raises StaleInputError if its content differs there."""
    corpus = Corpus(path)
    if corpus.sha256 != sha256:
        raise StaleInputError(f"{path} has other documents on a worker's machine; let all machines see one file")
    return corpus


def _index(lines: CorpusLines, display_path: Path, cache: Path) -> _Index:
    """The index of a file, built if necessary."""
    folder = cache / "indexes" / f"{file_key(lines.path)}.{INDEX_FORMAT}"
    if not (folder / "meta.json").exists():
        _build_index(lines, display_path, folder)
    meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    hashes, offsets, text_keys = (
        np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("hashes", "offsets", "text_keys")
    )
    return _Index(hashes, offsets, text_keys, meta["sha256"], tuple(meta["remarks"]))


def _build_index(lines: CorpusLines, display_path: Path, folder: Path) -> None:
    index = _scan(lines, display_path)
    if not len(index.hashes):
        raise DataFormatError("the corpus is empty; it needs at least one document", path=display_path)
    order = np.argsort(index.hashes, kind="stable")
    hashes, offsets = index.hashes[order], index.offsets[order]
    _reject_duplicates(hashes, offsets, lines, display_path, (*lines.remarks, *index.remarks))
    with atomic_folder(folder) as working:
        np.save(working / "hashes.npy", hashes)
        np.save(working / "offsets.npy", offsets)
        np.save(working / "text_keys.npy", index.text_keys[order])
        meta = {"sha256": index.sha256, "documents": len(hashes), "remarks": index.remarks}
        (working / "meta.json").write_text(json.dumps(meta), encoding="utf-8")


def _scan(lines: CorpusLines, display_path: Path) -> _Index:
    """The index, in file order."""
    hashes, offsets, text_keys, digest, offset = array("Q"), array("Q"), array("Q"), hashlib.sha256(), 0
    choices, remarks = IdChoices(DOC_ID_FIELDS), list[str]()
    with lines.path.open("rb") as stream:
        for number, raw in enumerate(stream, start=1):
            digest.update(raw)
            if raw.strip():
                document = _parse_line(raw, display_path, number, lines.table, choices, remarks)
                hashes.append(key64(document.doc_id))
                offsets.append(offset)
                text_keys.append(text_key(document.full_text))
            offset += len(raw)
    if choices.seen or (lines.table is not None and lines.table.names == MSMARCO_DOCUMENTS):
        # earlier releases read the same bytes differently
        digest.update(repr((sorted(choices.seen), lines.table and lines.table.names)).encode())
    return _Index(_as_keys(hashes), _as_keys(offsets), _as_keys(text_keys), digest.hexdigest(), tuple(remarks))


def _as_keys(numbers: array[int]) -> Keys:
    return np.frombuffer(numbers, dtype=np.uint64)


def _reject_duplicates(
    hashes: Keys, offsets: Keys, lines: CorpusLines, display_path: Path, remarks: Sequence[str]
) -> None:
    collisions = np.flatnonzero(hashes[1:] == hashes[:-1])
    if not len(collisions):
        return
    with lines.path.open("rb") as stream:
        for position in collisions:
            twins = []
            for offset in offsets[position : position + 2]:
                stream.seek(int(offset))
                number = 1 if offset == 0 else 2
                twins.append(_parse_line(stream.readline(), lines.path, number, lines.table).doc_id)
            if twins[0] == twins[1]:
                problem = f"duplicate document id {twins[0]!r} ({len(collisions)} in all); ids must be unique"
                raise DataFormatError("; ".join([problem, *remarks]), path=display_path)


def _parse_line(
    raw: bytes,
    path: Path,
    number: int,
    table: Table | None,
    choices: IdChoices | None = None,
    remarks: list[str] | None = None,
) -> Document:
    """The document on a line; a new choice of the id field is added to the remarks."""
    line = decode_line(raw, path, number)
    if table is not None:
        return document_from_tsv(line, path, number, table)
    record = parse_object(line, path, number, first=number == 1)
    if choices is not None and remarks is not None and (choice := choices.new(record)) is not None:
        remarks.append(f"{path}:{number}: {choice}")
    return parse_document(record, path, number)


@dataclass(frozen=True, slots=True)
class CorpusLines:
    """A file with one document per line, the corpus or its conversion; `table` describes its columns, if any."""

    path: Path
    table: Table | None
    remarks: tuple[str, ...]


def file_key(path: Path) -> str:
    """A cache key of a file: path, size, mtime and ctime (which programs cannot reset)."""
    status = path.stat()
    text = f"{path.resolve()}\0{status.st_size}\0{status.st_mtime_ns}\0{status.st_ctime_ns}"
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:16]


def corpus_lines(path: Path, cache: Path) -> CorpusLines:
    """The corpus file if it has one document per line, else its conversion in the cache."""
    if not path.is_file():
        raise DataFormatError("no such corpus file; check the path", path=path)
    folder = cache / "corpora" / f"{file_key(path)}.{COPY_FORMAT}"
    if not (folder / REMARKS).is_file():
        form = records_form(path, DOCUMENTS)
        if form.has_line_per_record:
            return CorpusLines(_plain_file(path, cache), form.table, form.remarks)
        remarks = list[str]()
        with atomic_folder(folder) as working:
            write_documents(working / COPY, read_documents(path, remarks.append))
            (working / REMARKS).write_text(json.dumps(remarks), encoding="utf-8")
    stored = json.loads((folder / REMARKS).read_text(encoding="utf-8"))
    return CorpusLines(folder / COPY, None, tuple(stored))


def _plain_file(path: Path, cache: Path) -> Path:
    """The file itself or, if it is compressed, its unpacked copy in the cache."""
    if not is_packed(path):
        return path
    target = cache / "corpora" / file_key(path) / plain_name(path)
    if not target.exists():
        with atomic_file(target) as working, open_lines(path) as packed, working.open("wb") as unpacked:
            shutil.copyfileobj(packed, unpacked)
    return target
