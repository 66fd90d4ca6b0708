"""Runs a transformers network in OpenVINO, for inference only; the graph is converted once into the cache.

In bfloat16 or float32 its outputs agree with torch's up to rounding. With 8-bit weights (NNCF, symmetric, one scale per
output channel) the inputs of products are rounded too, in groups. It is thread-safe, with one request per thread. Rows
padded to a multiple of `ALIGNMENT` tokens give the same bits alone and in any batch.
"""

from __future__ import annotations

import copy
import hashlib
import os
import sys
import warnings
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from inspect import signature
from io import StringIO
from pathlib import Path
from threading import local
from types import SimpleNamespace
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from inpars.cache import cache_folder
from inpars.errors import MissingDependencyError
from inpars.io.storage import storage_errors
from inpars.models.compute_options import DtypeName
from inpars.models.processor import fast_bfloat16_flags
from inpars.text.hashing import hex_key

INSTALL = "pip install openvino nncf"
GRAPH_FORMAT = 4  # increase when the conversion changes
ALIGNMENT = 16  # tokens; at other widths, padding a row further changes the order of its sums
# Layers that read one token per row keep float32: in 8 bits a row's result would depend on how many rows there are, and
# a classifier's head is wrong in several streams.
ONE_TOKEN_LAYERS = (r".*classifier.*", r".*pooler.*", r".*decoder\.(?!.*EncDecAttention\.[kv]).*", r".*lm_head.*")
QUANTIZATION_GROUP = 128  # inputs of a product per scale; the whole row if its width is not a multiple

UNUSED_POSITIONS = 2  # included in RoBERTa's max_position_embeddings

Output: TypeAlias = Literal["last_hidden_state", "logits"]


class OpenVinoFunction:
    """A module with positional tensor inputs and one output."""

    def __init__(
        self,
        network: Any,
        module: Callable[[Any], nn.Module],
        example: Mapping[str, Tensor],
        subject: str,
        *,
        int8: bool = False,
        dtype: DtypeName = "auto",
    ) -> None:
        """Convert and compile `module(network)`; `subject` identifies it in the cache key.

        Raises one of `networks.UNFIT` if it cannot be converted.
        """
        self._int8, self._precision = int8, precision_hint(dtype)
        self._compiled = _compiled(_graph(network, module, example, subject, int8=int8), self._precision)
        self._thread = local()

    def __str__(self) -> str:
        """Everything its output depends on besides the network's weights."""
        name = f"OpenVINO {openvino_package().__version__.split('-')[0]}, {self._precision}"
        return f"{name}, 8-bit products" if self._int8 else name

    def __call__(self, *inputs: Tensor) -> Tensor:
        """The output, in float32."""
        if not hasattr(self._thread, "request"):
            self._thread.request = self._compiled.create_infer_request()
        arrays = {number: np.ascontiguousarray(tensor.numpy()) for number, tensor in enumerate(inputs)}
        outputs = self._thread.request.infer(arrays, share_inputs=True)
        return torch.from_numpy(np.array(outputs[0]))  # a copy: the request reuses its memory


class OpenVinoNetwork(nn.Module):
    """Replaces an encoder or classifier."""

    def __init__(self, network: Any, output: Output, *, int8: bool = False, dtype: DtypeName = "auto") -> None:
        """Convert and compile. Raises one of `networks.UNFIT` if the network cannot be converted."""
        super().__init__()
        self.config, self._output = network.config, output
        example = probe(network, 2, 8)
        self._inputs = list(example)
        self._function = OpenVinoFunction(
            network, lambda traced: _OneOutput(traced, output, self._inputs), example, output, int8=int8, dtype=dtype
        )

    @property
    def device(self) -> torch.device:
        """The device of its inputs."""
        return torch.device("cpu")

    @property
    def dtype(self) -> torch.dtype:
        """The number format of its outputs."""
        return torch.float32

    def __str__(self) -> str:
        """Everything its outputs depend on besides the network's weights."""
        return str(self._function)

    def forward(self, **inputs: Any) -> Any:
        """An object with the output in float32; inputs that the graph does not have are ignored."""
        ids = inputs["input_ids"]
        added, tokens = self._padding(ids.shape[1]), ids.shape[1]
        zeros = torch.zeros_like(ids)
        tensors = {name: zeros if inputs.get(name) is None else inputs[name] for name in self._inputs}
        pad_ids = {"input_ids": getattr(self.config, "pad_token_id", None) or 0}
        outputs = self._function(*(pad(tensors[name], (0, added), value=pad_ids.get(name, 0)) for name in self._inputs))
        if self._output == "logits":
            return SimpleNamespace(logits=outputs)
        return _Outputs(outputs[:, :tokens])

    def _padding(self, tokens: int) -> int:
        """Number of padding tokens per row, within the network's positions."""
        positions = getattr(self.config, "max_position_embeddings", None)
        limit = aligned(tokens) if positions is None else positions - UNUSED_POSITIONS
        return max(0, min(aligned(tokens), limit) - tokens)


def aligned(tokens: int) -> int:
    """The next multiple of `ALIGNMENT`."""
    return -(-tokens // ALIGNMENT) * ALIGNMENT


class _Outputs(SimpleNamespace):
    """Hidden states by attribute, key and index, as sentence-transformers accesses them."""

    def __init__(self, states: Tensor) -> None:
        super().__init__(last_hidden_state=states)

    def __getitem__(self, key: int | str) -> Tensor:
        tensor: Tensor = self.last_hidden_state if key == 0 else getattr(self, str(key))
        return tensor

    def __contains__(self, key: object) -> bool:
        return key == "last_hidden_state"


def agrees(network: Any, other: Any, output: Output, tolerance: float) -> bool:
    """Whether two networks agree on texts of several lengths; `tolerance` is a share of the outputs' deviation."""
    for texts, tokens in ((8, 12), (9, 40)):
        inputs = probe(network, texts, tokens)
        inputs["attention_mask"][0, tokens // 2 :] = 0
        visible = inputs["attention_mask"] > 0
        with torch.inference_mode():
            one, two = (getattr(each(**inputs), output).float() for each in (network, other))
        if output == "last_hidden_state":
            one, two = one[visible], two[visible]
        if one.shape != two.shape or not (one - two).square().mean().sqrt() <= tolerance * one.std() + 1e-6:
            return False
    return True


def probe(network: Any, texts: int, tokens: int) -> dict[str, Tensor]:
    """Artificial inputs, (texts, tokens), with ids spread over the vocabulary."""
    size = network.config.vocab_size
    ids = torch.arange(texts * tokens).view(texts, tokens) * 7919 % (size - 1) + 1
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}
    return {name: tensor for name, tensor in inputs.items() if name in signature(network.forward).parameters}


def _graph(
    network: Any, module: Callable[[Any], nn.Module], example: Mapping[str, Tensor], subject: str, *, int8: bool
) -> Path:
    """The graph's file in the cache, converted if it is missing."""
    openvino = openvino_package()
    parts = (str(GRAPH_FORMAT), openvino.__version__, type(network).__name__, subject, str(int8))
    key = hex_key(*parts, weights_fingerprint(network))
    target = cache_folder() / "openvino" / f"{key}.xml"
    if target.exists():
        return target
    with storage_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        working = target.with_name(f".{key}.{os.getpid()}.xml")
        try:
            openvino.save_model(_converted(network, module, example, int8=int8), working, compress_to_fp16=False)
            working.with_suffix(".bin").replace(target.with_suffix(".bin"))
            working.replace(target)
        finally:
            working.unlink(missing_ok=True)
            working.with_suffix(".bin").unlink(missing_ok=True)
    return target


def _converted(network: Any, module: Callable[[Any], nn.Module], example: Mapping[str, Tensor], *, int8: bool) -> Any:
    openvino = openvino_package()
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    if network.dtype != torch.float32:
        network = copy.deepcopy(network).float()
    with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()), torch.inference_mode():
        warnings.simplefilter("ignore")  # tracing warns of constants; `agrees` checks other lengths
        # without check_trace, by which torch would trace and run the module twice more
        traced = TorchScriptPythonDecoder(
            module(network), example_input=tuple(example.values()), trace_kwargs={"check_trace": False}
        )
        graph = openvino.convert_model(traced)
        for graph_input, name in zip(graph.inputs, example, strict=True):
            graph_input.get_tensor().set_names({name})
        _transpose_last_weights(graph)
        if int8:
            kept = _nncf().IgnoredScope(patterns=[*ONE_TOKEN_LAYERS], validate=False)
            graph = _nncf().compress_weights(graph, mode=_nncf().CompressWeightsMode.INT8_SYM, ignored_scope=kept)
    return graph


def _transpose_last_weights(graph: Any) -> None:
    """Store the weights of a gated MLP's last layer as (inputs, outputs).

    With (outputs, inputs), OpenVINO 2026.4 fuses the MLP on AMX into a kernel that divides by zero in a single-threaded
    stream and ends the process with SIGFPE.
    """
    from openvino import opset13 as operations

    for product in graph.get_ordered_ops():
        if product.get_type_name() != "MatMul" or not product.get_attributes()["transpose_b"]:
            continue
        states, weights = (port.get_source_output().get_node() for port in product.inputs())
        if states.get_type_name() == "Multiply" and weights.get_type_name() == "Constant":
            transposed = operations.constant(np.ascontiguousarray(weights.data.T))
            transpose_states = product.get_attributes()["transpose_a"]
            replacement = operations.matmul(states.output(0), transposed, transpose_states, False)
            replacement.set_friendly_name(product.get_friendly_name())
            product.output(0).replace(replacement.output(0))


class _OneOutput(nn.Module):
    """The network with positional inputs and one output, for tracing."""

    def __init__(self, network: Any, output: Output, inputs: list[str]) -> None:
        super().__init__()
        self._network, self._output, self._inputs = network, output, inputs

    def forward(self, *inputs: Tensor) -> Tensor:
        tensor: Tensor = getattr(self._network(**dict(zip(self._inputs, inputs, strict=True))), self._output)
        return tensor


def _compiled(graph: Path, precision: str) -> Any:
    """Compile for one single-threaded stream per torch thread."""
    threads = torch.get_num_threads()
    properties: Mapping[str, Any] = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": threads,
        "INFERENCE_PRECISION_HINT": precision,
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": QUANTIZATION_GROUP,
        "ENABLE_CPU_PINNING": False,  # a pinned thread waits if its core is busy
    }
    return openvino_package().Core().compile_model(str(graph), "CPU", properties)


@cache
def openvino_package() -> Any:
    """The `openvino` package, with its telemetry disabled. Raises MissingDependencyError."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        import openvino
    except ImportError as error:
        raise MissingDependencyError("openvino", "for its engine and its graphs", INSTALL) from error
    return openvino


@cache
def computes_in(dtype: DtypeName) -> bool:
    """Whether OpenVINO computes in this number format on this processor."""
    if dtype != "bfloat16":
        return dtype in ("auto", "float32")
    return "BF16" in openvino_package().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def precision_hint(dtype: DtypeName = "auto") -> Literal["bf16", "f32"]:
    """OpenVINO's name of the number format; `auto` is bfloat16 if the CPU has fast instructions for it."""
    fast = dtype == "auto" and fast_bfloat16_flags() and computes_in("bfloat16")
    return "bf16" if fast or dtype == "bfloat16" else "f32"


@cache
def _nncf() -> Any:
    os.environ.setdefault("NNCF_CI", "1")  # disables its telemetry
    try:
        import nncf
    except ImportError as error:
        raise MissingDependencyError("nncf", "for 8-bit weights", INSTALL) from error
    return nncf


def weights_fingerprint(network: nn.Module) -> str:
    """A hash of all weights: names, shapes, dtypes and values."""
    digest = hashlib.sha256()
    for name, weight in network.state_dict().items():
        digest.update(f"{name}\0{tuple(weight.shape)}\0{weight.dtype}\0".encode())
        digest.update(weight.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
