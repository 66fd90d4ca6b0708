"""What every benchmark says first, since its figures hold for one kind of processor: the tier, the cores, the load."""

from __future__ import annotations

import os
from collections.abc import Mapping

from inpars.models import processor

CAP_OF: dict[str, Mapping[str, str]] = {
    "amx": {},
    "avx512_bf16": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16"},
    "avx512_vnni": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_VNNI"},
    "avx2": {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"},
}


def print_tier() -> None:
    """One line such as `tier avx512_bf16, 2 cores, load 0.1`; caps are named."""
    caps = [f"{name}={os.environ[name]}" for name in processor.CAP_VARIABLES if os.environ.get(name)]
    load = [f"load {os.getloadavg()[0]:.1f}"] if hasattr(os, "getloadavg") else []
    print(", ".join([f"tier {processor.tier()}", f"{processor.cores()} cores", *load, *caps]), flush=True)


def capped(tier: str) -> Mapping[str, str]:
    """Environment variables under which a new process computes as on a processor of that tier.

    Raises ValueError for a tier that no cap leads to.
    """
    if tier not in CAP_OF:
        raise ValueError(f"no cap leads to tier {tier!r}; choose among {', '.join(CAP_OF)}")
    return CAP_OF[tier]
