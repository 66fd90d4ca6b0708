"""Bi-encoder training: the model and its losses, with one vector per text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sentence_transformers import SentenceTransformer
from torch import Tensor
from transformers import TrainerCallback

from inpars.errors import ConfigError
from inpars.models import loading as models
from inpars.models.compute_options import Placement
from inpars.training.embedding_batches import embed as embed  # noqa: PLC0414 - each kind has one
from inpars.training.embedding_losses import Embedded, Objective, dense_objective, margins_of, matryoshka
from inpars.training.options import RetrieverOptions

COSINE_SCALE, DOT_SCALE = 20.0, 1.0


def load(options: RetrieverOptions, where: Placement) -> SentenceTransformer:
    """The model to start from; a plain encoder gets a pooling layer."""
    return models.load_sentence_transformer(options.model, pooling=options.pooling, **where)


def objective(model: SentenceTransformer, options: RetrieverOptions) -> tuple[Objective, list[TrainerCallback]]:
    """The loss over a batch's embeddings. Raises ConfigError for Matryoshka dimensions above the embedding width."""
    cosine = model.similarity_fn_name != "dot"
    scale = options.scale if options.scale is not None else (COSINE_SCALE if cosine else DOT_SCALE)
    loss = dense_objective(scale, cosine=cosine)
    width = model.get_embedding_dimension()
    if width is not None and max(options.dimensions, default=0) > width:
        raise ConfigError(f"--matryoshka-dims is {options.matryoshka_dims}; embeddings of {options.model} have {width}")
    return (matryoshka(loss, options.dimensions) if options.dimensions else loss), []


def margins(model: SentenceTransformer, embedded: Embedded) -> Tensor:
    """Similarity with the positive minus that with the negative, (queries,)."""
    return margins_of(embedded.of_unit_length() if model.similarity_fn_name != "dot" else embedded)


def similarities(model: SentenceTransformer, queries: Sequence[str], documents: Sequence[str]) -> Tensor:
    """Similarity of each query with each document, (queries, documents)."""
    settings: dict[str, Any] = {"show_progress_bar": False, "convert_to_tensor": True}
    embeddings = model.encode_query(list(queries), **settings), model.encode_document(list(documents), **settings)
    return model.similarity(*(vectors.float() for vectors in embeddings)).cpu()
