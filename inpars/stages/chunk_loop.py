"""The loop of stages whose model answers chunk by chunk: what is not saved yet is computed, and saved as it comes.

The same for all items of a command, for one of its shards and for the shards of a cluster's workers. Blocks, plans and
chunks of these are those of one process, and so are the bytes; what travels for a shard is what its block is read by.
Killed at any moment, it resumes after the last whole chunk.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from itertools import tee
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from inpars.io.storage import to_json_line, write_lines
from inpars.progress import SILENT
from inpars.stages.partial import CHUNK_END, Partial
from inpars.stages.shard_folder import ShardFolder
from inpars.stages.shards import Chunk, Plan, Shard, chunks_of, own_items, pack_positions, shard_results
from inpars.stages.stage import Stage
from inpars.stages.workers import WORKERS_RESULT, Workers, do_shards, shard_size, worker_reports

Computed: TypeAlias = Generator[tuple[list[dict[str, Any]], str], None, None]
"""For each chunk the records of the items that are kept, and a detail for those who watch."""


class PlannedWork(Protocol):
    """Items of an input and what becomes of them; what a chunk becomes depends on that chunk alone."""

    total: int  # items of the input
    unit: str  # what they are
    description: str
    device: str

    @property
    def block(self) -> int:
        """Items that are planned together."""
        ...

    @property
    def sums(self) -> Mapping[str, float]:
        """Numbers of what was written last, which are added over shards."""
        ...

    def plan(self, block: range) -> Sequence[Sequence[int]]:
        """Chunks of a block's items, as positions from its first."""
        ...

    def compute(self, chunks: Iterator[Chunk], saved: Partial, done: int) -> Computed:
        """The chunks, in order; `done` items were saved by an earlier run. May raise once a chunk is saved."""
        ...

    def write(self, part: Shard | None, plan: Plan, saved: Partial, output: Path) -> list[tuple[int, int]]:
        """Write the part's items in the order of the input: (place, lines there) of each."""
        ...


@dataclass(frozen=True, slots=True)
class Done:
    """What became of a stage's items; `results` tells in the manifest who did which."""

    items: int
    lines: int
    sums: Mapping[str, float]
    results: Mapping[str, Any]
    device: str


def work_here(stage: Stage, work: PlannedWork, part: Shard | None) -> Done:
    """Do all items, or those of a shard, in this process."""
    lines_at = _do(work, part, work.plan, stage.partial, stage.output)
    results = shard_results(part, work.total, lines_at)
    return Done(len(lines_at), sum(lines for _, lines in lines_at), work.sums, results, work.device)


def _do(work: PlannedWork, part: Shard | None, plan: Plan, saved: Partial, output: Path) -> list[tuple[int, int]]:
    items = own_items(work.total, part)
    ends = saved.chunk_ends(len(items))
    done = len(items)
    chunks: Iterator[Chunk] = iter(())
    if max(ends) < done:
        done, chunks = chunks_of(work.total, plan, part, ends=ends, block=work.block)
    _compute(work, chunks, saved, ends[done], done, len(items))
    return work.write(part, plan, saved, output)


def _compute(work: PlannedWork, chunks: Iterator[Chunk], saved: Partial, keep: int, done: int, total: int) -> None:
    """Append what is computed to the `keep` lines that are kept."""
    chunks, ahead = tee(chunks)
    track = saved.progress.track(chunks, total=total, description=work.description, unit=work.unit, done=done)
    with saved.append(keep) as lines, closing(work.compute(ahead, saved, done)) as computed:
        for chunk, (records, detail) in zip(track, computed, strict=True):
            lines.append(map(to_json_line, [*records, {CHUNK_END: len(chunk.shard_positions)}]))
            saved.progress.advance(len(chunk.shard_positions), detail)


class OpenBlock(Protocol):
    """A loaded model in a worker's process."""

    device: str

    def __call__(self, items: Any) -> PlannedWork:  # noqa: ANN401 - the stage's own
        """The work on one block, of what travelled for it."""
        ...


def work_elsewhere(
    stage: Stage,
    workers: Workers,
    load: Callable[[], OpenBlock],
    total: int,
    items: Callable[[slice], Any],
    *,
    description: str,
    unit: str,
    summed: Sequence[str] = (),
) -> Done:
    """Have workers do the items in shards, which stay until the manifest is there.

    `load` travels to every worker, `items` of its block for every shard: paths and numbers, no texts and no model.
    `summed` are the names of the work's `sums`.
    """
    saved, output = stage.partial, stage.output.absolute()
    folder = ShardFolder.open(output, saved.header, shard_size(total, workers), total, stage.progress)
    make = functools.partial(BlockWorker, stage.name, saved.header, load)

    def payload(shard: int) -> BlockShard:
        block = folder.block(shard)
        return BlockShard(block.start, items(slice(block.start, block.stop)), folder.part(shard))

    do_shards(make, folder, payload, workers, description=description, unit=unit, progress=stage.progress)
    lines, marks, sums = write_lines(stage.output, folder.merged()), list(folder.marks()), Counter[str]()
    for mark in marks:
        sums.update({name: mark[name] for name in summed})
    reports = worker_reports(marks)
    return Done(total, lines, sums, {WORKERS_RESULT: reports}, reports[0]["device"])


@dataclass(frozen=True, slots=True)
class BlockShard:
    """What travels for one shard."""

    block: int  # its first item, which tells the block from others
    items: Any
    part: Shard


class BlockWorker:
    """A stage in a worker's process; it keeps the latest block and its plan, since it has several shards of one."""

    def __init__(self, stage: str, header: str, load: Callable[[], OpenBlock]) -> None:
        self._stage, self._header, self._open = stage, header, load()
        self._block, self.device = -1, self._open.device

    def write(self, shard: BlockShard, partial: Path, output: Path) -> Mapping[str, Any]:
        if self._block != shard.block:
            self._work = self._open(shard.items)
            self._plan, self._block = lru_cache(maxsize=1)(self._work.plan), shard.block
        lines_at = _do(self._work, shard.part, self._plan, Partial(self._stage, partial, self._header, SILENT), output)
        return {"places": pack_positions(lines_at), **self._work.sums}
