"""Compiles pair models for scoring with a faster engine than torch.

Engines are compared on real text, the examples of the shipped prompts: 8-bit products differ more on artificial tokens,
and a network with outlying activations shows them there.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from inpars.engines.choice import Forms, chosen_form, processor_seconds, tolerance
from inpars.engines.int8_products import with_int8_products
from inpars.engines.openvino_network import OpenVinoFunction, OpenVinoNetwork, aligned, probe
from inpars.models.compute_options import DtypeName, EngineName
from inpars.models.networks import evaluating, pad_id
from inpars.prompts.load import load_prompt, prompt_names
from inpars.rerankers.cross_encoder import CrossEncoder
from inpars.rerankers.monot5 import MonoT5
from inpars.rerankers.pair_model import Batch, CompiledMargins, PairModel, collate

TIMED_BATCHES = 2  # of the examples'
# Largest error of 8-bit margins chosen by `auto`, as a share of the examples' deviation. A cross-encoder from MiniLM
# has .042, a small T5 .028, and both rank as well on six collections (EXPERIMENTS).
MAX_UNNAMED_INT8 = 0.06

Compilable: TypeAlias = CrossEncoder | MonoT5


def compiled(model: PairModel, model_name: str, dtype: DtypeName = "auto") -> CompiledMargins | None:
    """The model's margins in another engine; None to use torch. `model_name` is shown to users."""
    if not isinstance(model, Compilable):
        return None
    batches = cache(lambda: _example_batches(model))
    expected = cache(lambda: _margins(model, model, batches()))

    def agrees(form: CompiledMargins, name: EngineName) -> bool:
        error = (_margins(model, form, batches()) - expected()).square().mean().sqrt()
        return bool(error <= tolerance(name, MAX_UNNAMED_INT8) * expected().std() + 1e-6)

    def seconds(form: Compilable | CompiledMargins) -> float:
        return processor_seconds(lambda: _margins(model, form, batches()[:TIMED_BATCHES]))

    forms = Forms(lambda name: _form(model, name, dtype), agrees, seconds, seconds_of_torch=lambda: seconds(model))
    return chosen_form(model.network, "margins", dtype, forms, model_name)


def _example_batches(model: Compilable) -> list[Batch]:
    """The first query of each shipped prompt with every document of its examples."""
    examples = [load_prompt(name).examples for name in prompt_names()]
    pairs = [[(some[0].query, example.document) for example in some] for some in examples if some]
    return [collate(model.encode(some), pad_id(model.tokenizer)) for some in pairs]


def _margins(model: Compilable, form: Compilable | CompiledMargins, batches: Sequence[Batch]) -> Tensor:
    """Margins of all pairs of the batches, (pairs,)."""
    with torch.inference_mode(), evaluating(model.network):
        return torch.cat([form.margins(batch).float() for batch in batches])


def _form(model: Compilable, name: EngineName, dtype: DtypeName) -> CompiledMargins:
    """The model's margins in the named engine. Raises one of `networks.UNFIT` if it cannot compute them."""
    if isinstance(model, CrossEncoder):
        network: Any = (
            with_int8_products(model.network)
            if name == "torch-int8"
            else OpenVinoNetwork(model.network, "logits", int8=name == "openvino-int8", dtype=dtype)
        )
        return CompiledMargins(lambda batch: model.margins(batch, network))
    if name == "torch-int8":
        return CompiledMargins(_with_network(model, with_int8_products(model.network)).margins, thread_safe=False)
    return _monot5_in_openvino(model, int8=name == "openvino-int8", dtype=dtype)


def _monot5_in_openvino(model: MonoT5, *, int8: bool, dtype: DtypeName) -> CompiledMargins:
    if int8 and dtype == "auto":
        dtype = "float32"  # beside 8-bit products, bfloat16 margins would differ in the last bit by batch
    subject = f"margins of {model.answers.true_id} over {model.answers.false_id}"
    function = OpenVinoFunction(
        model.network,
        lambda traced: _MarginsModule(_with_network(model, traced)),
        probe(model.network, 2, 8),
        subject,
        int8=int8,
        dtype=dtype,
    )

    def margins(inputs: Batch) -> Tensor:
        padding = aligned(inputs["input_ids"].shape[1]) - inputs["input_ids"].shape[1]
        return function(*(pad(inputs[name], (0, padding)) for name in ("input_ids", "attention_mask")))

    return CompiledMargins(margins)


def _with_network(model: MonoT5, network: Any) -> MonoT5:
    return MonoT5(network, model.tokenizer, model.answers, model.max_length)


class _MarginsModule(nn.Module):
    """The margins as a traceable module with positional tensors."""

    def __init__(self, model: MonoT5) -> None:
        super().__init__()
        self._network, self._model = model.network, model

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self._model.margins({"input_ids": ids, "attention_mask": mask})
