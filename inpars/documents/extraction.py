"""What was read out of a file, kept in the cache: only files that changed, or are read otherwise, are read again.

A file's blocks lie under a key of its bytes, its reader and the reader's settings, its chunks under one of these and
whatever decides how they are cut. Entries are written aside and put in place whole: a killed run leaves none torn.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from inpars.documents.blocks import Block, FileNotes
from inpars.documents.boilerplate import Edges
from inpars.documents.chunks import Chunk
from inpars.documents.folder import SourceFile
from inpars.documents.readers import EMPTY, READERS_FORMAT, ReadOptions, kind_of, suffix_of
from inpars.errors import InparsError, UnreadableFileError
from inpars.io.json_text import replace_surrogates
from inpars.io.storage import atomic_folder, write_jsonl

BLOCKS, CHUNKS, NOTES = "blocks.jsonl", "chunks.jsonl", "notes.json"


@dataclass(frozen=True, slots=True)
class Extracted:
    """A file that was read; its blocks stay on disk."""

    key: str
    folder: Path
    kind: str
    count: int  # blocks
    edges: list[int]
    title: str
    dropped: dict[str, int]
    remarks: list[str]
    questions: list[dict[str, Any]]
    fresh: bool  # read just now

    def blocks(self) -> Iterator[Block]:
        """The blocks in reading order."""
        for row in _rows(self.folder / BLOCKS):
            yield Block(**(row | {"headings": tuple(row.get("headings", ()))}))


def extract(file: SourceFile, options: ReadOptions, cache: Path) -> Extracted:
    """A file's blocks, from the cache where it was read before. Raises UnreadableFileError."""
    kind = kind_of(file.path, options)
    if kind is None:
        raise UnreadableFileError("of no kind that is read", path=file.path)
    settings = [file.sha256, suffix_of(file.path), kind.reader, kind.version, READERS_FORMAT]
    settings += [getattr(options, field.name) for field in fields(ReadOptions)]  # and not what a subclass adds
    key = _key(settings)
    folder = cache / "documents" / key
    fresh = not (folder / NOTES).exists()
    if fresh:
        with atomic_folder(folder) as working:
            notes, edges = FileNotes(), Edges()
            blocks = edges.watch(_guarded(lambda: kind.read(file.path, notes, options), file.path))
            write_jsonl(working / BLOCKS, map(_block_row, blocks))
            if not edges.count:
                raise UnreadableFileError(EMPTY, path=file.path)
            stored = {"count": edges.count, "edges": edges.keys, "kind": kind.name, "dropped": dict(+notes.dropped)}
            stored |= {"title": replace_surrogates(notes.title), "remarks": notes.remarks, "questions": notes.questions}
            (working / NOTES).write_text(json.dumps(stored, ensure_ascii=True), encoding="utf-8")
    stored = json.loads((folder / NOTES).read_text(encoding="utf-8"))
    return Extracted(key=key, folder=folder, fresh=fresh, **stored)


def cached_chunks(extracted: Extracted, settings: Sequence[Any], make: Callable[[], Iterable[Chunk]]) -> Path:
    """The file of a file's chunks, made where they were not cut with these settings before."""
    folder = extracted.folder.with_name(_key([extracted.key, settings]))
    if not (folder / CHUNKS).exists():
        with atomic_folder(folder) as working:
            write_jsonl(working / CHUNKS, ({k: v for k, v in asdict(chunk).items() if v} for chunk in make()))
    return folder / CHUNKS


def read_chunks(path: Path) -> Iterator[Chunk]:
    """The chunks of one file."""
    for row in _rows(path):
        yield Chunk(**({"start": 0} | row | {"headings": tuple(row.get("headings", ()))}))


def _key(parts: Any) -> str:  # noqa: ANN401
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()[:24]


def _block_row(block: Block) -> dict[str, Any]:
    """The fields that say something; surrogates, which broken PDF and web pages yield, are replaced."""
    row = {name: value for name, value in asdict(block).items() if value or name == "start"}
    return row | {
        "text": replace_surrogates(block.text).replace("\0", " "),
        "headings": [replace_surrogates(heading) for heading in block.headings],
    }


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8", newline="\n") as stream:
        for line in stream:
            yield json.loads(line)


def _guarded(read: Callable[[], Iterator[Block]], path: Path) -> Iterator[Block]:
    """The blocks of a reader; whatever the libraries below raise about a file becomes one error that names it."""
    try:
        yield from read()
    except InparsError:
        raise
    except OSError as error:
        raise UnreadableFileError(f"cannot be opened ({error.strerror or error})", path=path) from None
    except (Exception, RecursionError) as error:
        reason = (str(error).strip().splitlines() or [""])[0]
        raise UnreadableFileError(f"damaged ({type(error).__name__} {reason})".strip(), path=path) from error
