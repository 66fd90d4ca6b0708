"""The partial file of an interrupted stage, `<output>.partial`: a header, then finished lines.

The header identifies settings and inputs; a file with another header is removed. A truncated last line is dropped. In
stages that work chunk by chunk, a line after each chunk's lines marks it as complete. `ScoreCache` stores the scores of
a scorer that gets the same pairs in the same batches again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inpars.errors import DataFormatError
from inpars.io.fields import list_of, number_of
from inpars.io.manifest import FileStamp
from inpars.io.storage import (
    AppendedLines,
    read_jsonl,
    read_jsonl_with_offsets,
    read_lines,
    storage_errors,
    to_json_line,
    write_lines,
)
from inpars.options import result_settings
from inpars.progress import Progress
from inpars.protocols import PairScorer

CHUNK_END = "whole_chunk_of"  # the key of the line after each chunk: its number of items


def partial_path(output: Path) -> Path:
    """The partial file of an output."""
    return output.with_name(output.name + ".partial")


def header_line(stage: str, settings: Mapping[str, Any], inputs: Mapping[str, FileStamp]) -> str:
    """The first line of a partial file, which identifies settings and inputs."""
    compared = {**settings, **{name: stamp.sha256 for name, stamp in inputs.items()}}
    digest = hashlib.sha256(json.dumps(compared, sort_keys=True, default=str).encode()).hexdigest()
    return to_json_line({"partial": stage, "settings": digest})


@dataclass(frozen=True, slots=True)
class Partial:
    """The partial file of a stage's output or of one of its shards."""

    stage: str
    path: Path
    header: str
    progress: Progress

    @classmethod
    def of(
        cls, stage: str, options: object, inputs: Mapping[str, FileStamp], output: Path, progress: Progress
    ) -> Partial:
        return cls(stage, partial_path(output), header_line(stage, result_settings(options), inputs), progress)

    def kept(self) -> int:
        """The number of whole lines after the header; removes a file with another header."""
        if not self.path.exists():
            return 0
        with AppendedLines(self.path) as lines:
            kept = lines.kept
        if kept and next((line for _, line in read_lines(self.path)), None) == self.header:
            return kept - 1
        if kept:
            self.progress.note(
                f"{self.stage}: {self.path}: settings or inputs changed since the interrupted run; starting over"
            )
        remove_partial(self.path)
        return 0

    def records(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """The lines after the header, with their line numbers."""
        return ((number, record) for number, record in read_jsonl(self.path) if number > 1)

    def chunk_ends(self, total: int) -> dict[int, int]:
        """Line counts at the ends of whole chunks, by the number of items up to there; always includes 0 items."""
        ends, items = {0: 0}, 0
        if not self.kept() and not self.path.exists():  # otherwise it was begun, without a whole line
            return ends
        for number, record in self.records():
            if CHUNK_END in record:
                size = record[CHUNK_END]
                if type(size) is not int:
                    problem = "must be a whole number; remove this file to start over"
                    raise DataFormatError(problem, path=self.path, line=number, field=CHUNK_END, excerpt=repr(size))
                items += size
                ends[items] = number - 1
        self.progress.note(f"{self.stage}: resuming, {items} of {total} are done")
        return ends

    def append(self, keep: int) -> AppendedLines:
        """The file, opened for appending after the header and `keep` lines."""
        lines = AppendedLines(self.path, keep_lines=keep + 1 if keep else 0)
        if not lines.kept:
            lines.append([self.header])
        return lines


def remove_partial(partial: Path) -> None:
    """Remove a partial file that is finished or unusable."""
    with storage_errors(partial):
        partial.unlink(missing_ok=True)


def write_in_order(partial: Path, output: Path, doc_ids: Iterable[str]) -> list[int]:
    """Write the partial file's lines to the output in the order of the documents; returns each document's line count.

    Keeps the partial file. Memory holds only the byte offset of each line.
    """
    starts: dict[str, list[int]] = {}
    for start, number, record in read_jsonl_with_offsets(partial):
        doc_id = record.get("doc_id")  # missing in the header and chunk ends
        if doc_id is not None and not isinstance(doc_id, str):
            problem = "must be text; remove this file to start over"
            raise DataFormatError(problem, path=partial, line=number, field="doc_id", excerpt=repr(doc_id))
        if doc_id is not None:
            starts.setdefault(doc_id, []).append(start)
    counts: list[int] = []

    def lines() -> Iterator[str]:
        with partial.open("rb") as stream:
            for doc_id in doc_ids:
                line_starts = starts.get(doc_id, ())
                counts.append(len(line_starts))
                for start in line_starts:
                    stream.seek(start)
                    yield _text(stream.readline(), partial)

    write_lines(output, lines())
    return counts


def _text(raw: bytes, partial: Path) -> str:
    try:
        return raw.decode().removesuffix("\n")
    except UnicodeDecodeError as error:
        problem = f"not UTF-8 at byte {error.start} of a line; remove this file and run the same command again"
        raise DataFormatError(problem, path=partial) from None


class ScoreCache:
    """A `PairScorer` that caches another one's scores in a partial file."""

    def __init__(self, partial: Partial, make_scorer: Callable[[], PairScorer]) -> None:
        """Resume from the partial file, if it matches."""
        self.name, self._make_scorer = "remembered", make_scorer
        self._partial, self.path = partial, partial.path
        batches = partial.kept()
        if batches:
            partial.progress.note(f"{partial.stage}: resuming, {batches} batches of scores are stored")
        self._known: Iterator[tuple[int, dict[str, Any]]] = partial.records() if batches else iter(())
        self._used = 0
        self._lines: AppendedLines | None = None
        self._scorer: PairScorer | None = None

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        if not pairs:
            return []
        digest = _digest(pairs)
        known = next(self._known, (0, {}))
        if known[1].get("pairs") == digest:
            self._used += 1
            return self._scores(*known, len(pairs))
        self._known = iter(())  # cached scores after a batch that differs are not used
        if self._lines is None:
            self._lines = self._partial.append(self._used)
            self._scorer = self._make_scorer()
        assert self._scorer is not None
        scores = self._scorer.score(pairs)
        self._lines.append([to_json_line({"pairs": digest, "scores": scores})])
        return scores

    def _scores(self, line: int, row: Mapping[str, Any], count: int) -> list[float]:
        """The stored scores of a batch. Raises DataFormatError if they were edited."""
        scores = [number_of(score, "scores", self.path, line) for score in list_of(row, "scores", self.path, line)]
        if len(scores) != count:
            problem = f"{len(scores)} scores for {count} pairs; remove this file to start over"
            raise DataFormatError(problem, path=self.path, line=line)
        return scores

    def close(self) -> None:
        """Close the partial file and keep it."""
        self._known = iter(())
        if self._lines is not None:
            self._lines.close()

    def __enter__(self) -> ScoreCache:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _digest(pairs: Sequence[tuple[str, str]]) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for query, document in pairs:
        for text in (query, document):
            digest.update(f"{len(text)}\0{text}".encode())
    return digest.hexdigest()
