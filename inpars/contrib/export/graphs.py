"""Exports bi-encoders, cross-encoders and monoT5s as ONNX and OpenVINO graphs, and computes with them.

The torch network and its graph share tokenization and score computation.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from torch import Tensor

from inpars.contrib.export.exportable import (
    Classifier,
    Embedding,
    EncoderAndStep,
    Exportable,
    Form,
    LateInteraction,
)
from inpars.engines.openvino_network import openvino_package
from inpars.errors import ConfigError
from inpars.models.networks import evaluating
from inpars.rerankers.pair_model import Batch

if TYPE_CHECKING:
    from inpars.contrib.export.stage import ExportModelOptions

OPSET = 18
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
GRAPH, SMALL_GRAPH, OPENVINO_GRAPH = "model.onnx", "model.int8.onnx", "openvino_model.xml"


def write_forms(model: Exportable, folder: Path, options: ExportModelOptions) -> Iterator[Form]:
    """Write the graphs, one after the other. Raises ConfigError for a late-interaction retriever."""
    if isinstance(model, LateInteraction):
        raise ConfigError(f"{options.model} is a late-interaction retriever, which --format pylate exports")
    if options.openvino:
        openvino_package()  # fails early if it is missing
    graph = folder / GRAPH
    write_graph(model.graph, model.example(), graph)
    model.save_beside(folder)
    yield Form("onnx, float32", [graph], partial(model.scores, run=Session(graph, options.threads)))
    if options.int8:
        quantize(graph, folder / SMALL_GRAPH)
        session = Session(folder / SMALL_GRAPH, options.threads)
        yield Form("onnx, int8", [folder / SMALL_GRAPH], partial(model.scores, run=session), rounded=True)
    if options.openvino:
        path = folder / OPENVINO_GRAPH
        convert_to_openvino(graph, path)
        files = [path, path.with_suffix(".bin")]
        yield Form("openvino, float32", files, partial(model.scores, run=OpenVinoSession(path, options.threads)))


def write_graph(network: Embedding | Classifier | EncoderAndStep, example: Batch, path: Path) -> None:
    """Write the float32 graph, with dynamic batch size and length. `example` is a batch to trace it with."""
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
    """Write the graph with int8 weights and dynamically quantized activations."""
    graph = onnx.load(path)
    del graph.graph.value_info[:]  # torch's shapes predate its constant folding; they are inferred again
    quantize_dynamic(graph, target, weight_type=QuantType.QInt8, per_channel=True)


class Session:
    """A graph in ONNX Runtime."""

    def __init__(self, path: Path, threads: int | None = None) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors
        if threads is not None:
            options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._names = {value.name for value in self._session.get_inputs()}

    def __call__(self, batch: Batch) -> Tensor:
        """The graph's output for a batch of CPU tensors."""
        inputs = {name: tensor.numpy() for name, tensor in batch.items() if name in self._names}
        return torch.from_numpy(self._session.run(None, inputs)[0])


def convert_to_openvino(path: Path, target: Path) -> None:
    """Convert an ONNX graph to OpenVINO's .xml, with the weights next to it as .bin."""
    openvino = openvino_package()
    openvino.save_model(openvino.convert_model(str(path)), str(target), compress_to_fp16=False)


class OpenVinoSession:
    """A graph in OpenVINO, in float32."""

    def __init__(self, path: Path, threads: int | None = None) -> None:
        settings = {"INFERENCE_PRECISION_HINT": "f32", **({"INFERENCE_NUM_THREADS": threads} if threads else {})}
        self._compiled = openvino_package().Core().compile_model(str(path), "CPU", settings)
        self._names = {value.any_name for value in self._compiled.inputs}

    def __call__(self, batch: Batch) -> Tensor:
        """The graph's output for a batch of CPU tensors."""
        inputs = {name: tensor.numpy() for name, tensor in batch.items() if name in self._names}
        return torch.from_numpy(np.array(self._compiled(inputs)[0]))
