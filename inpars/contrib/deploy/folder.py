"""A tuned model as a folder for sentence-transformers and Text Embeddings Inference, checked by reloading it.

Weights are saved as float32 safetensors with adapters merged. https://huggingface.co/docs/text-embeddings-inference
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling

from inpars.cards.card import carry_card
from inpars.errors import BackendError
from inpars.io.storage import atomic_folder
from inpars.models import loading as models
from inpars.models.compute_options import Placement
from inpars.models.folders import ExportKind, check_output, find_export_kind
from inpars.rerankers.load import load_pair_model
from inpars.rerankers.pair_model import ModelScorer, save_pair_model

SAMPLE = [("what is amber", "Amber is fossil resin."), ("rivers", "A delta is land that a river builds.")]
TOLERANCE = 1e-4
NEEDED = ("config.json", "tokenizer.json", "model.safetensors")
POOLINGS = ("cls", "mean", "lasttoken")  # supported by Text Embeddings Inference


def export_folder(model: str, output: Path, *, trust_remote_code: bool = False) -> tuple[ExportKind, list[str]]:
    """Write the folder and return the model's kind with warnings about other servers.

    Raises BackendError if the reloaded folder computes other numbers.
    """
    check_output(output)
    config = models.load_config(model, trust_remote_code=trust_remote_code)
    kind = find_export_kind(model, config)
    save = {"bi-encoder": _bi_encoder, "cross-encoder": _cross_encoder, "monot5": _monot5}[kind]
    with atomic_folder(output) as working:
        warnings = save(model, working, {"device": "cpu", "dtype": "float32", "trust_remote_code": trust_remote_code})
        carry_card(model, working, output.name, "deploy folder")
        warnings += [f"{name} is missing" for name in NEEDED if not _has(working, name)]
    return kind, warnings


def _bi_encoder(model: str, folder: Path, where: Placement) -> list[str]:
    loaded = models.load_sentence_transformer(model, **where)
    loaded.save_pretrained(str(folder), create_model_card=False)
    texts = [text for pair in SAMPLE for text in pair]
    again = SentenceTransformer(str(folder), device="cpu", trust_remote_code=where["trust_remote_code"])
    _compare(model, loaded.encode_document(texts), again.encode_document(texts))
    parts: list[Any] = list(loaded)
    poolings = [part.pooling_mode for part in parts if isinstance(part, Pooling)]
    unknown = [mode for mode in poolings if mode not in POOLINGS]
    return [f"Text Embeddings Inference has no {mode} pooling" for mode in unknown]


def _cross_encoder(model: str, folder: Path, where: Placement) -> list[str]:
    loaded = load_pair_model(model, kind="cross-encoder", **where)
    save_pair_model(loaded, folder)
    again = CrossEncoder(str(folder), device="cpu", trust_remote_code=where["trust_remote_code"])
    _compare(model, ModelScorer(loaded, model).score(SAMPLE), again.predict(SAMPLE, show_progress_bar=False))
    return []


def _monot5(model: str, folder: Path, where: Placement) -> list[str]:
    network, tokenizer = models.load_seq2seq(model, **where)
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return ["Text Embeddings Inference and sentence-transformers do not rerank with a T5; inpars serve does"]


def _compare(model: str, before: Any, after: Any) -> None:  # noqa: ANN401 - either library's arrays
    difference = float(np.abs(np.asarray(before) - np.asarray(after)).max())
    if not difference <= TOLERANCE:
        raise BackendError(f"{model}: the reloaded export differs from the model by {difference:.2g}; not exported")


def _has(folder: Path, name: str) -> bool:
    return any(folder.rglob(name)) or (name == "model.safetensors" and any(folder.rglob("model-*.safetensors")))
