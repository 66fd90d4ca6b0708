"""ONNX Runtime's sides of `engines.py`: graphs exported by torch, then quantised dynamically to 8 bits."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import engine_graphs as graphs
import torch
from engine_worker import Made, Work, by_length


def encoding(work: Work) -> Made:
    """The bi-encoder."""
    return _made(graphs.encoder(work), work, (8, 16, 32))


def cross_encoder(work: Work) -> Made:
    """The cross-encoder."""
    return _made(graphs.cross_encoder(work), work, (4, 8, 16))


def t5(work: Work) -> Made:
    """monoT5."""
    return _made(graphs.t5(work), work, (4, 8, 16))


def scoring(work: Work) -> Made:
    """Whole prompts with their queries."""
    return _made(graphs.scoring(work), work, (4, 8))


def _made(graph: graphs.Graph, work: Work, sizes: Sequence[int]) -> Made:
    import onnxruntime
    from onnxruntime.quantization import QuantType, quantize_dynamic

    folder = TemporaryDirectory(prefix="engines-")
    plain, small = Path(folder.name) / "plain.onnx", Path(folder.name) / "int8.onnx"
    _export(graph, plain)
    quantize_dynamic(plain, small, weight_type=QuantType.QInt8, per_channel=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = work["threads"]
    session = onnxruntime.InferenceSession(small, options, providers=["CPUExecutionProvider"])
    variants = {f"batch {size}": partial(_compute, graph, session, size) for size in sizes}
    return Made(f"onnxruntime {onnxruntime.__version__}, dynamic int8", variants, folder.cleanup)


def _export(graph: graphs.Graph, target: Path) -> None:
    example = {name: torch.from_numpy(array) for name, array in graph.encode([0, 1]).items()}
    free = {name: dict(enumerate(sizes)) for name, sizes in graph.free.items()}
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter's age: the newer one wants fixed sizes
        torch.onnx.export(
            graph.network,
            kwargs=example,
            f=str(target),
            input_names=list(example),
            output_names=["found"],
            dynamic_axes=free,
            opset_version=17,
            dynamo=False,
        )


def _compute(graph: graphs.Graph, session: Any, size: int, positions: Sequence[int]) -> list[Any]:  # noqa: ANN401
    found: list[Any] = [None] * len(positions)
    for batch in by_length(graph.lengths, positions, size):
        chosen = [positions[index] for index in batch]
        (values,) = session.run(None, dict(graph.encode(chosen)))
        for index, value in zip(batch, graph.read(values, chosen), strict=True):
            found[index] = value
    return found
