"""The generators that run on this machine: an entry of `BACKENDS` and a loader per backend.

Each loader imports torch, transformers or vLLM only when it is called.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pkgutil import resolve_name

from inpars.errors import MissingDependencyError
from inpars.extras import EXTRAS, VLLM
from inpars.generation import QueryGenerator
from inpars.generation.settings import LocalModel
from inpars.records import Document


@dataclass(frozen=True, slots=True)
class LocalBackend:
    """The properties of a backend that are known without importing its module, and the defaults of its decoding."""

    loader: str  # MODULE:FUNCTION, which gets a LocalModel
    meaning: str  # for --help
    num_queries: int = 1
    temperature: float = 0.0
    top_p: float = 1.0
    reads_prompt: bool = True  # without --prompt; else the document alone


BACKENDS: Mapping[str, LocalBackend] = {
    "causal": LocalBackend("inpars.stages.generate_locally:load_causal", "a decoder continues the prompt"),
    "seq2seq": LocalBackend(
        "inpars.stages.generate_locally:load_seq2seq",
        "a T5 or BART reads only the document (GenQ)",
        num_queries=3,
        temperature=1.0,
        top_p=0.95,
        reads_prompt=False,
    ),
    "vllm": LocalBackend(
        "inpars.stages.generate_locally:load_vllm",
        "causal, computed by vLLM in this process (the batch size can change the last digits of log-probs)",
    ),
}


def load_local_generator(backend: str, model: LocalModel) -> QueryGenerator:
    """The generator of a backend. Raises MissingDependencyError if its package is missing."""
    generator: QueryGenerator = resolve_name(BACKENDS[backend].loader)(model)
    return generator


def backend_help() -> str:
    """Help text of the flag for the backend."""
    local = "; ".join(f"{name}: {backend.meaning}" for name, backend in BACKENDS.items())
    return f"{local}; completions, chat: an OpenAI-compatible server"


def default_help(setting: str) -> str:
    """The defaults of a decoding setting, for --help."""
    usual = LocalBackend("", "")
    others = [
        f"{name} {getattr(backend, setting):g}"
        for name, backend in BACKENDS.items()
        if getattr(backend, setting) != getattr(usual, setting)
    ]
    return "; ".join([f"(default: {getattr(usual, setting):g}", *others]) + ")"


def load_causal(local: LocalModel) -> QueryGenerator:
    """A decoder, by OpenVINO where that is faster."""
    from inpars.generation.causal_lm import CausalGenerator
    from inpars.generation.openvino_decoders import openvino_generator

    def load_torch() -> QueryGenerator:
        return CausalGenerator(local.model, local.prompt, local.settings, **local.computing.placement)

    local.computing.set_up()
    return openvino_generator(local, load_torch) or load_torch()


def load_seq2seq(local: LocalModel) -> QueryGenerator:
    """A T5 or BART."""
    from inpars.generation.seq2seq import Seq2SeqGenerator

    def render(document: Document, text: str) -> str:
        return local.prompt.for_document(document).render(text).strip()

    local.computing.set_up()
    return Seq2SeqGenerator(local.model, local.settings, render=render, **local.computing.placement)


def load_vllm(local: LocalModel) -> QueryGenerator:
    """By vLLM. Raises MissingDependencyError without the package."""
    if find_spec("vllm") is None:
        raise MissingDependencyError("vllm", "for --backend vllm", EXTRAS["vllm"].install_line() or VLLM)
    from inpars.generation.vllm_engine import VllmGenerator

    local.computing.set_up()
    return VllmGenerator(local.model, local.prompt, local.settings, **local.computing.placement)
