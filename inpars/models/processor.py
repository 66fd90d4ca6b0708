"""Inspects this machine's processor and memory, without importing torch.

A tier names the fast number formats: `amx` multiplies tiles of bfloat16 and int8, `avx512_bf16` has instructions for
bfloat16 and int8, `avx512_vnni` for int8, `avx2` and `neon` for float32.
"""

from __future__ import annotations

import ctypes
import gc
import os
import platform
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Literal, TypeAlias

Tier: TypeAlias = Literal["amx", "avx512_bf16", "avx512_vnni", "avx2", "neon", "mps", "cuda"]
CAP_VARIABLES = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")  # limit oneDNN's instruction sets
# Linux CPU flags per tier, best first; the machine's tier is the first whose flags are all present
TIER_FLAGS: dict[Tier, tuple[str, ...]] = {
    "amx": ("amx_bf16", "amx_int8"),
    "avx512_bf16": ("avx512_bf16", "avx512_vnni"),
    "avx512_vnni": ("avx512_vnni",),
    "avx2": (),
}
# flags above that each cap of oneDNN allows; other caps allow all
CAPS: dict[str, frozenset[str]] = {
    **dict.fromkeys(("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE"), frozenset()),
    "AVX512_CORE_VNNI": frozenset({"avx512_vnni"}),
    "AVX512_CORE_BF16": frozenset({"avx512_vnni", "avx512_bf16"}),
    "AVX512_CORE_FP16": frozenset({"avx512_vnni", "avx512_bf16"}),
}
MATRIX_UNIT = "amx_bf16"
FAST_BFLOAT16_FLAGS = (MATRIX_UNIT, "avx512_bf16")  # x86 instructions that multiply bfloat16 faster than float32
MEMORY_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")  # containers
KEPT_BLOCK = 1 << 30  # bytes; malloc keeps freed blocks up to this size
MALLOC_SETTINGS = ("GLIBC_TUNABLES", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")  # set by the user
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


def cpu_flags() -> frozenset[str]:
    """The instruction sets Linux reports, without those that a cap forbids; empty on other systems."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    flags = next((line.partition(":")[2] for line in lines if line.startswith("flags")), "").split()
    return allowed(frozenset(flags))


def tier() -> Tier:
    """The tier of this processor."""
    return processor_tier(cpu_flags())


def processor_tier(flags: frozenset[str], machine: str = "") -> Tier:
    """The tier of a processor with these allowed flags."""
    if (machine or platform.machine()).lower() in ("arm64", "aarch64"):
        return "neon"
    return next(tier for tier, needed in TIER_FLAGS.items() if flags.issuperset(needed))


def allowed(flags: frozenset[str]) -> frozenset[str]:
    """The flags that oneDNN's cap in the environment allows."""
    cap = next((os.environ[name].strip().upper() for name in CAP_VARIABLES if os.environ.get(name)), "")
    if cap not in CAPS:
        return flags
    capped_flags = frozenset(flag for needed in TIER_FLAGS.values() for flag in needed)
    return flags - (capped_flags - CAPS[cap])


def fast_bfloat16_flags() -> list[str]:
    """The processor's instructions that make bfloat16 faster than float32."""
    return [flag for flag in FAST_BFLOAT16_FLAGS if flag in cpu_flags()]


@cache
def has_matrix_unit() -> bool:
    """Whether the processor multiplies tiles of bfloat16 (AMX)."""
    return MATRIX_UNIT in cpu_flags()


def cores() -> int:
    """Processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_bytes() -> int | None:
    """Memory this process may use, within a container's limit; None if unknown."""
    try:
        sizes = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    except (AttributeError, OSError, ValueError):
        return None
    for path in map(Path, MEMORY_LIMITS):
        limit = path.read_text(encoding="utf-8").strip() if path.is_file() else ""
        sizes += [int(limit)] if limit.isdigit() else []
    return min(sizes)


def keep_freed_memory() -> bool:
    """Have malloc keep freed memory for later tensors; returns whether it was set.

    glibc returns freed blocks of a few MiB to the system, which must clear every page of the next ones. In training
    this takes up to half of the CPU time.
    """
    if any(name in os.environ for name in MALLOC_SETTINGS):
        return False
    return set_malloc(mapped=KEPT_BLOCK, trimmed=-1)


def return_freed_memory() -> bool:
    """Return memory that malloc keeps after a stage to the system; the next stage needs other sizes."""
    gc.collect()  # models and their trainers are in reference cycles
    trim = _glibc_function("malloc_trim")
    return trim is not None and bool(trim(0))


def set_malloc(*, mapped: int, trimmed: int) -> bool:
    """Set glibc's mmap and trim thresholds in bytes (-1: never trim); False without glibc."""
    mallopt = _glibc_function("mallopt")
    return mallopt is not None and bool(mallopt(M_MMAP_THRESHOLD, mapped)) and bool(mallopt(M_TRIM_THRESHOLD, trimmed))


def _glibc_function(name: str) -> Callable[..., int] | None:
    try:
        function: Callable[..., int] = getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError, TypeError):
        return None  # another system's C library
    return function
