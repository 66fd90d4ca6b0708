"""What every benchmark says first, since its figures hold for one kind of processor: the tier, the cores, the load."""

from __future__ import annotations

import os
from pathlib import Path

from inpars.models import processor, tiers

TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100  # a second, of /proc


def print_tier() -> None:
    """One line such as `tier avx512_bf16, 2 cores, load 0.1`; caps are named."""
    caps = [f"{name}={os.environ[name]}" for name in tiers.CAP_VARIABLES if os.environ.get(name)]
    load = [f"load {os.getloadavg()[0]:.1f}"] if hasattr(os, "getloadavg") else []
    print(", ".join([f"tier {processor.tier()}", f"{processor.cores()} cores", *load, *caps]), flush=True)


def descendants_seconds(pid: int) -> float:
    """Processor seconds of the living descendants of a process; 0 where the system has no /proc."""
    children: dict[int, list[tuple[int, float]]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            continue  # it has ended
        spent = (int(fields[11]) + int(fields[12])) / TICKS
        children.setdefault(int(fields[1]), []).append((int(path.parent.name), spent))
    total, waiting = 0.0, [pid]
    while waiting:
        for child, spent in children.get(waiting.pop(), []):
            total += spent
            waiting.append(child)
    return total
