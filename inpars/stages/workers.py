"""What a stage hands to several workers, and what it gets back; `inpars.distributed` has them on a Ray cluster.

A stage describes its work twice: a function that makes a worker, which travels to every process once and has neither
model nor corpus in it, and for each shard the ids or byte offsets of its items. The workers write the shards' files
where the output will be. Whoever calls a stage chooses its workers; without any, the stage works in this process.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
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
    left = [shard for shard in range(folder.count) if shard not in done]
    if not left:
        return
    with closing(workers.work(make, folder, left, payload, progress)) as finished:
        track = progress.track(
            finished,
            total=folder.total,
            description=f"{description} on Ray",
            unit=unit,
            done=sum(len(folder.items(shard)) for shard in done),
        )
        for shard in track:
            progress.advance(len(folder.items(shard)))


@dataclass(slots=True)
class WorkerReport:
    """What one worker did, for the manifest; `seconds` are its shards' alone, `began` and `ended` are Unix's."""

    worker: int
    node: str
    device: str
    items: int = 0
    shards: int = 0
    seconds: float = 0.0
    began: float = math.inf
    ended: float = 0.0

    def add(self, mark: Mapping[str, Any]) -> None:
        """Count a shard."""
        self.items += mark["items"]
        self.shards += 1
        self.seconds += mark["seconds"]
        self.began = min(self.began, mark["started"])
        self.ended = max(self.ended, round(mark["started"] + mark["seconds"], 3))

    def values(self) -> dict[str, Any]:
        """As JSON, with the throughput."""
        rate = round(self.items / self.seconds, 3) if self.seconds else None
        return {**asdict(self), "seconds": round(self.seconds, 2), "items_per_second": rate}


def worker_reports(marks: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What each worker did, by its number and its node."""
    reports: dict[tuple[int, str], WorkerReport] = {}
    for mark in marks:
        worker, node = mark["worker"], mark["node"]
        reports.setdefault((worker, node), WorkerReport(worker, node, mark["device"])).add(mark)
    return [reports[key].values() for key in sorted(reports)]
