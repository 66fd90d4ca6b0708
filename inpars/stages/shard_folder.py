"""The workers' output, `<output>.shards/`: a file per shard, and a mark once it is complete.

The folder's header records settings, inputs and shard size. A folder with other settings or inputs is removed; a
matching one resumes with its shard size, whatever the number of workers. Marks are written last and atomically; a
marked shard is never redone. All workers must see the folder.
"""

from __future__ import annotations

import math
import os
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inpars.errors import BackendError
from inpars.io.json_text import JsonError, parse_json
from inpars.io.locks import locked
from inpars.io.storage import atomic_writer, storage_errors, to_json_line
from inpars.progress import Progress
from inpars.stages.partial import partial_path, remove_partial
from inpars.stages.shards import BLOCK_ITEMS, Shard, merged_lines

HEADER = "header.json"
LOCK_SECONDS = 30.0  # Ray kills the workers of a dead driver much sooner


@dataclass(frozen=True, slots=True)
class ShardFolder:
    """Shards of an output; each holds `size` items of the planned order, the last one the rest."""

    path: Path
    size: int
    total: int

    @classmethod
    def open(cls, output: Path, header: str, size: int, total: int, progress: Progress) -> ShardFolder:
        """The folder of an interrupted run with the same settings and inputs, otherwise a new one."""
        path = shards_path(output)
        stored = _read(path / HEADER) or {}
        size_before = stored.get("size")
        same = (stored.get("made_from"), stored.get("total")) == (header, total)
        if same and type(size_before) is int and size_before > 0:
            folder = cls(path, size_before, total)
            progress.note(f"{path}: resuming, {len(folder.done())} of {folder.count} shards are done")
            return folder
        with storage_errors(path):
            if path.exists():
                progress.note(f"{path}: settings or inputs changed since the interrupted run; starting over")
                shutil.rmtree(path)
            path.mkdir(parents=True)
        _write(path / HEADER, {"made_from": header, "size": size, "total": total})
        return cls(path, size, total)

    @property
    def count(self) -> int:
        return -(-self.total // self.size)

    def items(self, shard: int) -> range:
        """The shard's slice of the planned order; shards count from 0 here."""
        return range(shard * self.size, min((shard + 1) * self.size, self.total))

    def block(self, shard: int) -> range:
        """The block of items that contains the shard's."""
        start = self.items(shard).start // BLOCK_ITEMS * BLOCK_ITEMS
        return range(start, min(start + BLOCK_ITEMS, self.total))

    def part(self, shard: int) -> Shard:
        """The shard as a slice of its block's plan."""
        block = self.block(shard)
        number = (self.items(shard).start - block.start) // self.size + 1
        return Shard(number, -(-len(block) // self.size), self.size)

    def file(self, shard: int) -> Path:
        return self.path / f"{shard:06}.jsonl"

    def mark(self, shard: int) -> dict[str, Any] | None:
        """The worker's report on a complete shard; None if it is incomplete."""
        return _read(self._mark_path(shard))

    def done(self) -> set[int]:
        return {shard for shard in range(self.count) if self.mark(shard) is not None}

    def finish(self, shard: int, mark: Mapping[str, Any]) -> None:
        """Mark a shard as complete."""
        _write(self._mark_path(shard), mark)

    @contextmanager
    def begun(self, shard: int) -> Iterator[Path]:
        """Lock the shard's partial file; the shard may be complete once the lock is held.

        Waits while another process, such as the worker of a dead driver, holds the lock; after `LOCK_SECONDS` the shard
        gets a separate file.
        """
        partial = self.path / f"{shard:06}.partial"
        lock = locked(self.path / f"{shard:06}.lock", seconds=LOCK_SECONDS, without_locks=None)
        if lock is None:
            partial = partial.with_name(f"{shard:06}.{socket.gethostname()}.{os.getpid()}.partial")
        with lock or nullcontext():
            yield partial
            partial.unlink(missing_ok=True)

    def marks(self) -> Iterator[dict[str, Any]]:
        return map(self._mark_of, range(self.count))

    def merged(self) -> Iterator[str]:
        """The lines of all shards in input order; the `places` of a mark are relative to the block."""
        each = BLOCK_ITEMS // self.size
        for first in range(0, self.count, each):
            shards = range(first, min(first + each, self.count))
            yield from merged_lines([(self.file(shard), self._mark_of(shard)["places"]) for shard in shards])

    def _mark_of(self, shard: int) -> dict[str, Any]:
        mark = self.mark(shard)
        if mark is None:
            raise BackendError(
                f"{self.file(shard)} is missing, although its worker is done; all machines must see this folder: "
                "choose an --output (and INPARS_CACHE) on a disk that they share"
            )
        return mark

    def _mark_path(self, shard: int) -> Path:
        return self.path / f"{shard:06}.done.json"


def shards_path(output: Path) -> Path:
    """The folder of an output's shards."""
    return output.with_name(output.name + ".shards")


def remove_leftovers(output: Path, *, until: float = math.inf) -> None:
    """Remove what interrupted runs left next to a finished output, with either engine.

    Files written after `until` (nanoseconds, as in `st_mtime_ns`) stay.
    """
    partial, shards = partial_path(output), shards_path(output)
    if partial.exists() and partial.stat().st_mtime_ns <= until:
        remove_partial(partial)
    with storage_errors(shards):
        if shards.exists() and shards.stat().st_mtime_ns <= until:
            shutil.rmtree(shards)


def _read(path: Path) -> dict[str, Any] | None:
    """The object in a small JSON file; None if the file is missing or truncated."""
    try:
        value = parse_json(path.read_bytes())
    except (FileNotFoundError, JsonError):
        return None
    return value if isinstance(value, dict) else None


def _write(path: Path, values: Mapping[str, Any]) -> None:
    with atomic_writer(path) as stream:
        stream.write(to_json_line(dict(values)) + "\n")
