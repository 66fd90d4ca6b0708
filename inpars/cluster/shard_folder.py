"""What the workers of a cluster leave behind: `<output>.shards/`, a file for each shard and a mark that it is whole.

A folder's header says what its shards were made from and how the work was cut; a folder of other settings or inputs is
thrown away, and one that was begun goes on as it was cut, whatever the number of workers. A mark is written last and
atomically, as a manifest is: a shard that has one is never done again. All workers must see the folder.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inpars.progress import Progress
from inpars.storage import atomic_writer, storage_errors, to_json_line

HEADER = "header.json"


@dataclass(frozen=True, slots=True)
class ShardFolder:
    """Shards beside an output; each holds `size` items of the planned order, the last one what is left."""

    path: Path
    size: int
    total: int

    @classmethod
    def open(cls, output: Path, header: str, size: int, total: int, progress: Progress) -> ShardFolder:
        """The folder of an interrupted run of the same settings and inputs, else a new one."""
        path = output.with_name(output.name + ".shards")
        begun = _read(path / HEADER)
        if begun is not None and (begun.get("made_from"), begun.get("total")) == (header, total):
            folder = cls(path, int(begun["size"]), total)
            progress.note(f"{path}: going on, {len(folder.done())} of {folder.count} shards are done")
            return folder
        with storage_errors(path):
            if path.exists():
                progress.note(f"{path} was begun with other settings or inputs and is begun anew")
                shutil.rmtree(path)
            path.mkdir(parents=True)
        _write(path / HEADER, {"made_from": header, "size": size, "total": total})
        return cls(path, size, total)

    @property
    def count(self) -> int:
        """The number of shards."""
        return -(-self.total // self.size)

    def items(self, shard: int) -> range:
        """The shard's slice of the planned order; shards are numbered from 0 here."""
        return range(shard * self.size, min((shard + 1) * self.size, self.total))

    def file(self, shard: int) -> Path:
        """Where the shard's lines are."""
        return self.path / f"{shard:06}.jsonl"

    def mark(self, shard: int) -> dict[str, Any] | None:
        """What the worker said of a shard that is whole; None while it is not."""
        return _read(self._mark_path(shard))

    def done(self) -> set[int]:
        """The shards that are whole."""
        return {int(path.name.partition(".")[0]) for path in self.path.glob("*.done.json")}

    def finish(self, shard: int, mark: Mapping[str, Any]) -> None:
        """Say that a shard is whole; nothing is written to it any more."""
        _write(self._mark_path(shard), mark)

    @contextmanager
    def begun(self, shard: int) -> Iterator[Path]:
        """The shard's partial file, this process' own while the block runs.

        Where another process still writes it, a worker that is thought dead, the shard is done in a file of its own.
        """
        partial = self.path / f"{shard:06}.partial"
        with (self.path / f"{shard:06}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:  # taken, or a file system that cannot lock
                partial = partial.with_name(f"{shard:06}.{socket.gethostname()}.{os.getpid()}.partial")
            yield partial
            partial.unlink(missing_ok=True)

    def remove(self) -> None:
        """The shards are merged."""
        with storage_errors(self.path):
            shutil.rmtree(self.path)

    def _mark_path(self, shard: int) -> Path:
        return self.path / f"{shard:06}.done.json"


def _read(path: Path) -> dict[str, Any] | None:
    """A small JSON file; None where there is none, or half of one."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError):
        return None


def _write(path: Path, values: Mapping[str, Any]) -> None:
    with atomic_writer(path) as stream:
        stream.write(to_json_line(dict(values)) + "\n")
