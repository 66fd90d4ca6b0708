"""What a stage hands to the workers of a cluster, and what it gets back; knows nothing of Ray.

A stage describes its work twice: a `Job` that travels to every worker once and has neither model nor corpus in it, and
for each shard the ids or byte offsets of its items. The workers write the shards' files where the output will be.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from inpars.cluster.options import ClusterOptions
from inpars.cluster.shard_folder import ShardFolder
from inpars.errors import MissingDependencyError
from inpars.progress import Progress

WORKERS_RESULT = "workers"  # where a manifest says what each worker did
SMALL_SHARD, LARGE_SHARD = 64, 2048  # items; multiples of what processors and GPUs compute together
MANY_SHARDS = 1024


class Worker(Protocol):
    """A stage in a worker's process, its model loaded."""

    device: str  # for manifests

    def write(self, shard: Any, partial: Path, output: Path) -> Mapping[str, Any]:  # noqa: ANN401 - the stage's own
        """Do one shard, going on with `partial` where it was begun; what is returned is kept with the shard."""
        ...


class Job(Protocol):
    """What every worker is told once: names, paths and settings. It is pickled."""

    def open(self) -> Worker:
        """Load the model and open the corpus, in the worker."""
        ...


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


def shard_size(total: int, options: ClusterOptions) -> int:
    """Items of a shard: few where there are few, so that all workers have some and little is lost with one of them."""
    size = LARGE_SHARD if options.gpus_per_worker else SMALL_SHARD
    while size < LARGE_SHARD and total > size * MANY_SHARDS:
        size *= 2
    return size


def do_shards(
    job: Job,
    folder: ShardFolder,
    payload: Callable[[int], Any],
    options: ClusterOptions,
    *,
    description: str,
    unit: str,
    progress: Progress,
) -> None:
    """Have all shards done that are not; `payload` gives what a worker must know of a shard, when it is its turn."""
    done = folder.done()
    left = [shard for shard in range(folder.count) if shard not in done]
    if not left:
        return
    if find_spec("ray") is None:
        from inpars.extras import EXTRAS, pip_line

        raise MissingDependencyError("ray", "for --engine ray", EXTRAS["cluster"].install_line() or pip_line(["ray"]))
    from inpars.cluster.session import connected

    finished = sum(len(folder.items(shard)) for shard in done)
    with connected(options, progress) as pool:
        track = progress.track(
            pool.work(job, folder, left, payload),
            total=folder.total,
            description=f"{description} on Ray",
            unit=unit,
            done=finished,
        )
        for shard in track:
            progress.advance(len(folder.items(shard)))


def worker_reports(marks: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What each worker did, by its number and its node."""
    reports: dict[tuple[int, str], WorkerReport] = {}
    for mark in marks:
        worker, node = mark["worker"], mark["node"]
        reports.setdefault((worker, node), WorkerReport(worker, node, mark["device"])).add(mark)
    return [reports[key].values() for key in sorted(reports)]
