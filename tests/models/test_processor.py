"""Processor and memory, read from fake system files, and malloc's settings."""

import os
import platform
import subprocess
import sys
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
    """Redirects the module's absolute paths into a folder."""
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


@pytest.mark.parametrize("name", ["GLIBC_TUNABLES", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"])
def test_malloc_stays_as_somebody_has_set_it(monkeypatch, name):
    monkeypatch.setenv(name, "1")
    monkeypatch.setattr(module, "set_malloc", lambda **_: pytest.fail("set"))
    assert not module.keep_freed_memory()


def test_another_c_library_is_no_error(monkeypatch):
    monkeypatch.setattr(module.ctypes, "CDLL", lambda _: object())
    assert not module.set_malloc(mapped=1 << 20, trimmed=-1)
    assert not module.return_freed_memory()


def told_by(script, *arguments):
    """The output of a fresh Python process with malloc's default settings."""
    environment = {k: v for k, v in os.environ.items() if k not in module.MALLOC_SETTINGS}
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment).stdout


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's malloc")
def test_freed_memory_is_used_again():
    """Without the setting, each of the 16,384 pages of a 64 MiB block faults every time it is allocated."""
    script = (
        "import sys, resource\nfrom inpars.models.processor import keep_freed_memory\n"
        "if sys.argv[1] == 'kept': assert keep_freed_memory()\n"
        "for _ in range(8): bytearray(64 << 20)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)"
    )
    faults = {kind: int(told_by(script, kind)) for kind in ("kept", "plain")}
    assert faults["kept"] < faults["plain"] / 2


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's malloc")
def test_freed_memory_is_returned_when_asked():
    """256 MiB in blocks of a reference cycle, below a block that stays."""
    script = (
        "from pathlib import Path\nfrom resource import getpagesize\n"
        "from inpars.models.processor import keep_freed_memory, return_freed_memory\n"
        "def resident(): return int(Path('/proc/self/statm').read_text().split()[1]) * getpagesize() >> 20\n"
        "assert keep_freed_memory()\n"
        "before, cycle = resident(), [bytearray(b'1' * (1 << 20)) for _ in range(256)]\n"
        "cycle.append(cycle)\n"
        "above = bytearray(b'1' * (1 << 20))\n"
        "del cycle\n"
        "kept = resident() - before\n"
        "assert return_freed_memory()\n"
        "print(kept, resident() - before)"
    )
    kept, left = map(int, told_by(script).split())
    assert kept > 250
    assert left < 50
