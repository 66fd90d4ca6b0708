"""Where a stage's work is done: in this process, or by the workers of a Ray cluster."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Literal, Self, TypeAlias

from inpars.errors import ConfigError
from inpars.models.computing import ComputingOptions
from inpars.options import option

Engine: TypeAlias = Literal["local", "ray"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterOptions(ComputingOptions):
    """What the options of a stage that can be done by several workers begin with; none of it changes the result."""

    engine: Engine = option(
        "local",
        help="who does the work: this process, or the workers of a Ray cluster, shard by shard",
        changes_result=False,
    )
    address: str | None = option(
        None,
        help="with --engine ray, the cluster to join: HOST:PORT or auto (default: RAY_ADDRESS's; where there is none, "
        "one that lives on this machine as long as the command)",
        changes_result=False,
    )
    workers: int | None = option(
        None,
        help="with --engine ray, workers, each with its own model (default: as many as there is room for)",
        changes_result=False,
        minimum=1,
    )
    cpus_per_worker: float = option(
        1.0, help="processor cores that each takes, and its threads", changes_result=False, minimum=0
    )
    gpus_per_worker: float = option(
        0.0, help="GPUs that each takes; 0.5 puts two workers on one", changes_result=False, minimum=0
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
