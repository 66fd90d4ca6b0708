"""Where and in which number format models compute: the options of every stage that has a model. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar, TypedDict

from inpars.models.engine_backend import DtypeName, EngineName
from inpars.options import FlagGroup, option


class Placement(TypedDict, total=False):
    """Keyword arguments of everything that loads a model; `auto` is the default of device and number format."""

    device: str
    dtype: DtypeName
    trust_remote_code: bool  # run code that comes with a hub model


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputingOptions:
    """What a stage's options begin with; `--help` shows them last."""

    FLAG_GROUP: ClassVar = FlagGroup("machine", advanced=True)

    dtype: DtypeName = option(
        "auto", help="number format; auto: bfloat16 if the hardware is fast with it, else float32"
    )
    device: str = option("auto", help="auto, cpu, cuda or cuda:N", changes_result=False)
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
        """Where a model is loaded to."""
        return {"device": self.device, "dtype": self.dtype, "trust_remote_code": self.trust_remote_code}

    @property
    def computing(self) -> dict[str, Any]:
        """These settings alone, for another stage's options."""
        return {field.name: getattr(self, field.name) for field in fields(ComputingOptions)}

    def set_up(self) -> Placement:
        """Have torch, which is loaded here, take the threads and the engine; where a model is loaded to."""
        from inpars.models.hardware import compute_with

        compute_with(self.threads, self.engine_backend)
        return self.placement
