"""Options of every stage with a model: device, number format, engine and threads. Loads no torch."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, TypeAlias, TypedDict, get_args

from inpars.errors import ConfigError
from inpars.options import FlagGroup, option

EngineName: TypeAlias = Literal["auto", "torch", "torch-int8", "openvino", "openvino-int8"]
DtypeName: TypeAlias = Literal["auto", "float64", "float32", "bfloat16"]
VARIABLE = "INPARS_ENGINE_BACKEND"  # default of `--engine-backend`

_chosen: list[EngineName] = ["auto"]  # one choice per process, like torch's number of threads


def use_engine(name: EngineName) -> None:
    """Set the engine of this process; `auto` leaves the choice to the environment or a trial."""
    _chosen[0] = name


def engine() -> EngineName:
    """The engine set for this process. Raises ConfigError for an unknown name in the environment."""
    name = _chosen[0] if _chosen[0] != "auto" else os.environ.get(VARIABLE) or "auto"
    if name not in get_args(EngineName):
        raise ConfigError(f"{VARIABLE} is {name!r}; it must be one of {', '.join(get_args(EngineName))}")
    return name  # type: ignore[return-value]


def use_threads(count: int | None) -> None:
    """Set torch's number of threads, importing torch; None keeps its default, one per core."""
    if count is None:
        return
    if count < 1:
        raise ConfigError(f"--threads is {count}; it must be at least 1")
    import torch

    torch.set_num_threads(count)


class Placement(TypedDict, total=False):
    """Keyword arguments of every function that loads a model; device and dtype default to `auto`."""

    device: str
    dtype: DtypeName
    trust_remote_code: bool  # run code that comes with a hub model


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputingOptions:
    """Base of the options of stages with a model; `--help` shows them last."""

    FLAG_GROUP: ClassVar = FlagGroup("machine", advanced=True)

    dtype: DtypeName = option(
        "auto", help="number format; auto: bfloat16 if the hardware is fast with it, else float32"
    )
    device: str = option("auto", help="auto, cpu, mps, cuda or cuda:N", changes_result=False)
    engine_backend: EngineName = option(
        "auto",
        help="compute engine on a CPU; auto: OpenVINO if installed and a short trial, remembered, finds it "
        "faster than torch with the same results",
        changes_result="unless default",
    )
    threads: int | None = option(None, help="CPU threads (default: one per core)", changes_result=False, minimum=1)
    trust_remote_code: bool = option(False, help="run code that comes with a hub model", changes_result=False)

    @property
    def placement(self) -> Placement:
        """Arguments for loading a model."""
        return {"device": self.device, "dtype": self.dtype, "trust_remote_code": self.trust_remote_code}

    @property
    def computing(self) -> dict[str, Any]:
        """Only these settings, for another stage's options."""
        return {field.name: getattr(self, field.name) for field in fields(ComputingOptions)}

    def set_up(self) -> Placement:
        """Apply threads and engine to this process; returns `placement`."""
        use_engine(self.engine_backend)
        use_threads(self.threads)
        return self.placement
