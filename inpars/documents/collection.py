"""From files to documents: read, freed of boilerplate, cut, freed of repetitions; what is dropped is counted.

Files that cannot be read are named and the rest goes on. In memory are numbers, 256 bytes a chunk, and the questions of
collections that have them. Knows nothing of manifests.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from inpars.documents.boilerplate import repeated, without
from inpars.documents.chunks import MAX_TOKENS, OVERLAP, Chunk, TokenCounter, chunks, token_counter
from inpars.documents.extraction import Extracted, cached_chunks, extract, read_chunks
from inpars.documents.folder import SourceFile, as_id
from inpars.documents.readers import ReadOptions
from inpars.errors import ConfigError, UnreadableFileError
from inpars.io.json_text import replace_surrogates
from inpars.options import FlagGroup, option
from inpars.progress import SILENT, Progress
from inpars.records import Document, Qrels
from inpars.text.hashing import key64
from inpars.text.minhash import NearDuplicateClusters


@dataclass(frozen=True, kw_only=True)  # without slots, which would not let IngestOptions have several bases
class ChunkOptions:
    """How files' texts are cut into documents, and which of these are dropped."""

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


@dataclass(slots=True)
class Collected:
    """What files gave; the counts are complete once the documents were all read."""

    files: list[_CutFile]
    keep: npt.NDArray[np.bool_]
    unreadable: dict[str, list[str]]  # reason -> names
    remarks: dict[str, list[str]]  # name -> remarks
    dropped: Counter[str]
    read_anew: int
    queries: dict[str, str] = field(default_factory=dict)
    qrels: Qrels = field(default_factory=dict)

    def documents(self) -> Iterator[Document]:
        """The documents in the order of the files; questions are judged on the way."""
        start, keys = 0, Counter[str]()
        for file in self.files:
            written: list[tuple[str, Chunk]] = []
            numbers = Counter[str]()
            for position, chunk in enumerate(read_chunks(file.path), start=start):
                start += 1
                doc_id = _doc_id(file.file.name, chunk, keys if chunk.key else numbers)
                if self.keep[position]:
                    title = file.extracted.title or replace_surrogates(file.file.path.stem)
                    yield chunk.as_document(doc_id, file.file.source, title)
                    if file.extracted.questions:
                        written.append((doc_id, chunk))
            self._judge(file.extracted.questions, written)

    def _judge(self, questions: Sequence[dict[str, Any]], chunks: Sequence[tuple[str, Chunk]]) -> None:
        """Each question that has answers, with the documents that hold one."""
        by_record: dict[int | None, list[tuple[str, Chunk]]] = {}
        for doc_id, chunk in chunks:
            by_record.setdefault(chunk.record, []).append((doc_id, chunk))
        for question in questions:
            doc_ids = _holding(question["answers"], by_record.get(question["record"], []))
            if doc_ids:
                self.queries[question["id"]] = question["text"]
                self.qrels[question["id"]] = dict.fromkeys(doc_ids, 1)
            else:
                self.dropped["question_without_document" if question["answers"] else "question_without_answer"] += 1


@dataclass(frozen=True, slots=True)
class _CutFile:
    """A file, its extracted text, and the path of its chunks."""

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
    """Read and cut all files; nothing that was done before is done again."""
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
    """The chunks of each file without what it shares with many others of its kind."""
    unwanted = _boilerplate(read) if options.drop_boilerplate else {}
    counters: list[TokenCounter] = []  # the tokenizer is loaded once there is something to cut

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
    """For each file by its number the keys of blocks it is to lose; copies of a file count once."""
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
    """Which chunks neither equal nor resemble an earlier one, in the order of the files."""
    keys, looked_at = array("Q"), NearDuplicateClusters()
    for file in progress.track(files, total=len(files), description="compare", unit="files"):
        for chunk in read_chunks(file.path):
            keys.append(key64(" ".join(chunk.text.split()).casefold()))
            if options.drop_near_duplicates:
                looked_at.add(chunk.text)
    keep = np.zeros(len(keys), dtype=np.bool_)
    keep[np.unique(np.frombuffer(keys, dtype=np.uint64), return_index=True)[1]] = True
    dropped["duplicate"] += int((~keep).sum())
    if options.drop_near_duplicates:
        repeats = looked_at.repeats() & keep
        dropped["near_duplicate"] += int(repeats.sum())
        keep &= ~repeats
    return keep


def _doc_id(file_name: str, chunk: Chunk, counts: Counter[str]) -> str:
    """The record's own id, numbered where it became several documents; else the file's name and a number."""
    name = as_id(chunk.key) or file_name
    counts[name] += 1
    return name if chunk.key and counts[name] == 1 else f"{name}#{counts[name]}"


def _holding(answers: Sequence[Sequence[int]], chunks: Sequence[tuple[str, Chunk]]) -> list[str]:
    """Documents with a whole answer, or where sentences were cut apart with a part of one."""
    whole = [doc_id for doc_id, chunk in chunks if any(chunk.start <= a and b <= chunk.end for a, b in answers)]
    return whole or [doc_id for doc_id, chunk in chunks if any(chunk.start < b and a < chunk.end for a, b in answers)]
