"""What this machine's processor and memory are, for those who must not import torch.

A tier says which number formats are fast: `amx` multiplies tiles of bfloat16 and int8, `avx512_bf16` and `avx512_vnni`
have instructions for bfloat16 and int8 or for int8 alone, `avx2` and `neon` for float32.
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
CAP_VARIABLES = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")  # of oneDNN, read when it is first used
# a tier's instructions as Linux names them, best tier first: the first whose flags are all there is the machine's
TIER_FLAGS: dict[Tier, tuple[str, ...]] = {
    "amx": ("amx_bf16", "amx_int8"),
    "avx512_bf16": ("avx512_bf16", "avx512_vnni"),
    "avx512_vnni": ("avx512_vnni",),
    "avx2": (),
}
# what each cap of oneDNN leaves of the flags above; caps that are not named here leave all
CAPS: dict[str, frozenset[str]] = {
    **dict.fromkeys(("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE"), frozenset()),
    "AVX512_CORE_VNNI": frozenset({"avx512_vnni"}),
    "AVX512_CORE_BF16": frozenset({"avx512_vnni", "avx512_bf16"}),
    "AVX512_CORE_FP16": frozenset({"avx512_vnni", "avx512_bf16"}),
}
MATRIX_UNIT = "amx_bf16"
FAST_BFLOAT16_FLAGS = (MATRIX_UNIT, "avx512_bf16")  # x86 instructions that multiply bfloat16 faster than float32
MEMORY_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")  # containers
KEPT_BLOCK = 1 << 30  # bytes of the largest block that malloc keeps when it is freed
MALLOC_SETTINGS = ("GLIBC_TUNABLES", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")  # set by the user
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


def cpu_flags() -> frozenset[str]:
    """The instruction sets Linux reports for the processor, less those that a cap forbids; empty elsewhere."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    flags = next((line.partition(":")[2] for line in lines if line.startswith("flags")), "").split()
    return allowed(frozenset(flags))


def tier() -> Tier:
    """What this processor computes fast."""
    return processor_tier(cpu_flags())


def processor_tier(flags: frozenset[str], machine: str = "") -> Tier:
    """The tier of a processor with these flags, those that a cap forbids left out already."""
    if (machine or platform.machine()).lower() in ("arm64", "aarch64"):
        return "neon"
    return next(tier for tier, needed in TIER_FLAGS.items() if flags.issuperset(needed))


def allowed(flags: frozenset[str]) -> frozenset[str]:
    """The flags that the environment's cap lets the libraries use."""
    cap = next((os.environ[name].strip().upper() for name in CAP_VARIABLES if os.environ.get(name)), "")
    if cap not in CAPS:
        return flags
    capped_flags = frozenset(flag for needed in TIER_FLAGS.values() for flag in needed)
    return flags - (capped_flags - CAPS[cap])


def fast_bfloat16_flags() -> list[str]:
    """The processor's instructions that make bfloat16 faster than float32; empty where it has none."""
    return [flag for flag in FAST_BFLOAT16_FLAGS if flag in cpu_flags()]


@cache
def has_matrix_unit() -> bool:
    """Whether the processor multiplies tiles of bfloat16 (AMX)."""
    return MATRIX_UNIT in cpu_flags()


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


def keep_freed_memory() -> bool:
    """Have this process's malloc keep what is freed, for the next tensors; whether that could be said.

    glibc gives blocks of some MiB back to the system as soon as they are free, and the system clears every page of the
    next ones anew. Between the tensors of one training step and the next that is up to half of a processor's time.
    """
    if any(name in os.environ for name in MALLOC_SETTINGS):
        return False
    return set_malloc(mapped=KEPT_BLOCK, trimmed=-1)


def return_freed_memory() -> bool:
    """Give back to the system what malloc keeps of a finished stage, which the next one needs in other sizes."""
    gc.collect()  # models and their trainers refer to each other
    trim = _of_glibc("malloc_trim")
    return trim is not None and bool(trim(0))


def set_malloc(*, mapped: int, trimmed: int) -> bool:
    """Bytes from which glibc maps a block alone, and of free memory that it keeps (-1: all); False without glibc."""
    mallopt = _of_glibc("mallopt")
    return mallopt is not None and bool(mallopt(M_MMAP_THRESHOLD, mapped)) and bool(mallopt(M_TRIM_THRESHOLD, trimmed))


def _of_glibc(name: str) -> Callable[..., int] | None:
    try:
        function: Callable[..., int] = getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError, TypeError):
        return None  # another system's C library
    return function
