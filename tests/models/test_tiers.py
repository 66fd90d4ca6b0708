"""Tiers by CPU flags; a cap makes oneDNN and torch compute like a lower tier."""

import os
import platform
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from inpars.models.processor import allowed, processor_tier

capped = runpy.run_path(str(Path(__file__).parents[2] / "scripts" / "bench" / "machine.py"))["capped"]

FLAGS = {
    "amx": "avx2 avx512f avx512_vnni avx512_bf16 amx_tile amx_int8 amx_bf16",
    "avx512_bf16": "avx2 avx512f avx512_vnni avx512_bf16",
    "avx512_vnni": "avx2 avx512f avx512_vnni",
    "avx2": "avx2 fma",
}
MEASURE = """
import torch
from torch.utils import mkldnn
print(torch.backends.cpu.get_cpu_capability())
mkldnn.to_mkldnn(torch.nn.Linear(64, 64))(torch.ones(4, 64).to_mkldnn())
"""


@pytest.mark.parametrize("tier", FLAGS)
def test_a_tier_is_named_by_its_instructions(tier):
    assert processor_tier(frozenset(FLAGS[tier].split()), "x86_64") == tier


def test_arm_and_processors_without_vnni():
    assert processor_tier(frozenset(), "arm64") == "neon"
    assert processor_tier(frozenset({"avx512f"}), "x86_64") == "avx2"


@pytest.mark.parametrize("tier", FLAGS)
def test_the_highest_processor_capped_is_of_that_tier(tier, monkeypatch):
    monkeypatch.delenv("DNNL_MAX_CPU_ISA", raising=False)
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    for name, value in capped(tier).items():
        monkeypatch.setenv(name, value)
    assert processor_tier(allowed(frozenset(FLAGS["amx"].split())), "x86_64") == tier


def test_a_cap_that_nobody_knows_forbids_nothing(monkeypatch):
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "ALL")
    assert allowed(frozenset({"amx_bf16"})) == {"amx_bf16"}
    with pytest.raises(ValueError, match=r"'neon'.*amx, avx512_bf16"):
        capped("neon")


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="caps are those of x86 processors")
def test_onednn_and_torch_obey_the_cap():
    environment = {**os.environ, **capped("avx2"), "ONEDNN_VERBOSE": "1"}
    done = subprocess.run([sys.executable, "-c", MEASURE], env=environment, capture_output=True, text=True, check=True)
    products = [line for line in done.stdout.splitlines() if "exec" in line and "inner_product" in line]
    assert products
    assert not any("avx512" in line or "amx" in line for line in products)
    assert "AVX512" not in done.stdout.splitlines()
