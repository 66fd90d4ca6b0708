"""Chooses the device and number format."""

from __future__ import annotations

import platform
import re
from typing import Any

import torch

from inpars.errors import ConfigError
from inpars.models.compute_options import DtypeName, engine
from inpars.models.processor import cores, fast_bfloat16_flags

DEVICE = re.compile(r"([a-z]+)(?::([0-9]{1,3}))?")
GPU_KINDS = ("cuda", "mps", "xpu")


def pick_device(name: str | torch.device = "auto") -> torch.device:
    """The device of that name; `auto` is the first CUDA or Apple GPU, else the CPU.

    Raises ConfigError for a device that this machine does not have.
    """
    if isinstance(name, torch.device):
        return name
    if name == "auto":
        return torch.device(next((kind for kind in ("cuda", "mps") if _count(kind)), "cpu"))
    match = DEVICE.fullmatch(name)
    if match and int(match[2] or 0) < _count(match[1]):
        return torch.device(name)
    raise ConfigError(f"--device {name!r} is not on this machine, which has {', '.join(['auto', *devices_here()])}")


def devices_here() -> list[str]:
    """The names that `pick_device` accepts on this machine, without `auto`."""
    counts = {kind: _count(kind) for kind in GPU_KINDS}
    numbered = (f"{kind}:{number}" for kind, count in counts.items() if count > 1 for number in range(count))
    return ["cpu", *(kind for kind, count in counts.items() if count), *numbered]


def _count(kind: str) -> int:
    """Number of devices of a kind that torch can use; 0 for unknown kinds."""
    if kind == "cpu":
        return 1
    if kind == "mps":
        return int(torch.backends.mps.is_available())
    module: Any = getattr(torch, kind, None)  # also of plugins, such as torch.hpu
    known = callable(getattr(module, "is_available", None)) and callable(getattr(module, "device_count", None))
    return int(module.device_count()) if known and module.is_available() else 0


def pick_dtype(name: DtypeName | torch.dtype, device: torch.device) -> torch.dtype:
    """The dtype of that name; `auto` is bfloat16 if the device multiplies it faster than float32.

    `auto` is float32 with the engine torch-int8, which quantizes float32 layers.
    """
    if isinstance(name, torch.dtype):
        return name
    if name == "auto":
        needs_float32 = engine() == "torch-int8" and device.type == "cpu"
        return torch.bfloat16 if has_fast_bfloat16(device) and not needs_float32 else torch.float32
    return {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.bfloat16}[name]


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 matrix products are faster than float32 ones on the device."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and bool(fast_bfloat16_flags())


def describe(device: torch.device, dtype: torch.dtype) -> str:
    """One line for manifests, such as `cpu (x86_64, 2 cores), bfloat16`."""
    if device.type == "cuda":
        where = torch.cuda.get_device_name(device)
    else:
        where = f"{device.type} ({platform.machine()}, {cores()} cores)"
    return f"{where}, {str(dtype).removeprefix('torch.')}"
