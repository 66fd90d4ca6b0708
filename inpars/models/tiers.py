"""What kind of processor computes, by the name that doctor, benches and manifests give it.

A tier says which number formats are fast: `amx` multiplies tiles of bfloat16 and int8, `avx512_bf16` and `avx512_vnni`
have instructions for bfloat16 and int8 or for int8 alone, `avx2` and `neon` for float32. A higher tier can be measured
as a lower one by capping the libraries, see `capped`. Imports no torch.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
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
    "SSE41": frozenset(),
    "AVX": frozenset(),
    "AVX2": frozenset(),
    "AVX2_VNNI": frozenset(),
    "AVX2_VNNI_2": frozenset(),
    "AVX512_CORE": frozenset(),
    "AVX512_CORE_VNNI": frozenset({"avx512_vnni"}),
    "AVX512_CORE_BF16": frozenset({"avx512_vnni", "avx512_bf16"}),
    "AVX512_CORE_FP16": frozenset({"avx512_vnni", "avx512_bf16"}),
}
CAP_OF: dict[str, Mapping[str, str]] = {
    "amx": {},
    "avx512_bf16": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16"},
    "avx512_vnni": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_VNNI"},
    "avx2": {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"},
}


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


def capped(tier: str) -> Mapping[str, str]:
    """Environment variables under which a new process computes as on a processor of that tier.

    Raises ValueError for a tier that no cap leads to.
    """
    if tier not in CAP_OF:
        raise ValueError(f"no cap leads to tier {tier!r}; choose among {', '.join(CAP_OF)}")
    return CAP_OF[tier]
