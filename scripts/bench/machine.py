"""What every benchmark says first, since its figures hold for one kind of processor: the tier, the cores, the load."""

from __future__ import annotations

import os

from inpars.models import processor, tiers


def print_tier() -> None:
    """One line such as `tier avx512_bf16, 2 cores, load 0.1`; caps are named."""
    caps = [f"{name}={os.environ[name]}" for name in tiers.CAP_VARIABLES if os.environ.get(name)]
    load = [f"load {os.getloadavg()[0]:.1f}"] if hasattr(os, "getloadavg") else []
    print(", ".join([f"tier {processor.tier()}", f"{processor.cores()} cores", *load, *caps]), flush=True)
