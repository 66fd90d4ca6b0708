"""Loads the generators that run on this machine: one loader per backend.

Each loader imports torch, transformers or vLLM only when it is called.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec

from inpars.errors import MissingDependencyError
from inpars.extras import EXTRAS, VLLM
from inpars.generation import QueryGenerator
from inpars.generation.settings import LocalModel
from inpars.records import Document


def load_local_generator(backend: str, model: LocalModel) -> QueryGenerator:
    """The generator of a backend. Raises MissingDependencyError if its package is missing."""
    return LOADERS[backend](model)


def _causal(local: LocalModel) -> QueryGenerator:
    from inpars.generation.causal_lm import CausalGenerator
    from inpars.generation.openvino_decoders import openvino_generator

    def load_torch() -> QueryGenerator:
        return CausalGenerator(local.model, local.prompt, local.settings, **local.computing.placement)

    local.computing.set_up()
    return openvino_generator(local, load_torch) or load_torch()


def _seq2seq(local: LocalModel) -> QueryGenerator:
    from inpars.generation.seq2seq import Seq2SeqGenerator

    def render(document: Document, text: str) -> str:
        return local.prompt.for_document(document).render(text).strip()

    local.computing.set_up()
    return Seq2SeqGenerator(local.model, local.settings, render=render, **local.computing.placement)


def _vllm(local: LocalModel) -> QueryGenerator:
    if find_spec("vllm") is None:
        raise MissingDependencyError("vllm", "for --backend vllm", EXTRAS["vllm"].install_line() or VLLM)
    from inpars.generation.vllm_engine import VllmGenerator

    local.computing.set_up()
    return VllmGenerator(local.model, local.prompt, local.settings, **local.computing.placement)


LOADERS: Mapping[str, Callable[[LocalModel], QueryGenerator]] = {"causal": _causal, "seq2seq": _seq2seq, "vllm": _vllm}
