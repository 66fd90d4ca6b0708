"""Turn files into documents: read, drop boilerplate, cut, drop duplicates; count what is dropped.

Unreadable files are reported and skipped. Memory holds about 256 bytes per chunk, and the questions of collections that
have them.

The cache keeps each file's blocks under a hash of its bytes, reader and reading options, and its chunks under a hash of
these and the cutting options. Only files that changed are read again.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from inpars.documents.blocks import Block, FileNotes
from inpars.documents.boilerplate import Edges, repeated, without
from inpars.documents.chunks import MAX_TOKENS, OVERLAP, Chunk, TokenCounter, chunks, token_counter
from inpars.documents.folder import SourceFile, as_id
from inpars.documents.readers import EMPTY, READERS_FORMAT, ReadOptions, kind_of, suffix_of
from inpars.errors import ConfigError, InparsError, UnreadableFileError
from inpars.io.json_text import replace_surrogates
from inpars.io.storage import atomic_folder, write_jsonl
from inpars.options import FlagGroup, option
from inpars.progress import SILENT, Progress
from inpars.records import Document, Qrels
from inpars.text.hashing import key64
from inpars.text.minhash import NearDuplicateClusters

BLOCKS, CHUNKS, NOTES = "blocks.jsonl", "chunks.jsonl", "notes.json"


@dataclass(frozen=True, kw_only=True)  # without slots, which would not let IngestOptions have several bases
class ChunkOptions:
    """How texts are cut into documents, and which documents are dropped."""

    FLAG_GROUP: ClassVar = FlagGroup("files")

    max_tokens: int = option(MAX_TOKENS, help="maximum tokens per passage cut from a file", minimum=1)
    overlap: int = option(OVERLAP, help="tokens shared by neighbouring passages, in whole sentences", minimum=0)
    tokenizer: str | None = option(
        None,
        help="model whose tokens are counted (embedded name, folder or hub id), or words (default: minilm if "
        "installed, else words)",
    )
    drop_boilerplate: bool = option(True, help="drop headers and footers that many files or pages share")
    drop_near_duplicates: bool = option(True, help="keep only the first of near-duplicate documents")


@dataclass(frozen=True, slots=True)
class Extracted:
    """The text extracted from a file; its blocks stay on disk."""

    key: str
    folder: Path
    kind: str
    count: int  # blocks
    edges: list[int]
    title: str
    dropped: dict[str, int]
    remarks: list[str]
    questions: list[dict[str, Any]]
    fresh: bool  # not from the cache

    def blocks(self) -> Iterator[Block]:
        """The blocks in reading order."""
        for row in _rows(self.folder / BLOCKS):
            yield Block(**(row | {"headings": tuple(row.get("headings", ()))}))


@dataclass(slots=True)
class Collected:
    """The result for all files; counts are complete once all documents were iterated."""

    files: list[_CutFile]
    keep: npt.NDArray[np.bool_]
    unreadable: dict[str, list[str]]  # reason -> names
    remarks: dict[str, list[str]]  # name -> remarks
    dropped: Counter[str]
    read_anew: int
    queries: dict[str, str] = field(default_factory=dict)
    qrels: Qrels = field(default_factory=dict)

    def documents(self) -> Iterator[Document]:
        """The documents in file order; also fills `queries` and `qrels`."""
        start, keys = 0, Counter[str]()
        for file in self.files:
            written: list[tuple[str, Chunk]] = []
            numbers = Counter[str]()
            for position, chunk in enumerate(read_chunks(file.path), start=start):
                start += 1
                doc_id = _doc_id(file.file.name, chunk, keys if chunk.key else numbers)
                if self.keep[position]:
                    title = file.extracted.title or file.file.title
                    yield chunk.as_document(doc_id, file.file.source, title)
                    if file.extracted.questions:
                        written.append((doc_id, chunk))
            self._judge(file.extracted.questions, written)

    def _judge(self, questions: Sequence[dict[str, Any]], chunks: Sequence[tuple[str, Chunk]]) -> None:
        """Judge the documents that contain an answer relevant to its question."""
        by_record: dict[int | None, list[tuple[str, Chunk]]] = {}
        for doc_id, chunk in chunks:
            by_record.setdefault(chunk.record, []).append((doc_id, chunk))
        for question in questions:
            doc_ids = _with_answer(question["answers"], by_record.get(question["record"], []))
            if doc_ids:
                self.queries[question["id"]] = question["text"]
                self.qrels[question["id"]] = dict.fromkeys(doc_ids, 1)
            else:
                self.dropped["question_without_document" if question["answers"] else "question_without_answer"] += 1


@dataclass(frozen=True, slots=True)
class _CutFile:
    """A file, its text and the path of its chunks."""

    file: SourceFile
    extracted: Extracted
    path: Path


def collect(
    files: Sequence[SourceFile],
    reading: ReadOptions,
    cutting: ChunkOptions,
    tokenizer: str,
    *,
    cache: Path,
    progress: Progress = SILENT,
) -> Collected:
    """Read and cut all files, using the cache."""
    if cutting.overlap >= cutting.max_tokens:
        raise ConfigError(f"--overlap is {cutting.overlap}; it must be below --max-tokens {cutting.max_tokens}")
    unreadable: dict[str, list[str]] = {}
    read: list[tuple[SourceFile, Extracted]] = []
    for file in progress.track(files, total=len(files), description="read", unit="files"):
        try:
            read.append((file, extract(file, reading, cache)))
        except UnreadableFileError as error:
            unreadable.setdefault(error.reason, []).append(file.name)
    dropped: Counter[str] = Counter()
    for _, extracted in read:
        dropped.update(extracted.dropped)
    cut_files = list(_cut(read, cutting, tokenizer, cache, dropped, progress))
    keep = _unique_chunks(cut_files, cutting, dropped, progress)
    remarks = {file.name: extracted.remarks for file, extracted in read if extracted.remarks}
    return Collected(cut_files, keep, unreadable, remarks, dropped, sum(extracted.fresh for _, extracted in read))


def _cut(
    read: Sequence[tuple[SourceFile, Extracted]],
    options: ChunkOptions,
    tokenizer: str,
    cache: Path,
    dropped: Counter[str],
    progress: Progress,
) -> Iterator[_CutFile]:
    """The chunks of each file, without boilerplate."""
    unwanted = _boilerplate(read) if options.drop_boilerplate else {}
    counters: list[TokenCounter] = []  # empty until the tokenizer is needed

    def make(extracted: Extracted, keys: list[int]) -> Iterator[Chunk]:
        counters.extend([] if counters else [token_counter(tokenizer)])
        blocks = without(extracted.blocks(), extracted.count, set(keys))
        return chunks(blocks, counters[0], max_tokens=options.max_tokens, overlap=options.overlap)

    tracked = progress.track(read, total=len(read), description="cut", unit="files")
    for number, (file, extracted) in enumerate(tracked):
        keys = unwanted.get(number, [])
        settings = [tokenizer, options.max_tokens, options.overlap, keys]
        path = cached_chunks(extracted, settings, lambda e=extracted, k=keys: make(e, k))  # type: ignore[misc]
        dropped["boilerplate"] += len(keys)
        yield _CutFile(file, extracted, path)


def _boilerplate(read: Sequence[tuple[SourceFile, Extracted]]) -> dict[int, list[int]]:
    """The keys of each file's boilerplate blocks, by the file's number; copies of a file count once."""
    unwanted: dict[int, list[int]] = {}
    for kind in {extracted.kind for _, extracted in read}:
        numbers: dict[str, int] = {}
        for number, (_, extracted) in enumerate(read):
            if extracted.kind == kind:
                numbers.setdefault(extracted.key, number)
        distinct = list(numbers.values())
        first_files = repeated(read[number][1].edges for number in distinct)
        for position, number in enumerate(distinct):
            keys = [key for key in read[number][1].edges if first_files.get(key, position) != position]
            if keys:
                unwanted[number] = keys
    return unwanted


def _unique_chunks(
    files: Sequence[_CutFile], options: ChunkOptions, dropped: Counter[str], progress: Progress
) -> npt.NDArray[np.bool_]:
    """Mask of the chunks that neither equal nor resemble an earlier one, in file order."""
    keys, near_duplicates = array("Q"), NearDuplicateClusters()
    for file in progress.track(files, total=len(files), description="compare", unit="files"):
        for chunk in read_chunks(file.path):
            text = f"{chunk.title} {chunk.text}"  # the record's title, which may be all that differs
            keys.append(key64(" ".join(text.split()).casefold()))
            if options.drop_near_duplicates:
                near_duplicates.add(text)
    keep = np.zeros(len(keys), dtype=np.bool_)
    keep[np.unique(np.frombuffer(keys, dtype=np.uint64), return_index=True)[1]] = True
    dropped["duplicate"] += int((~keep).sum())
    if options.drop_near_duplicates:
        repeats = near_duplicates.repeats() & keep
        dropped["near_duplicate"] += int(repeats.sum())
        keep &= ~repeats
    return keep


def _doc_id(file_name: str, chunk: Chunk, counts: Counter[str]) -> str:
    """The record's id, numbered from its second document on; else the file's name and a number."""
    name = (chunk.key if len(chunk.key.split()) == 1 else as_id(chunk.key)) or file_name
    counts[name] += 1
    return name if chunk.key and counts[name] == 1 else f"{name}#{counts[name]}"


def _with_answer(answers: Sequence[Sequence[int]], chunks: Sequence[tuple[str, Chunk]]) -> list[str]:
    """The documents that contain a whole answer; if none does, those with a part of one."""
    whole = [doc_id for doc_id, chunk in chunks if any(chunk.start <= a and b <= chunk.end for a, b in answers)]
    return whole or [doc_id for doc_id, chunk in chunks if any(chunk.start < b and a < chunk.end for a, b in answers)]


def extract(file: SourceFile, options: ReadOptions, cache: Path) -> Extracted:
    """The text of a file, from the cache if possible. Raises UnreadableFileError."""
    kind = kind_of(file.path, options)
    if kind is None:
        raise UnreadableFileError("of no kind that is read", path=file.path)
    settings = [file.sha256, suffix_of(file.path), kind.reader, kind.version, READERS_FORMAT]
    settings += [getattr(options, field.name) for field in fields(ReadOptions)]  # without fields of subclasses
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
    """The path of a file's chunks in the cache, cut if they are not there."""
    folder = extracted.folder.with_name(_key([extracted.key, settings]))
    if not (folder / CHUNKS).exists():
        with atomic_folder(folder) as working:
            write_jsonl(working / CHUNKS, ({k: v for k, v in asdict(chunk).items() if v} for chunk in make()))
    return folder / CHUNKS


def read_chunks(path: Path) -> Iterator[Chunk]:
    """The chunks stored by `cached_chunks`."""
    for row in _rows(path):
        yield Chunk(**({"start": 0} | row | {"headings": tuple(row.get("headings", ()))}))


def _key(parts: Any) -> str:  # noqa: ANN401
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()[:24]


def _block_row(block: Block) -> dict[str, Any]:
    """A block's non-empty fields; surrogates from broken PDFs and web pages are replaced."""
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
    """A reader's blocks. Raises UnreadableFileError for any error of its libraries."""
    try:
        yield from read()
    except InparsError:
        raise
    except OSError as error:
        raise UnreadableFileError(f"cannot be opened ({error.strerror or error})", path=path) from None
    except (Exception, RecursionError) as error:
        reason = (str(error).strip().splitlines() or [""])[0]
        raise UnreadableFileError(f"damaged ({type(error).__name__} {reason})".strip(), path=path) from error
