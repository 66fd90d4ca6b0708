"""Exports bi-encoders as GGUF files by llama.cpp's converter, and embeds with its server.

llama.cpp is the user's own: a folder of its sources with `convert_hf_to_gguf.py`, and `llama-server` built from them.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http.client import HTTPException
from pathlib import Path
from socket import socket
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, Request, build_opener

import torch
from torch import Tensor

from inpars.contrib.export.exportable import Exportable, Form, Retriever
from inpars.errors import BackendError, ConfigError, reason_of

if TYPE_CHECKING:
    from inpars.contrib.export.stage import ExportModelOptions

CONVERTER, SERVER = "convert_hf_to_gguf.py", "llama-server"
BUILD_SERVER = f"cmake -B build && cmake --build build --target {SERVER}"
WEIGHTS = {"f32": "float32", "q8_0": "8-bit weights"}
SECONDS_TO_START = 120
_OPEN = build_opener(ProxyHandler({})).open  # this machine is asked, so no proxy


def write_forms(model: Exportable, folder: Path, options: ExportModelOptions) -> Iterator[Form]:
    """Write `model.f32.gguf` and, with `options.int8`, `model.q8_0.gguf`. Raises ConfigError, BackendError."""
    if not isinstance(model, Retriever):
        raise ConfigError(
            f"{options.model} is a {model.kind}, and --format gguf is for bi-encoders: llama.cpp reads both texts of a "
            "pair as one segment and computes no margins"
        )
    converter, program = _find(options.llama_cpp)
    model.save_beside(folder)
    for weights in ("f32", "q8_0") if options.int8 else ("f32",):
        path = folder / f"model.{weights}.gguf"
        _convert(model, converter, path, weights, Path(options.model).resolve().name)
        with _served(program, path, model.max_length, options.threads) as address:
            score = partial(model.scores_by, embed=partial(_embed, model, address))
            yield Form(f"gguf, {WEIGHTS[weights]}", [path], score, rounded=weights != "f32")


def _find(llama_cpp: Path | None) -> tuple[Path, Path]:
    """The converter and the server."""
    if llama_cpp is None:
        raise ConfigError(f"--format gguf needs --llama-cpp FOLDER, a folder of llama.cpp with {CONVERTER}")
    if not (llama_cpp / CONVERTER).is_file():
        raise ConfigError(f"--llama-cpp {llama_cpp}: there is no {CONVERTER}; give the folder of llama.cpp's sources")
    built = shutil.which(SERVER, path=str(llama_cpp / "build" / "bin")) or shutil.which(SERVER)
    if built is None:
        raise ConfigError(
            f"--llama-cpp {llama_cpp}: no {SERVER} in build/bin or on the PATH, and the file is checked with it; build "
            f"it there: {BUILD_SERVER}"
        )
    return llama_cpp / CONVERTER, Path(built)


def _convert(model: Retriever, converter: Path, path: Path, weights: str, name: str) -> None:
    """Write a GGUF file, in which the model is called `name`."""
    with TemporaryDirectory() as working:
        source = Path(working) / name
        model.save(source)
        command = [sys.executable, str(converter), str(source), "--outfile", str(path), "--outtype", weights]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode or not path.is_file():
        raise BackendError(f"{converter} could not convert the model: {_last_line(done.stderr)}")


@contextmanager
def _served(program: Path, path: Path, max_length: int, threads: int | None) -> Iterator[str]:
    """The address of llama.cpp's server with the model, on a free port of this machine."""
    with socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    tokens = str(max_length)
    command = [str(program), "--model", str(path), "--embedding", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--parallel", "1", "--ctx-size", tokens, "--batch-size", tokens, "--ubatch-size", tokens]
    command += ["--threads", str(threads)] if threads else []
    with TemporaryDirectory() as logs, (Path(logs) / "log").open("w+b") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            _wait(server, f"http://127.0.0.1:{port}/health", Path(logs) / "log")
            yield f"http://127.0.0.1:{port}"
        finally:
            server.kill()
            server.wait()


def _wait(server: subprocess.Popen[bytes], address: str, log: Path) -> None:
    """Return when the server answers. Raises BackendError if it ends or takes too long."""
    deadline = time.monotonic() + SECONDS_TO_START
    while server.poll() is None and time.monotonic() < deadline:
        try:
            _OPEN(address, timeout=10).close()
        except (URLError, OSError):  # it loads
            time.sleep(0.1)
        else:
            return
    code = f" with exit code {server.poll()}" if server.poll() is not None else ""
    line = _last_line(log.read_text(encoding="utf-8", errors="replace"))
    raise BackendError(f"{SERVER} did not start{code}: {line}")


def _embed(model: Retriever, address: str, texts: Sequence[str]) -> Tensor:
    """Embeddings as the network computes them, (texts, width)."""
    body = {"input": [model.cut(text) for text in texts], "embd_normalize": -1}
    request = Request(f"{address}/v1/embeddings", json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with _OPEN(request) as stream:
            answer: dict[str, Any] = json.load(stream)
    except HTTPError as error:
        raise BackendError(f"{SERVER} refused texts: {_last_line(error.read().decode(errors='replace'))}") from None
    except (OSError, HTTPException) as error:
        raise BackendError(f"{SERVER} ended while it embedded: {reason_of(error)}") from None
    return torch.tensor([item["embedding"] for item in sorted(answer["data"], key=lambda item: item["index"])])


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1][:300] if lines else "it printed nothing"
