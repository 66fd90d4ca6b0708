"""Exports late-interaction retrievers as folders that PyLate loads, and sentence-transformers too.

PyLate knows a transformer followed by projections, and keeps lengths, the tokens before a text and skipped words in
config_sentence_transformers.json. Token states without a projection get the identity for one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from sentence_transformers.base.modules import Dense, Normalize
from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask
from torch import nn

from inpars.contrib.export.exportable import Exportable, Form, LateInteraction
from inpars.errors import ConfigError
from inpars.io.storage import atomic_writer, write_json
from inpars.models.retrievers import MODULES_FILE, SETTINGS_FILE

if TYPE_CHECKING:
    from inpars.contrib.export.stage import ExportModelOptions

TRANSFORMER, PROJECTION = "sentence_transformers.models.Transformer", "pylate.models.Dense.Dense"
LENGTHS = "sentence_bert_config.json"
PROJECTIONS = ("in_features", "out_features", "bias", "activation_function", "use_residual")  # PyLate's settings


def write_forms(model: Exportable, folder: Path, options: ExportModelOptions) -> Iterator[Form]:
    """Write the folder. Raises ConfigError for another kind of model, or for what PyLate cannot do."""
    if not isinstance(model, LateInteraction):
        raise ConfigError(f"{options.model} is a {model.kind}, and --format pylate is for late-interaction retrievers")
    encoder: Any = model.graph
    transformer, *others = encoder
    projections = [module for module in others if isinstance(module, Dense)]
    (mask,) = [module for module in others if isinstance(module, MultiVectorMask)]
    _refuse(encoder, mask, options.model)
    transformer.auto_model.save_pretrained(folder)
    encoder.tokenizer.save_pretrained(folder)
    limit = options.max_length or transformer.max_seq_length
    write_json(folder / LENGTHS, {"max_seq_length": limit, "do_lower_case": False})
    modules = [("", TRANSFORMER)]
    for number, projection in enumerate(projections or [_identity(transformer.get_embedding_dimension())], start=1):
        path = folder / f"{number}_Dense"
        path.mkdir()
        projection.save(str(path))
        settings = json.loads((path / "config.json").read_text(encoding="utf-8"))
        write_json(path / "config.json", {name: settings[name] for name in PROJECTIONS if name in settings})
        modules.append((path.name, PROJECTION))
    listed = [{"idx": n, "name": str(n), "path": path, "type": kind} for n, (path, kind) in enumerate(modules)]
    with atomic_writer(folder / MODULES_FILE) as stream:
        json.dump(listed, stream, indent=2)
    write_json(folder / SETTINGS_FILE, _settings(encoder, mask, limit))
    exported = LateInteraction(str(folder), max_length=options.max_length)
    yield Form("pylate, float32", sorted(folder.rglob("*.safetensors")), exported.scores)


def _settings(model: Any, mask: MultiVectorMask, limit: int) -> dict[str, Any]:  # noqa: ANN401
    expansion = model[0].query_expansion
    known = model.tokenizer.get_vocab()
    return {
        "model_type": "ColBERT",
        "similarity_fn_name": "MaxSim",
        "prompts": {},
        "default_prompt_name": None,
        "query_prefix": model.prompts.get("query") or "",
        "document_prefix": model.prompts.get("document") or "",
        "query_length": expansion["length"] if expansion else model[0].query_length or limit,
        "document_length": model[0].document_length or limit,
        "do_query_expansion": expansion is not None,
        "attend_to_expansion_tokens": bool(expansion and expansion.get("attend")),
        "skiplist_words": [word for word in mask.skiplist_words if word in known],
    }


def _refuse(model: Any, mask: MultiVectorMask, name: str) -> None:  # noqa: ANN401
    """Raise ConfigError for what PyLate would do otherwise."""
    expansion = model[0].query_expansion
    for module in list(model)[1:]:
        if not isinstance(module, Dense | MultiVectorMask | Normalize):
            raise ConfigError(f"{name}: PyLate has no module {type(module).__name__}")
    if model.similarity_fn_name != "maxsim":
        raise ConfigError(f"{name}: PyLate compares by MaxSim, and this model by {model.similarity_fn_name}")
    if mask.keep_only_token_ids or (mask.skiplist_words and mask.skiplist_tasks != ["document"]):
        raise ConfigError(f"{name}: PyLate skips words of documents alone, and this model other tokens too")
    if expansion is not None and expansion["strategy"] != "fixed":
        raise ConfigError(f"{name}: PyLate expands queries to a fixed length, and this model otherwise")
    for prompt in filter(None, model.prompts.values()):
        if model.tokenizer.tokenize(prompt) != [prompt]:
            raise ConfigError(f"{name}: PyLate puts one token before a text, and the prompt {prompt!r} is several")


def _identity(width: int) -> Dense:
    return Dense(width, width, bias=False, activation_function=nn.Identity(), init_weight=torch.eye(width))
