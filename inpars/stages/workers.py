"""What a stage hands to several workers, and what it gets back; `inpars.distributed` has them on a Ray cluster.

A stage describes its work twice: a function that makes a worker, which travels to every process once and has neither
model nor corpus in it, and for each shard the ids or byte offsets of its items. The workers write the shards' files
where the output will be. Whoever calls a stage chooses its workers; without any, the stage works in this process.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from inpars.errors import ConfigError
from inpars.progress import Progress
from inpars.stages.engine_options import ClusterOptions
from inpars.stages.shard_folder import ShardFolder

WORKERS_RESULT = "workers"  # where a manifest says what each worker did
SMALL_SHARD, LARGE_SHARD = 64, 2048  # items; multiples of what processors and GPUs compute together
MANY_SHARDS = 1024


class Worker(Protocol):
    """A stage in a worker's process, its model loaded."""

    device: str  # for manifests

    def write(self, shard: Any, partial: Path, output: Path) -> Mapping[str, Any]:  # noqa: ANN401 - the stage's own
        """Do one shard, going on with `partial` where it was begun; what is returned is kept with the shard."""
        ...


MakeWorker: TypeAlias = Callable[[], Worker]
"""Loads the model and opens the corpus, in the worker; pickled, so it holds names, paths and settings alone."""

Payload: TypeAlias = Callable[[int], Any]
"""What a worker must know of a shard; called when it is the shard's turn."""


class Workers(Protocol):
    """Processes that do shards, each with its own model."""

    on_gpus: bool

    def work(
        self, make: MakeWorker, folder: ShardFolder, shards: Sequence[int], payload: Payload, progress: Progress
    ) -> Generator[int, None, None]:
        """Have the shards done; each is yielded when it is whole, in any order."""
        ...


def check_engine(options: ClusterOptions, workers: Workers | None) -> None:
    """Raise ConfigError where the options ask for workers and none are given."""
    if options.on_ray and workers is None:
        raise ConfigError("engine is ray: give this stage workers=inpars.distributed.workers_of(options)")


def shard_size(total: int, workers: Workers) -> int:
    """Items of a shard: few where there are few, so that all workers have some and little is lost with one of them."""
    size = LARGE_SHARD if workers.on_gpus else SMALL_SHARD
    while size < LARGE_SHARD and total > size * MANY_SHARDS:
        size *= 2
    return size


def do_shards(
    make: MakeWorker,
    folder: ShardFolder,
    payload: Payload,
    workers: Workers,
    *,
    description: str,
    unit: str,
    progress: Progress,
) -> None:
    """Have all shards done that are not."""
    done = folder.done()
    remaining = [shard for shard in range(folder.count) if shard not in done]
    if not remaining:
        return
    with closing(workers.work(make, folder, remaining, payload, progress)) as finished:
        track = progress.track(
            finished,
            total=folder.total,
            description=f"{description} on Ray",
            unit=unit,
            done=sum(len(folder.items(shard)) for shard in done),
        )
        for shard in track:
            progress.advance(len(folder.items(shard)))


def worker_reports(marks: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What each worker did, by its number and its node; `seconds` are its shards' alone, `began` and `ended` Unix's."""
    marks_of: dict[tuple[int, str], list[Mapping[str, Any]]] = {}
    for mark in marks:
        marks_of.setdefault((mark["worker"], mark["node"]), []).append(mark)
    return [_report(marks_of[key]) for key in sorted(marks_of)]


def _report(marks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    items, seconds = sum(mark["items"] for mark in marks), sum(mark["seconds"] for mark in marks)
    return {
        **{name: marks[0][name] for name in ("worker", "node", "device")},
        "items": items,
        "shards": len(marks),
        "seconds": round(seconds, 2),
        "began": min(mark["started"] for mark in marks),
        "ended": max(round(mark["started"] + mark["seconds"], 3) for mark in marks),
        "items_per_second": round(items / seconds, 3) if seconds else None,
    }
