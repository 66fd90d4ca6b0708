"""Where a stage's work is done: in this process, of one shard, or by the workers of a Ray cluster."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, TypeAlias

from inpars.errors import ConfigError
from inpars.models.compute_options import ComputingOptions
from inpars.options import SHARE, FlagGroup, option
from inpars.retrieval.bm25 import DEFAULT_B, DEFAULT_K1, DEFAULT_LANGUAGE
from inpars.stages.shards import Shard, shard_path

Engine: TypeAlias = Literal["local", "ray"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterOptions(ComputingOptions):
    """What the options of a stage that can be done by several workers begin with; none of it changes the result."""

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
        """These settings with those of computing, for another stage's options."""
        return {field.name: getattr(self, field.name) for field in fields(ClusterOptions)}

    def for_worker(self) -> Self:
        """The same as a worker has to take it: its threads are those of its share."""
        return replace(self, threads=self.threads or max(1, int(self.cpus_per_worker))) if self.on_ray else self

    @property
    def on_ray(self) -> bool:
        """Whether a cluster does the work. Raises ConfigError for its flags without it."""
        if self.engine == "local" and (self.address, self.workers) != (None, None):
            raise ConfigError("--address and --workers say where --engine ray works; give that too")
        return self.engine == "ray"


@dataclass(frozen=True, kw_only=True)  # without slots, which would not let options have several bases
class Bm25Options:
    """How BM25 searches."""

    FLAG_GROUP: ClassVar = FlagGroup("BM25", advanced=True)

    k1: float = option(DEFAULT_K1, help="BM25's k1", minimum=0)
    b: float = option(DEFAULT_B, help="BM25's b", bounds=SHARE)
    language: str = option(DEFAULT_LANGUAGE, help="language of BM25's analyser")

    @property
    def bm25(self) -> dict[str, Any]:
        return {"k1": self.k1, "b": self.b, "language": self.language}


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardedOptions(ClusterOptions):
    """What the options of a stage that can be done in shards begin with."""

    FLAG_GROUP: ClassVar = FlagGroup("machine", advanced=True)

    shard: str | None = option(
        None,
        help="do only this shard, 3/64 for the third of 64, and write it next to --output; join shards with "
        "`inpars merge` (default: everything)",
        metavar="I/N",
    )

    @property
    def part(self) -> Shard | None:
        """The same parsed. Raises ConfigError."""
        if self.shard is not None and self.on_ray:
            raise ConfigError("--engine ray splits and merges the work itself; leave --shard out")
        return None if self.shard is None else Shard.parse(self.shard)


def own_output(output: Path, options: ShardedOptions) -> Path:
    """The output itself, or the shard's file next to it."""
    return output if options.part is None else shard_path(output, options.part)
