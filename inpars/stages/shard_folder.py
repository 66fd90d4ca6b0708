"""The workers' output, `<output>.shards/`: a file per shard, and a mark once it is complete.

A folder's header says what its shards were made from and how the work was cut; a folder of other settings or inputs is
thrown away, and one that was begun goes on as it was cut, whatever the number of workers. A mark is written last and
atomically, as a manifest is: a shard that has one is never done again. All workers must see the folder.
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
LOCK_SECONDS = 30.0  # Ray ends the workers of a dead driver long before


@dataclass(frozen=True, slots=True)
class ShardFolder:
    """Shards beside an output; each holds `size` items of the planned order, the last one what is left."""

    path: Path
    size: int
    total: int

    @classmethod
    def open(cls, output: Path, header: str, size: int, total: int, progress: Progress) -> ShardFolder:
        """The folder of an interrupted run of the same settings and inputs, else a new one."""
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
        """The shard's slice of the planned order; shards are numbered from 0 here."""
        return range(shard * self.size, min((shard + 1) * self.size, self.total))

    def block(self, shard: int) -> range:
        """The items of the input that are planned together with the shard's."""
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
        """What the worker said of a shard that is whole; None while it is not."""
        return _read(self._mark_path(shard))

    def done(self) -> set[int]:
        return {shard for shard in range(self.count) if self.mark(shard) is not None}

    def finish(self, shard: int, mark: Mapping[str, Any]) -> None:
        """Say that a shard is whole; nothing is written to it any more."""
        _write(self._mark_path(shard), mark)

    @contextmanager
    def begun(self, shard: int) -> Iterator[Path]:
        """The shard's partial file, this process' own while the block runs; the shard may be whole by then.

        Where another process still writes it, a worker whose driver is dead, its end is waited for; where that does not
        come, the shard is done in a file of its own.
        """
        partial = self.path / f"{shard:06}.partial"
        lock = locked(self.path / f"{shard:06}.lock", seconds=LOCK_SECONDS, without_locks=None)
        if lock is None:
            partial = partial.with_name(f"{shard:06}.{socket.gethostname()}.{os.getpid()}.partial")
        with lock or nullcontext():
            yield partial
            partial.unlink(missing_ok=True)

    def marks(self) -> Iterator[dict[str, Any]]:
        return (self._own_mark(shard) for shard in range(self.count))

    def merged(self) -> Iterator[str]:
        """The lines of all shards in the order of the input; a mark's `places` are those of its lines in the block."""
        each = BLOCK_ITEMS // self.size
        for first in range(0, self.count, each):
            shards = range(first, min(first + each, self.count))
            yield from merged_lines([(self.file(shard), self._own_mark(shard)["places"]) for shard in shards])

    def _own_mark(self, shard: int) -> dict[str, Any]:
        mark = self.mark(shard)
        if mark is None:
            raise BackendError(
                f"{self.file(shard)} is not where its worker was to write it; all machines must see this folder: "
                "choose an --output (and INPARS_CACHE) on a disk that they share"
            )
        return mark

    def _mark_path(self, shard: int) -> Path:
        return self.path / f"{shard:06}.done.json"


def shards_path(output: Path) -> Path:
    """The folder of an output's shards."""
    return output.with_name(output.name + ".shards")


def remove_leftovers(output: Path, *, until: float = math.inf) -> None:
    """The output is whole: what an interrupted run left beside it goes, whichever engine it had.

    What was written after `until` (nanoseconds, as in `st_mtime_ns`) stays.
    """
    partial, shards = partial_path(output), shards_path(output)
    if partial.exists() and partial.stat().st_mtime_ns <= until:
        remove_partial(partial)
    with storage_errors(shards):
        if shards.exists() and shards.stat().st_mtime_ns <= until:
            shutil.rmtree(shards)


def _read(path: Path) -> dict[str, Any] | None:
    """The object in a small JSON file; None if it is missing or torn."""
    try:
        value = parse_json(path.read_bytes())
    except (FileNotFoundError, JsonError):
        return None
    return value if isinstance(value, dict) else None


def _write(path: Path, values: Mapping[str, Any]) -> None:
    with atomic_writer(path) as stream:
        stream.write(to_json_line(dict(values)) + "\n")
