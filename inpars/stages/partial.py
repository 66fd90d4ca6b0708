"""What a stage that was interrupted left behind: `<output>.partial`, lines of one header and of what is done.

The header says what the lines were made from; lines of other settings or inputs are thrown away. A torn last line is
dropped. Where the work goes chunk by chunk, a line behind each chunk's lines says that it is whole.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from inpars.errors import DataFormatError
from inpars.manifest import FileStamp
from inpars.progress import Progress
from inpars.storage import (
    AppendedLines,
    read_jsonl,
    read_lines,
    read_placed_jsonl,
    storage_errors,
    to_json_line,
    write_lines,
)

CHUNK_END = "whole_chunk_of"  # the key of a line behind the lines of each chunk: how many items it had


def partial_path(output: Path) -> Path:
    """Where the lines lie until all are there."""
    return output.with_name(output.name + ".partial")


def header_line(stage: str, settings: Mapping[str, Any], inputs: Mapping[str, FileStamp]) -> str:
    """The first line of a partial file: what its lines were made from."""
    compared = {**settings, **{name: stamp.sha256 for name, stamp in inputs.items()}}
    digest = hashlib.sha256(json.dumps(compared, sort_keys=True, default=str).encode()).hexdigest()
    return to_json_line({"partial": stage, "settings": digest})


def whole_lines(stage: str, partial: Path, header: str, progress: Progress) -> int:
    """How many whole lines of these settings there are, the header among them; a file of other settings goes."""
    if not partial.exists():
        return 0
    with AppendedLines(partial) as lines:
        kept = lines.kept
    if kept and next((line for _, line in read_lines(partial)), None) == header:
        return kept
    if kept:
        progress.note(f"{stage}: {partial} was begun with other settings or inputs and is begun anew")
    remove_partial(partial)
    return 0


def chunk_ends(stage: str, partial: Path, header: str, total: int, progress: Progress) -> dict[int, int]:
    """Where the partial file's whole chunks end: items until there, and the line; none end before the first line."""
    if not whole_lines(stage, partial, header, progress):
        return {0: 0}
    ends, items = {0: 1}, 0
    for number, record in read_jsonl(partial):
        if CHUNK_END in record:
            size = record[CHUNK_END]
            if type(size) is not int:
                problem = "must be a whole number; remove this file to begin again"
                raise DataFormatError(problem, path=partial, line=number, field=CHUNK_END, excerpt=repr(size))
            items += size
            ends[items] = number
    progress.note(f"{stage}: going on where the last run stopped, {items} of {total} are done")
    return ends


def open_partial(partial: Path, header: str, keep_lines: int) -> AppendedLines:
    """The file for appending after `keep_lines` lines; a new one begins with the header."""
    lines = AppendedLines(partial, keep_lines=keep_lines)
    if not lines.kept:
        lines.append([header])
    return lines


def remove_partial(partial: Path) -> None:
    """The work is done, or of no use."""
    with storage_errors(partial):
        partial.unlink(missing_ok=True)


def write_in_order(partial: Path, output: Path, doc_ids: Iterable[str]) -> list[int]:
    """The partial file's lines in the order of the documents, as the output, and how many each has.

    The partial file is left. Lines are looked up by their place in it, so that memory holds a number for each.
    """
    starts: dict[str, list[int]] = {}
    for start, number, record in read_placed_jsonl(partial):
        doc_id = record.get("doc_id")  # the first line and the ends of chunks have none
        if doc_id is not None and not isinstance(doc_id, str):
            problem = "must be text; remove this file to begin again"
            raise DataFormatError(problem, path=partial, line=number, field="doc_id", excerpt=repr(doc_id))
        if doc_id is not None:
            starts.setdefault(doc_id, []).append(start)
    counts: list[int] = []

    def lines() -> Iterator[str]:
        with partial.open("rb") as stream:
            for doc_id in doc_ids:
                own = starts.get(doc_id, ())
                counts.append(len(own))
                for start in own:
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
