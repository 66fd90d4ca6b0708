"""Options and protocols for running a stage in this process, as one shard, or on workers (see `inpars.distributed`).

A stage sends every worker process a function that makes the worker, without model or corpus, and for each shard the ids
or byte offsets of its items. The workers write the shards' files next to the output. The caller of a stage chooses the
workers; without any, the stage runs in this process.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, Self, TypeAlias

from inpars.errors import ConfigError
from inpars.models.compute_options import ComputingOptions
from inpars.options import SHARE, FlagGroup, option
from inpars.progress import Progress
from inpars.retrieval.bm25 import DEFAULT_B, DEFAULT_K1, DEFAULT_LANGUAGE
from inpars.stages.shard_folder import ShardFolder
from inpars.stages.shards import Shard, shard_path

WORKERS_RESULT = "workers"  # the result in a manifest with a report per worker
SMALL_SHARD, LARGE_SHARD = 64, 2048  # items; multiples of the batch sizes of CPUs and GPUs
MANY_SHARDS = 1024
Engine: TypeAlias = Literal["local", "ray"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterOptions(ComputingOptions):
    """Base of the options of stages that workers can run; none of these changes the result."""

    FLAG_GROUP: ClassVar = FlagGroup("machine", advanced=True)

    engine: Engine = option(
        "local", help="where to compute: in this process, or on the workers of a Ray cluster", changes_result=False
    )
    address: str | None = option(
        None,
        help="with --engine ray, the cluster to join: HOST:PORT or auto (default: RAY_ADDRESS, else a "
        "temporary cluster on this machine)",
        changes_result=False,
    )
    workers: int | None = option(
        None,
        help="with --engine ray, number of workers, each with its own model (default: as many as fit)",
        changes_result=False,
        minimum=1,
    )
    cpus_per_worker: float = option(1.0, help="CPU cores, and threads, per worker", changes_result=False, minimum=0)
    gpus_per_worker: float = option(
        0.0, help="GPUs per worker; 0.5 puts two workers on one", changes_result=False, minimum=0
    )

    @property
    def clustered(self) -> dict[str, Any]:
        """These options, including those of computing, as arguments for another stage's."""
        return {field.name: getattr(self, field.name) for field in fields(ClusterOptions)}

    def for_worker(self) -> Self:
        """The options for a worker, with the threads of its share."""
        return replace(self, threads=self.threads or max(1, int(self.cpus_per_worker))) if self.on_ray else self

    @property
    def on_ray(self) -> bool:
        """Whether a cluster does the work. Raises ConfigError for cluster flags without --engine ray."""
        if self.engine == "local" and (self.address, self.workers) != (None, None):
            raise ConfigError("--address and --workers say where --engine ray works; give that too")
        return self.engine == "ray"


@dataclass(frozen=True, kw_only=True)  # without slots, so that options can have several bases
class Bm25Options:
    """BM25's parameters."""

    FLAG_GROUP: ClassVar = FlagGroup("BM25", advanced=True)

    k1: float = option(DEFAULT_K1, help="BM25's k1", minimum=0)
    b: float = option(DEFAULT_B, help="BM25's b", bounds=SHARE)
    language: str = option(DEFAULT_LANGUAGE, help="language of BM25's analyser")

    @property
    def bm25(self) -> dict[str, Any]:
        return {"k1": self.k1, "b": self.b, "language": self.language}


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardedOptions(ClusterOptions):
    """Base of the options of stages that can be split into shards."""

    FLAG_GROUP: ClassVar = FlagGroup("machine", advanced=True)

    shard: str | None = option(
        None,
        help="do only this shard, 3/64 for the third of 64, and write it next to --output; join shards with "
        "`inpars merge` (default: everything)",
        metavar="I/N",
    )

    @property
    def part(self) -> Shard | None:
        """The parsed shard; None for everything. Raises ConfigError."""
        if self.shard is not None and self.on_ray:
            raise ConfigError("--engine ray splits and merges the work itself; leave --shard out")
        return None if self.shard is None else Shard.parse(self.shard)


def own_output(output: Path, options: ShardedOptions) -> Path:
    """The output, or the shard's file next to it."""
    return output if options.part is None else shard_path(output, options.part)


class Worker(Protocol):
    """A stage in a worker's process, its model loaded."""

    device: str  # for manifests

    def write(self, shard: Any, partial: Path, output: Path) -> Mapping[str, Any]:  # noqa: ANN401 - the stage's own
        """Do one shard, resuming from `partial`; the result is stored in the shard's mark."""
        ...


MakeWorker: TypeAlias = Callable[[], Worker]
"""Loads model and corpus in the worker; pickled, so it holds only names, paths and settings."""


Payload: TypeAlias = Callable[[int], Any]
"""What to send a worker for a shard; called when the shard is scheduled."""


class Workers(Protocol):
    """Processes that do shards, each with its own model."""

    on_gpus: bool

    def work(
        self, make: MakeWorker, folder: ShardFolder, shards: Sequence[int], payload: Payload, progress: Progress
    ) -> Generator[int, None, None]:
        """Run the shards; yields each when it is complete, in any order."""
        ...


def check_engine(options: ClusterOptions, workers: Workers | None) -> None:
    """Raise ConfigError if the options ask for workers and there are none."""
    if options.on_ray and workers is None:
        raise ConfigError("engine is ray: give this stage workers=inpars.distributed.workers_of(options)")


def shard_size(total: int, workers: Workers) -> int:
    """Items per shard: few for little work, so that all workers get some and a lost worker costs little."""
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
    """Run the shards that are not done yet."""
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
    """A report per worker and node; `seconds` is the time spent on shards, `began` and `ended` are Unix times."""
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
