"""Corpora on disk: streamed in order, looked up by id, never held in memory.

A plain `.jsonl` or `.tsv` file is used where it lies; other forms are unpacked into the cache once. Beside the cache's
copy lies an index of two memory-mapped arrays (sorted 64-bit hashes of the ids, byte offsets): 16 bytes a document.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import shutil
from array import array
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from inpars.errors import DataFormatError
from inpars.formats import document_from_tsv, is_tsv, parse_document, read_documents, write_documents
from inpars.records import Document
from inpars.storage import broken_json, decode_line, is_gzip, open_lines, replace_folder, storage_errors

INDEX_FORMAT = 1
UNKNOWN_ID_HINT = "the ids of this file belong to another corpus"


class Corpus:
    """Documents of one file; iterate for all in file order, `corpus[doc_id]` for one.

    Raises DataFormatError when opened on a file that is empty, or has duplicate or missing ids.
    """

    def __init__(self, path: Path, cache: Path | None = None) -> None:
        """Open a corpus file and build its index where it lacks one."""
        self.path = path
        plain = _plain_file(path, cache or cache_folder())
        self._plain = plain
        self._hashes, self._offsets, self.sha256 = _index(plain, path, cache or cache_folder())
        with plain.open("rb") as stream:
            self._bytes = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)

    def __len__(self) -> int:
        return len(self._hashes)

    def __iter__(self) -> Iterator[Document]:
        return read_documents(self._plain)

    def __contains__(self, doc_id: object) -> bool:
        return isinstance(doc_id, str) and self._find(doc_id) is not None

    def __getitem__(self, doc_id: str) -> Document:
        document = self._find(doc_id)
        if document is None:
            raise DataFormatError(f"no document {doc_id!r}; {UNKNOWN_ID_HINT}", path=self.path)
        return document

    def texts(self, doc_ids: Iterable[str]) -> list[str]:
        """Title and text of each document, in the order asked for."""
        return [self[doc_id].full_text for doc_id in doc_ids]

    def at(self, position: int) -> Document:
        """The document at a position of an order that is arbitrary but fixed; for sampling without a full read."""
        return self._read(int(self._offsets[position]))

    def _find(self, doc_id: str) -> Document | None:
        key = np.uint64(_hash(doc_id))
        first = int(np.searchsorted(self._hashes, key))
        while first < len(self._hashes) and self._hashes[first] == key:
            document = self._read(int(self._offsets[first]))
            if document.doc_id == doc_id:
                return document
            first += 1
        return None

    def _read(self, offset: int) -> Document:
        end = self._bytes.find(b"\n", offset)
        return _parse_line(self._bytes[offset : end if end >= 0 else None], self._plain, 1 if offset == 0 else 2)


def cache_folder() -> Path:
    """Where converted models, unpacked corpora and indexes are kept: INPARS_CACHE or the user's cache folder."""
    configured = os.environ.get("INPARS_CACHE")
    if configured:
        return Path(configured)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "inpars"


def cached_corpus(key: str, documents: Callable[[], Iterable[Document]], cache: Path | None = None) -> Corpus:
    """A corpus whose documents come from elsewhere, written to the cache under `key` the first time."""
    folder = (cache or cache_folder()) / "corpora" / hashlib.sha256(key.encode()).hexdigest()[:16]
    path = folder / "corpus.jsonl"
    if not path.exists():
        with storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        write_documents(path, documents())
    return Corpus(path, cache)


def _plain_file(path: Path, cache: Path) -> Path:
    """The file itself, or its unpacked copy in the cache."""
    if not path.is_file():
        raise DataFormatError("no such corpus file; check the path", path=path)
    if not is_gzip(path):
        return path
    target = cache / "corpora" / _file_key(path) / path.name.removesuffix(".gz")
    if not target.exists():
        with storage_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_name(f".{target.name}.{os.getpid()}.tmp")
            try:
                with open_lines(path) as packed, partial.open("wb") as unpacked:
                    shutil.copyfileobj(packed, unpacked)
                partial.replace(target)
            finally:
                partial.unlink(missing_ok=True)
    return target


def _index(plain: Path, shown: Path, cache: Path) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64], str]:
    """Sorted id hashes, the offset of each one's line, and the file's SHA-256; built once a file."""
    folder = cache / "indexes" / _file_key(plain)
    if not (folder / "meta.json").exists():
        _build_index(plain, shown, folder)
    meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    hashes = np.load(folder / "hashes.npy", mmap_mode="r")
    return hashes, np.load(folder / "offsets.npy", mmap_mode="r"), meta["sha256"]


def _build_index(plain: Path, shown: Path, folder: Path) -> None:
    hashes, offsets, sha256 = _scan(plain, shown)
    if not len(hashes):
        raise DataFormatError("the corpus is empty; it needs at least one document", path=shown)
    order = np.argsort(hashes, kind="stable")
    hashes, offsets = hashes[order], offsets[order]
    _reject_duplicates(hashes, offsets, plain, shown)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    with storage_errors(folder):
        temporary.mkdir(parents=True, exist_ok=True)
        np.save(temporary / "hashes.npy", hashes)
        np.save(temporary / "offsets.npy", offsets)
        (temporary / "meta.json").write_text(json.dumps({"sha256": sha256, "documents": len(hashes)}), encoding="utf-8")
    replace_folder(temporary, folder)


def _scan(plain: Path, shown: Path) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64], str]:
    hashes, offsets, digest, offset = array("Q"), array("Q"), hashlib.sha256(), 0
    with plain.open("rb") as stream:
        for number, raw in enumerate(stream, start=1):
            digest.update(raw)
            if raw.strip():
                hashes.append(_hash(_parse_line(raw, shown, number).doc_id))
                offsets.append(offset)
            offset += len(raw)
    return np.array(hashes, dtype=np.uint64), np.array(offsets, dtype=np.uint64), digest.hexdigest()


def _reject_duplicates(
    hashes: npt.NDArray[np.uint64], offsets: npt.NDArray[np.uint64], plain: Path, shown: Path
) -> None:
    collisions = np.flatnonzero(hashes[1:] == hashes[:-1])
    if not len(collisions):
        return
    with plain.open("rb") as stream:
        for position in collisions:
            twins = []
            for offset in offsets[position : position + 2]:
                stream.seek(int(offset))
                twins.append(_parse_line(stream.readline(), plain, 1 if offset == 0 else 2).doc_id)
            if twins[0] == twins[1]:
                raise DataFormatError(
                    f"duplicate document id {twins[0]!r} ({len(collisions)} in all); ids must be unique", path=shown
                )


def _parse_line(raw: bytes, path: Path, number: int) -> Document:
    line = decode_line(raw, path, number)
    if is_tsv(path):
        return document_from_tsv(line, path, number)
    try:
        record: Any = json.loads(line)
    except json.JSONDecodeError as error:
        raise broken_json(path, number, error, line) from None
    if not isinstance(record, dict):
        raise DataFormatError("not a JSON object", path=path, line=number, excerpt=line)
    return parse_document(record, path, number)


def _file_key(path: Path) -> str:
    """A cache key that changes when the file does: place, size and time of change."""
    status = path.stat()
    text = f"{INDEX_FORMAT}\0{path.resolve()}\0{status.st_size}\0{status.st_mtime_ns}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _hash(doc_id: str) -> int:
    return int.from_bytes(hashlib.blake2b(doc_id.encode(), digest_size=8).digest(), "little")
