"""Bi-encoders, cross-encoders and monoT5s as ONNX graphs, in float32 and with int8 weights, and how they are run.

The graphs keep the usual names: `sentence_embedding` for a bi-encoder, `logits` for a cross-encoder, each from what the
tokenizer gives; a monoT5 is its encoder with one decoder step, from ids and mask to `margin`. Knows nothing of files
but the graph's own.
"""

from __future__ import annotations

from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from torch import Tensor, nn

from inpars.models.networks import evaluating
from inpars.rerankers.monot5 import MonoT5
from inpars.rerankers.pair_model import Batch

OPSET = 18
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
Arrays = dict[str, npt.NDArray[np.int64]]


class Embedding(nn.Module):
    """A sentence-transformers model from token ids to `sentence_embedding`."""

    output = "sentence_embedding"

    def __init__(self, model: Any) -> None:  # noqa: ANN401
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """(texts, width)."""
        embeddings: Tensor = self.model(_named_inputs(input_ids, attention_mask, token_type_ids))[self.output]
        return embeddings


class Classifier(nn.Module):
    """A sequence classifier from token ids to `logits`."""

    output = "logits"

    def __init__(self, network: Any) -> None:  # noqa: ANN401
        super().__init__()
        self.network = network

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """(pairs, labels)."""
        logits: Tensor = self.network(**_named_inputs(input_ids, attention_mask, token_type_ids)).logits
        return logits


class EncoderAndStep(nn.Module):
    """A monoT5 from token ids to `margin`: its encoder and one decoder step."""

    output = "margin"

    def __init__(self, model: MonoT5) -> None:
        super().__init__()
        self.network, self._model = model.network, model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(pairs,)."""
        return self._model.margins(_named_inputs(input_ids, attention_mask, None))


def _named_inputs(input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None) -> Batch:
    common = {"input_ids": input_ids, "attention_mask": attention_mask}
    return common if token_type_ids is None else common | {"token_type_ids": token_type_ids}


def write_graph(network: Embedding | Classifier | EncoderAndStep, example: Batch, path: Path) -> None:
    """Write the float32 graph; texts and tokens of a batch may be as many as one likes. `example` is a real batch."""
    names = [name for name in INPUTS if name in example]
    sizes = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    with evaluating(network), torch.no_grad(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        torch.onnx.export(
            network,
            tuple(example[name] for name in names),
            path,
            input_names=names,
            output_names=[network.output],
            dynamic_shapes=(sizes,) * len(names),
            opset_version=OPSET,
            external_data=False,
            dynamo=True,
        )


def quantize(path: Path, target: Path) -> None:
    """Write the graph with int8 weights; activations are scaled as they come."""
    graph = onnx.load(path)
    del graph.graph.value_info[:]  # shapes that torch noted before it folded constants; they are inferred anew
    quantize_dynamic(graph, target, weight_type=QuantType.QInt8, per_channel=True)


class Session:
    """A graph that onnxruntime runs."""

    def __init__(self, path: Path, threads: int | None = None) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors
        if threads is not None:
            options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._names = {value.name for value in self._session.get_inputs()}

    def __call__(self, batch: Batch) -> Tensor:
        """The graph's output for a batch of tensors on the processor."""
        inputs: Arrays = {name: tensor.numpy() for name, tensor in batch.items() if name in self._names}
        return torch.from_numpy(self._session.run(None, inputs)[0])
