"""Names of engines and number formats, and the engine in use, for modules that must not import torch."""

from __future__ import annotations

import os
from typing import Literal, TypeAlias, get_args

from inpars.errors import ConfigError

EngineName: TypeAlias = Literal["auto", "torch", "torch-int8", "openvino", "openvino-int8"]
DtypeName: TypeAlias = Literal["auto", "float64", "float32", "bfloat16"]
VARIABLE = "INPARS_ENGINE_BACKEND"  # the default of `--engine-backend`

_chosen: list[EngineName] = ["auto"]  # one choice per process, as torch's number of threads


def use_engine(name: EngineName) -> None:
    """Compute with that engine from now on; `auto` leaves the choice to the environment or a trial."""
    _chosen[0] = name


def engine() -> EngineName:
    """The engine that was chosen. Raises ConfigError for an unknown name in the environment."""
    name = _chosen[0] if _chosen[0] != "auto" else os.environ.get(VARIABLE) or "auto"
    if name not in get_args(EngineName):
        raise ConfigError(f"{VARIABLE} is {name!r}; it must be one of {', '.join(get_args(EngineName))}")
    return name  # type: ignore[return-value]
