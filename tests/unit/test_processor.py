"""What the processor says of itself, read from files that stand for Linux's."""

import os
from pathlib import Path

import pytest

from inpars.models import processor as module
from inpars.models.processor import cores, cpu_flags, fast_bfloat16_flags, memory_bytes


@pytest.mark.parametrize(
    ("flags", "fast"),
    [
        ("fpu avx512f avx512_bf16 amx_bf16", ["amx_bf16", "avx512_bf16"]),
        ("fpu avx512_bf16", ["avx512_bf16"]),
        ("fpu avx2", []),
    ],
)
def test_bfloat16_by_instruction(monkeypatch, flags, fast):
    monkeypatch.setattr(module, "cpu_flags", lambda: frozenset(flags.split()))
    assert fast_bfloat16_flags() == fast


@pytest.fixture
def files(monkeypatch, tmp_path):
    """Sends the module's absolute paths into a folder."""
    monkeypatch.setattr(module, "Path", lambda path: tmp_path / Path(path).name)
    return tmp_path


def test_flags_of_the_first_processor(files):
    assert cpu_flags() == frozenset()
    (files / "cpuinfo").write_text("model name\t: x\nflags\t\t: fpu sse\n\nflags\t\t: other\n", encoding="utf-8")
    assert cpu_flags() == {"fpu", "sse"}


def test_a_containers_limit_is_the_memory(files):
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert memory_bytes() == whole
    (files / "memory.max").write_text("1000\n", encoding="utf-8")
    assert memory_bytes() == 1000
    (files / "memory.max").write_text("max\n", encoding="utf-8")
    (files / "memory.limit_in_bytes").write_text("9223372036854771712\n", encoding="utf-8")  # cgroup v1's unlimited
    assert memory_bytes() == whole


def test_memory_nobody_tells(monkeypatch):
    def refuse(_):
        raise ValueError("unrecognized configuration name")

    monkeypatch.setattr(module.os, "sysconf", refuse)
    assert memory_bytes() is None


def test_there_is_a_core():
    assert 1 <= cores() <= (os.cpu_count() or 1)
