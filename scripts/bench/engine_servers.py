"""The servers' sides of `engines.py`: llama.cpp's own `llama-server` and vLLM, with their prefix caches.

Both are asked for log-probabilities, as everything here keeps them. This package need not be installed beside vLLM.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from engine_worker import Absent, Made, Work

START_SECONDS = 120.0
SLOTS = 8
VLLM_ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
}


def llama_generation(work: Work) -> Made:
    """`llama-server` with the model's own GGUF file, several requests at once; the best number of them is searched."""
    program, file = work["llama_server"], work["gguf"]
    if not program:
        raise Absent("no --llama-server")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    threads, context = (
        work["threads"],
        SLOTS * (len(max(work["prompts"], key=len).split()) * 3 + work["max_new_tokens"]),
    )
    command = [program, "-m", file, "--host", "127.0.0.1", "--port", port, "-t", threads, "-tb", threads]
    command += ["-np", SLOTS, "-c", SLOTS * context, "--no-webui"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process: Any = subprocess.Popen([str(part) for part in command], **quiet)
    try:
        _wait(port, process)
    except TimeoutError:
        _stop(process)
        raise
    kind = Path(file).suffixes[-2].lstrip(".")
    runs = {
        f"{kind}, {count} at once": partial(_ask_all, _Client(port, work), ThreadPoolExecutor(count), work)
        for count in (4, 8, 2, 1)
    }
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    found = re.search(r"version: (\S+)", version.stderr + version.stdout)
    return Made(f"llama-server {found[1] if found else ''}".rstrip(), runs, partial(_stop, process))


def llama_scoring(_: Work) -> Made:
    """Absent: the server has log-probabilities of written tokens alone."""
    raise Absent("llama-server gives no log-probabilities of given tokens")


class _Client:
    """Asks the server, each time over a new connection: it closes those that wait for a while."""

    def __init__(self, port: int, work: Work) -> None:
        self._port, self._work = port, work

    def ask(self, position: int) -> list[Any]:
        """The query and its number of tokens."""
        wanted = {
            "prompt": self._work["prompts"][position],
            "n_predict": self._work["max_new_tokens"],
            "temperature": 0,
            "n_probs": 1,
            "stop": [self._work["stop"]],
            "cache_prompt": True,
        }
        with closing(HTTPConnection("127.0.0.1", self._port, timeout=600)) as connection:
            connection.request("POST", "/completion", json.dumps(wanted), {"Content-Type": "application/json"})
            answer = json.loads(connection.getresponse().read())
        if "content" not in answer:
            raise RuntimeError(f"llama-server answered {str(answer)[:200]}")
        return [answer["content"].strip(), answer["tokens_predicted"]]


def _ask_all(client: _Client, pool: ThreadPoolExecutor, work: Work, positions: Sequence[int]) -> list[Any]:
    order = sorted(range(len(positions)), key=lambda index: -len(work["prompts"][positions[index]]))
    written = dict(zip(order, pool.map(client.ask, [positions[index] for index in order]), strict=True))
    return [written[index] for index in range(len(positions))]


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"llama-server ended with {process.returncode} before it answered")
        connection = HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        finally:
            connection.close()
        time.sleep(0.2)
    raise TimeoutError(f"llama-server did not answer within {START_SECONDS:.0f} s")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait()


def vllm_generation(work: Work) -> Made:
    """All prompts at once."""
    vllm, engine = _vllm(work)
    tokens, stop = work["max_new_tokens"], [work["stop"]]
    wanted = vllm.SamplingParams(temperature=0.0, max_tokens=tokens, stop=stop, logprobs=0)

    def run(positions: Sequence[int]) -> list[Any]:
        answers = engine.generate([work["prompts"][position] for position in positions], wanted, use_tqdm=False)
        return [[answer.outputs[0].text.strip(), len(answer.outputs[0].token_ids)] for answer in answers]

    return Made(f"vllm {vllm.__version__}, {work['fast']}", {"all at once": run})


def vllm_scoring(work: Work) -> Made:
    """All prompts with their queries at once; one token is written, as vLLM wants it."""
    vllm, engine = _vllm(work)
    wanted = vllm.SamplingParams(temperature=0.0, max_tokens=1, prompt_logprobs=0)
    tokenizer = engine.get_tokenizer()

    def run(positions: Sequence[int]) -> list[Any]:
        texts = [f"{work['prompts'][position]} {work['queries'][position]}" for position in positions]
        found = []
        for position, answer in zip(positions, engine.generate(texts, wanted, use_tqdm=False), strict=True):
            start = len(tokenizer(work["prompts"][position])["input_ids"])
            ids, values = answer.prompt_token_ids[start:], answer.prompt_logprobs[start:]
            found.append([value[token].logprob for token, value in zip(ids, values, strict=True)])
        return found

    return Made(f"vllm {vllm.__version__}, {work['fast']}", {"all at once": run})


def _vllm(work: Work) -> tuple[Any, Any]:
    """The package, and a model with a bounded cache and nothing to compile, which is fastest for small models."""
    os.environ.update(VLLM_ENVIRONMENT)
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"  # for what it compiles
    if work["threads"] < (os.cpu_count() or 1):
        os.environ["VLLM_CPU_OMP_THREADS_BIND"] = f"0-{work['threads'] - 1}"
    import vllm

    settings = {"kv_cache_memory_bytes": 2 << 30, "block_size": 32, "enforce_eager": True, "max_model_len": 2048}
    return vllm, vllm.LLM(
        model=work["decoder_folder"], dtype=work["fast"], enable_prefix_caching=True, seed=0, **settings
    )
