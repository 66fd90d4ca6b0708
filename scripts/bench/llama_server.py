"""The llama.cpp side of `generation.py`: the server of `llama-cpp-python[server]`, asked over its API.

It reads the same model file, answers one request at a time and keeps the prompt it read last, so that the shared
beginning of the prompts is read once. Log-probabilities are asked for, as everything here keeps them.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import torch

from inpars.generation.prompt_tokens import PromptTokens
from inpars.models.embedded import EMBEDDED
from inpars.models.loading import load_causal_lm
from inpars.models.processor import cores
from inpars.prompting.templates import Prompt
from inpars.records import Document

START_SECONDS = 120.0


def is_there(python: str) -> bool:
    """Whether that interpreter has the server."""
    check = [python, "-c", "import llama_cpp.server"]
    return subprocess.run(check, capture_output=True, check=False).returncode == 0


def model_file(model: str) -> Path | None:
    """The GGUF file that stands behind a model's name, None where there is none in one piece."""
    files = EMBEDDED[model].locate() if model in EMBEDDED else [Path(model)]
    return files[0] if len(files) == 1 and files[0].suffix == ".gguf" else None


@contextmanager
def server(python: str, file: Path) -> Iterator[str]:
    """The base URL of a server on a free port of this machine, stopped at the end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {"model": file, "host": "127.0.0.1", "port": port, "n_ctx": 2048, "n_threads": cores()}
    settings |= {"logits_all": True, "verbose": False}
    command = [python, "-m", "llama_cpp.server", *(str(part) for k, v in settings.items() for part in (f"--{k}", v))]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{port}/v1"
        _wait(url, process)
        yield url
    finally:
        process.terminate()
        process.wait()


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            sys.exit(f"the llama.cpp server ended with {process.returncode} before it answered")
        try:
            urlopen(f"{url}/models", timeout=5).close()
            return
        except (URLError, ConnectionError, TimeoutError):
            time.sleep(0.2)
    sys.exit(f"the llama.cpp server did not answer within {START_SECONDS:.0f} s")


class LlamaCpp:
    """Whole prompts to the server, one after the other."""

    def __init__(self, url: str, model: str, prompt: Prompt, max_doc_tokens: int, max_new_tokens: int) -> None:
        from openai import OpenAI

        _, tokenizer = load_causal_lm(model, device=torch.device("cpu"), dtype=torch.float32)
        self._inputs = PromptTokens(tokenizer, prompt, max_doc_tokens)
        self._prompt, self._max_new_tokens = prompt, max_new_tokens
        self._client = OpenAI(base_url=url, api_key="none", max_retries=0, timeout=300)

    def queries(self, documents: Sequence[Document]) -> list[str]:
        """A query for each document."""
        return [self._query(text) for text in self._inputs.texts(documents)]

    def _query(self, text: str) -> str:
        answer = self._client.completions.create(
            model="local", prompt=text, max_tokens=self._max_new_tokens, temperature=0, logprobs=1, stop="\n"
        )
        return self._prompt.parse(answer.choices[0].text)
