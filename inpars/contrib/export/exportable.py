"""Exports bi-encoders, cross-encoders and monoT5s as ONNX and OpenVINO graphs, and scores pairs with them.

The torch network and its graph share tokenization and score computation. Graphs map the tokenizer's tensors to
`sentence_embedding` for a bi-encoder and to `logits` for a cross-encoder; a monoT5 is exported as its encoder with one
decoder step, from ids and mask to `margin`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import onnx
import onnxruntime
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from torch import Tensor, nn

from inpars.batches import slices
from inpars.engines.openvino_network import openvino_package
from inpars.io.storage import write_json
from inpars.models import loading as models
from inpars.models.compute_options import Placement
from inpars.models.folders import ExportKind, find_export_kind
from inpars.models.networks import check_length, evaluating, pad_id
from inpars.models.retrievers import SETTINGS_FILE
from inpars.rerankers.cross_encoder import CrossEncoder, segments
from inpars.rerankers.load import load_pair_model
from inpars.rerankers.monot5 import MonoT5
from inpars.rerankers.pair_model import Batch, EncodedPair, Pair, collate, keep_settings

Run: TypeAlias = Callable[[Batch], Tensor]
BATCH = 32
EXAMPLE: list[Pair] = [("what is a lake", "a lake is a body of water"), ("what is fog", "a cloud near the ground")]
OPSET = 18
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


class Embedding(nn.Module):
    """A sentence-transformers model from token ids to `sentence_embedding`."""

    output = "sentence_embedding"

    def __init__(self, model: Any) -> None:  # noqa: ANN401
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """Embeddings, (texts, width)."""
        embeddings: Tensor = self.model(_named_inputs(input_ids, attention_mask, token_type_ids))[self.output]
        return embeddings[:, : self.model.truncate_dim]


class Classifier(nn.Module):
    """A sequence classifier from token ids to `logits`."""

    output = "logits"

    def __init__(self, network: Any) -> None:  # noqa: ANN401
        super().__init__()
        self.network = network

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """Logits, (pairs, labels)."""
        logits: Tensor = self.network(**_named_inputs(input_ids, attention_mask, token_type_ids)).logits
        return logits


class EncoderAndStep(nn.Module):
    """A monoT5 from token ids to `margin`: its encoder and one decoder step."""

    output = "margin"

    def __init__(self, model: MonoT5) -> None:
        super().__init__()
        self.network, self._model = model.network, model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Margins, (pairs,)."""
        return self._model.margins(_named_inputs(input_ids, attention_mask, None))


def _named_inputs(input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None) -> Batch:
    common = {"input_ids": input_ids, "attention_mask": attention_mask}
    return common if token_type_ids is None else common | {"token_type_ids": token_type_ids}


class Reranker:
    """A cross-encoder or a monoT5; `graph` is the module to export, in float32 on the CPU."""

    notes: Sequence[str] = ()

    def __init__(self, model: CrossEncoder | MonoT5) -> None:
        self._model = model
        self.kind: ExportKind = "monot5" if isinstance(model, MonoT5) else "cross-encoder"
        self.graph = EncoderAndStep(model) if isinstance(model, MonoT5) else Classifier(model.network)
        self.graph.eval()  # new modules start in training mode

    def example(self) -> Batch:
        """The graph's input for two example pairs."""
        return self._batch(self._model.encode(EXAMPLE))

    def scores(self, pairs: Sequence[Pair], run: Run) -> list[float]:
        """Score the pairs with a network or graph."""
        encoded, scores = self._model.encode(pairs), [0.0] * len(pairs)
        for rows in slices(_longest_first([len(pair) for pair in encoded]), BATCH):
            output = run(self._batch([encoded[row] for row in rows])).float()
            if output.ndim == 2:
                output = output[:, -1] - output[:, 0] if output.shape[1] == 2 else output[:, 0]
            for row, score in zip(rows, output.tolist(), strict=True):
                scores[row] = score
        return scores

    def _batch(self, encoded: Sequence[EncodedPair]) -> Batch:
        batch = collate(encoded, pad_id(self._model.tokenizer))
        if isinstance(self._model, CrossEncoder) and self._model.has_segments:
            batch["token_type_ids"] = segments(batch)
        del batch["second_tokens"]
        return batch

    def save_beside(self, folder: Path) -> None:
        keep_settings(self._model)
        self._model.network.config.save_pretrained(folder)
        self._model.tokenizer.save_pretrained(folder)


class Retriever:
    """A bi-encoder; a pair's score is the model's own similarity, dot product or cosine."""

    kind: ExportKind = "bi-encoder"

    def __init__(self, model: Any) -> None:  # noqa: ANN401
        self._model, self.graph = model, Embedding(model)
        self.graph.eval()
        self._dot = model.similarity_fn_name == "dot"

    @property
    def notes(self) -> Sequence[str]:
        """What users of the graph have to know."""
        prompts = [f"{text!r} ({name})" for name, text in (self._model.prompts or {}).items() if text]
        read = "texts get the model's prompts before the graph reads them"
        return [f"{read}: {', '.join(prompts)}; {SETTINGS_FILE} has them"] if prompts else []

    def example(self) -> Batch:
        return self._batch([text for pair in EXAMPLE for text in pair])

    def scores(self, pairs: Sequence[Pair], run: Run) -> list[float]:
        prompts = self._model.prompts or {}
        queries = self._embed((query for query, _ in pairs), prompts.get("query") or "", run)
        documents = self._embed((document for _, document in pairs), prompts.get("document") or "", run)
        return [float(queries[query] @ documents[document]) for query, document in pairs]

    def _embed(self, texts: Iterable[str], prompt: str, run: Run) -> dict[str, Tensor]:
        distinct = list(dict.fromkeys(texts))
        embeddings: dict[str, Tensor] = {}
        for rows in slices(_longest_first([len(text) for text in distinct]), BATCH):
            vectors = run(self._batch([prompt + distinct[row] for row in rows])).float()
            vectors = vectors if self._dot else torch.nn.functional.normalize(vectors, dim=-1)
            embeddings |= {distinct[row]: vector for row, vector in zip(rows, vectors, strict=True)}
        return embeddings

    def _batch(self, texts: Sequence[str]) -> Batch:
        encoded = self._model.tokenizer(
            list(texts), padding=True, truncation=True, max_length=self._model.max_seq_length, return_tensors="pt"
        )
        return dict(encoded)

    def save_beside(self, folder: Path) -> None:
        self._model.tokenizer.model_max_length = self._model.max_seq_length or self._model.tokenizer.model_max_length
        self._model[0].auto_model.config.save_pretrained(folder)
        self._model.tokenizer.save_pretrained(folder)
        names = ("prompts", "default_prompt_name", "similarity_fn_name")
        write_json(folder / SETTINGS_FILE, {name: getattr(self._model, name) for name in names})


Exportable: TypeAlias = Reranker | Retriever


def load_exportable(
    model: str,
    kind: ExportKind | Literal["auto"] = "auto",
    *,
    max_length: int | None = None,
    true_token: str | None = None,
    false_token: str | None = None,
    trust_remote_code: bool = False,
) -> Exportable:
    """Load a model in float32 on the CPU. Raises ConfigError for kinds that cannot be exported."""
    where: Placement = {"device": "cpu", "dtype": "float32", "trust_remote_code": trust_remote_code}
    if kind == "auto":
        kind = find_export_kind(model, models.load_config(model, trust_remote_code=trust_remote_code))
    if kind == "bi-encoder":
        encoder = models.load_sentence_transformer(model, **where)
        check_length(encoder, model, max_length)
        encoder.max_seq_length = max_length or encoder.max_seq_length
        return Retriever(encoder)
    pair_model = load_pair_model(
        model, kind=kind, max_length=max_length, true_token=true_token, false_token=false_token, **where
    )
    assert isinstance(pair_model, CrossEncoder | MonoT5)
    return Reranker(pair_model)


def _longest_first(lengths: Sequence[int]) -> list[int]:
    return sorted(range(len(lengths)), key=lambda row: (-lengths[row], row))


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
