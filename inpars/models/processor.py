"""What this machine's processor and memory are, for those who must not import torch."""

from __future__ import annotations

import os
from pathlib import Path

FAST_BFLOAT16_FLAGS = ("amx_bf16", "avx512_bf16")  # x86 instructions that multiply bfloat16 faster than float32
MEMORY_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")  # containers


def cpu_flags() -> frozenset[str]:
    """The instruction sets Linux reports for the processor; empty elsewhere."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    return frozenset(next((line.partition(":")[2] for line in lines if line.startswith("flags")), "").split())


def fast_bfloat16_flags() -> list[str]:
    """The processor's instructions that make bfloat16 faster than float32; empty where it has none."""
    return [flag for flag in FAST_BFLOAT16_FLAGS if flag in cpu_flags()]


def cores() -> int:
    """Processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_bytes() -> int | None:
    """Memory this process may use, a container's limit included; None where the system does not say."""
    try:
        sizes = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    except (AttributeError, OSError, ValueError):
        return None
    for path in map(Path, MEMORY_LIMITS):
        limit = path.read_text(encoding="utf-8").strip() if path.is_file() else ""
        sizes += [int(limit)] if limit.isdigit() else []
    return min(sizes)
