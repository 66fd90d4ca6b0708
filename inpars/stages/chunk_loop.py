"""The loop of stages whose model works chunk by chunk: compute what is not saved yet, and save it as it comes.

It runs all items of a command, one of its shards, or the shards of a cluster's workers, with the same blocks and chunks
and so the same bytes. A killed run resumes after the last whole chunk.
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
"""For each chunk, the records of its kept items, and a detail to show with the progress."""


class PlannedWork(Protocol):
    """The items of an input and how to process them; a chunk's result depends on that chunk alone."""

    total: int  # number of items
    unit: str  # noun for the items
    description: str
    device: str
    counted: int  # items of the current chunk that progress shows already

    @property
    def block(self) -> int:
        """Number of items planned together."""
        ...

    @property
    def sums(self) -> Mapping[str, float]:
        """Statistics of the latest `write`, added up over shards."""
        ...

    def plan(self, block: range) -> Sequence[Sequence[int]]:
        """The chunks of a block, as positions relative to its first item."""
        ...

    def compute(self, chunks: Iterator[Chunk], saved: Partial, done: int) -> Computed:
        """Process the chunks in order; an interrupted run had saved `done` items. May raise once a chunk is saved."""
        ...

    def write(self, part: Shard | None, plan: Plan, saved: Partial, output: Path) -> list[tuple[int, int]]:
        """Write the part's items in input order; returns (position, number of lines) of each."""
        ...


@dataclass(frozen=True, slots=True)
class Done:
    """The result of a stage; `results` go to the manifest."""

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
    chunks, ahead = tee(chunks)
    track = saved.progress.track(chunks, total=len(items), description=work.description, unit=work.unit, done=done)
    with saved.append(ends[done]) as lines, closing(work.compute(ahead, saved, done)) as computed:
        for chunk, (records, detail) in zip(track, computed, strict=True):
            lines.append(map(to_json_line, [*records, {CHUNK_END: len(chunk.shard_positions)}]))
            saved.progress.advance(len(chunk.shard_positions) - work.counted, detail)
    return work.write(part, plan, saved, output)


class OpenBlock(Protocol):
    """A loaded model in a worker's process."""

    device: str

    def __call__(self, items: Any) -> PlannedWork:  # noqa: ANN401 - the stage's own
        """The work on one block, from what was sent for it."""
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
    """Have workers do the items in shards, whose files stay until the manifest is written.

    `load` is sent to every worker, and the `items` of its block with every shard: paths and numbers, no texts and no
    model. `summed` are the names of the work's `sums`.
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
    """What is sent to a worker for one shard."""

    block: int  # the block's first item
    items: Any
    part: Shard


class BlockWorker:
    """A stage in a worker's process; caches the latest block and its plan, which several shards share."""

    def __init__(self, stage: str, header: str, load: Callable[[], OpenBlock]) -> None:
        self._stage, self._header, self._open = stage, header, load()
        self._block, self.device = -1, self._open.device

    def write(self, shard: BlockShard, partial: Path, output: Path) -> Mapping[str, Any]:
        if self._block != shard.block:
            self._work = self._open(shard.items)
            self._plan, self._block = lru_cache(maxsize=1)(self._work.plan), shard.block
        lines_at = _do(self._work, shard.part, self._plan, Partial(self._stage, partial, self._header, SILENT), output)
        return {"places": pack_positions(lines_at), **self._work.sums}
