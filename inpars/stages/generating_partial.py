"""What a generation that was interrupted left behind: which chunks are whole, and the output made from them."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from inpars.manifest import FileStamp
from inpars.progress import Progress
from inpars.records import Document
from inpars.storage import AppendedLines, read_jsonl, read_lines, storage_errors, to_json_line, write_lines

CHUNK_END = "whole_chunk_of"  # the key of a line behind the lines of each chunk: how many documents it had


def header_line(stage: str, settings: Mapping[str, Any], inputs: Mapping[str, FileStamp]) -> str:
    """The first line of a partial file: what its lines were made from."""
    compared = {**settings, **{name: stamp.sha256 for name, stamp in inputs.items()}}
    digest = hashlib.sha256(json.dumps(compared, sort_keys=True, default=str).encode()).hexdigest()
    return to_json_line({"partial": stage, "settings": digest})


def chunks_done(
    stage: str, partial: Path, header: str, plan: Sequence[Sequence[int]], progress: Progress
) -> tuple[int, int]:
    """How many leading chunks of the plan the partial file holds whole, and the lines they take."""
    if not partial.exists():
        return 0, 0
    with AppendedLines(partial) as lines:
        kept = lines.kept
    if not kept or next(line for _, line in read_lines(partial)) != header:
        with storage_errors(partial):
            partial.unlink()
        if kept:
            progress.note(f"{stage}: {partial} was begun with other settings or inputs and is begun anew")
        return 0, 0
    ends, documents = {0: 1}, 0  # documents behind us: the line on which their last chunk ends
    for number, record in read_jsonl(partial):
        if CHUNK_END in record:
            documents += record[CHUNK_END]
            ends[documents] = number
    sizes = [0, *itertools.accumulate(map(len, plan))]  # chunks may have had another size, on another device
    done = max(chunks for chunks, documents in enumerate(sizes) if documents in ends)
    progress.note(f"{stage}: going on where the last run stopped, {done} of {len(plan)} parts are done")
    return done, ends[sizes[done]]


def write_in_order(partial: Path, output: Path, documents: Sequence[Document]) -> int:
    """The partial file's lines in the order of the documents, as the output; then the partial file goes."""
    lines: dict[str, list[str]] = {}
    for _, line in read_lines(partial):
        doc_id = json.loads(line).get("doc_id")  # the first line and the ends of chunks have none
        if doc_id is not None:
            lines.setdefault(doc_id, []).append(line)
    count = write_lines(output, (line for document in documents for line in lines.get(document.doc_id, ())))
    with storage_errors(partial):
        partial.unlink()
    return count
