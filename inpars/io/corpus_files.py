"""Converts corpus files to one document per line, in the cache. Knows nothing of indexes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from inpars.errors import DataFormatError
from inpars.io.formats import read_documents, write_documents
from inpars.io.packing import is_packed, plain_name
from inpars.io.record_files import records_form
from inpars.io.storage import atomic_file, atomic_folder, open_lines
from inpars.io.tables import DOCUMENTS, Table

COPY, REMARKS = "corpus.jsonl", "remarks.json"
COPY_FORMAT = "records-1"  # change it where copies become others


@dataclass(frozen=True, slots=True)
class CorpusLines:
    """A file with one document per line: the corpus or its conversion; `table` describes a table's columns."""

    path: Path
    table: Table | None
    remarks: tuple[str, ...]


def file_key(path: Path) -> str:
    """A cache key that changes when the file does: place, size and time of change."""
    status = path.stat()
    text = f"{path.resolve()}\0{status.st_size}\0{status.st_mtime_ns}"
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:16]


def corpus_lines(path: Path, cache: Path) -> CorpusLines:
    """The file itself if it has one document per line, else its conversion in the cache."""
    if not path.is_file():
        raise DataFormatError("no such corpus file; check the path", path=path)
    folder = cache / "corpora" / f"{file_key(path)}.{COPY_FORMAT}"
    if (copy := _copy(folder)) is not None:
        return copy
    form = records_form(path, DOCUMENTS)
    if form.has_line_per_record:
        return CorpusLines(_plain_file(path, cache), form.table, form.remarks)
    _write_copy(path, folder)
    return _copy(folder) or CorpusLines(path, None, ())


def _copy(folder: Path) -> CorpusLines | None:
    """The JSON lines that a file of another form was converted to."""
    if not (folder / REMARKS).is_file():
        return None
    remarks = json.loads((folder / REMARKS).read_text(encoding="utf-8"))
    return CorpusLines(folder / COPY, None, tuple(remarks))


def _write_copy(path: Path, folder: Path) -> None:
    remarks = list[str]()
    with atomic_folder(folder) as working:
        write_documents(working / COPY, read_documents(path, remarks.append))
        (working / REMARKS).write_text(json.dumps(remarks), encoding="utf-8")


def _plain_file(path: Path, cache: Path) -> Path:
    """The file itself, or its unpacked copy in the cache."""
    if not is_packed(path):
        return path
    target = cache / "corpora" / file_key(path) / plain_name(path)
    if not target.exists():
        with atomic_file(target) as working, open_lines(path) as packed, working.open("wb") as unpacked:
            shutil.copyfileobj(packed, unpacked)
    return target
