"""Compiles pair models for scoring with a faster engine than torch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from inpars.engines.choice import TOLERANCE, Forms, chosen_form, openvino_form, processor_seconds
from inpars.engines.int8_products import with_int8_products
from inpars.engines.openvino_network import OpenVinoFunction, aligned, probe
from inpars.models.compute_options import DtypeName, EngineName
from inpars.models.networks import evaluating
from inpars.rerankers.cross_encoder import CrossEncoder
from inpars.rerankers.monot5 import MonoT5
from inpars.rerankers.pair_model import Batch, CompiledMargins, PairModel

COMPARED, TIMED = (9, 40), (4, 160)  # (pairs, tokens per pair) of the inputs for checking and timing a form


def compiled(model: PairModel, model_name: str, dtype: DtypeName = "auto") -> CompiledMargins | None:
    """The model's margins in another engine; None to use torch. `model_name` is shown to users."""
    if isinstance(model, MonoT5):
        return _compiled_monot5(model, model_name, dtype)
    if not isinstance(model, CrossEncoder):
        return None
    network = model.network
    form = openvino_form(
        network, "logits", dtype, lambda stop_watch: stop_watch(lambda inputs: network(**inputs)), model_name
    )
    return None if form is None else CompiledMargins(lambda batch: model.margins(batch, form))


def _compiled_monot5(model: MonoT5, model_name: str, dtype: DtypeName) -> CompiledMargins | None:
    network, answers = model.network, model.answers

    def with_network(other: Any) -> MonoT5:
        return MonoT5(other, model.tokenizer, answers, model.max_length)

    def batch(pairs: int, tokens: int) -> Batch:
        inputs = probe(network, pairs, tokens)
        inputs["attention_mask"][0, tokens // 2 :] = 0
        return inputs

    def make(name: EngineName) -> CompiledMargins:
        if name == "torch-int8":
            return CompiledMargins(with_network(with_int8_products(network)).margins, thread_safe=False)
        subject = f"margins of {answers.true_id} over {answers.false_id}"
        int8, example = name == "openvino-int8", batch(2, 8)
        function = OpenVinoFunction(
            network, lambda traced: _MarginsModule(with_network(traced)), example, subject, int8=int8, dtype=dtype
        )

        def margins(inputs: Batch) -> Tensor:
            padding = aligned(inputs["input_ids"].shape[1]) - inputs["input_ids"].shape[1]
            return function(*(pad(inputs[name], (0, padding)) for name in ("input_ids", "attention_mask")))

        return CompiledMargins(margins)

    def agrees(form: CompiledMargins, name: EngineName) -> bool:
        inputs = batch(*COMPARED)
        with torch.inference_mode(), evaluating(network):
            expected, margins = model.margins(inputs).float(), form.margins(inputs)
        return bool((margins - expected).square().mean().sqrt() <= TOLERANCE[name] * expected.std() + 1e-6)

    def seconds(form: MonoT5 | CompiledMargins) -> float:
        inputs = batch(*TIMED)
        with evaluating(network):
            return processor_seconds(lambda: form.margins(inputs))

    forms = Forms(make, agrees, seconds, seconds_of_torch=lambda: seconds(model))
    return chosen_form(network, "margins", dtype, forms, model_name)


class _MarginsModule(nn.Module):
    """The margins as a traceable module with positional tensors."""

    def __init__(self, model: MonoT5) -> None:
        super().__init__()
        self._network, self._model = model.network, model

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self._model.margins({"input_ids": ids, "attention_mask": mask})
