"""Sparse retriever training: the model and its losses, with one weight per vocabulary term.

SPLADE (Formal et al., arXiv 2109.10086): a ranking loss with FLOPS regularisers (Paria et al., arXiv 2004.05665) on
queries and documents, whose weights rise over the first third of the steps; all from sentence-transformers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from scipy.sparse import csr_array, vstack
from sentence_transformers import SparseEncoder
from sentence_transformers.sparse_encoder import losses
from sentence_transformers.sparse_encoder.callbacks.splade_callbacks import SpladeRegularizerWeightSchedulerCallback
from torch import Tensor
from transformers import TrainerCallback

from inpars.batches import slices
from inpars.engines.splade_pooling import pool_before_activation
from inpars.models import loading as models
from inpars.models.compute_options import Placement
from inpars.models.retrievers import RETRIEVERS, SPARSE
from inpars.training.embedding_batches import embed as embed  # noqa: PLC0414 - each kind has one
from inpars.training.embedding_losses import Embedded, Given, Objective, columns_of, margins_of
from inpars.training.options import RetrieverOptions

VALIDATION_BATCH = 32  # texts; their logits are (texts, tokens, vocabulary)


def load(options: RetrieverOptions, where: Placement) -> SparseEncoder:
    """A sparse encoder, or a masked language model with SPLADE pooling."""
    model = models.load_sparse(options.model, for_training=True, **where)
    pool_before_activation(model)
    return model


def objective(model: SparseEncoder, options: RetrieverOptions) -> tuple[Objective, list[TrainerCallback]]:
    """The loss over a batch's embeddings, and the scheduler of its regularisers' weights."""
    scale = options.scale if options.scale is not None else RETRIEVERS[SPARSE].scale
    loss = losses.SpladeLoss(
        Given(),  # type: ignore[arg-type]
        losses.SparseMarginMSELoss(Given())  # type: ignore[arg-type]
        if options.loss == "margin-mse"
        else losses.SparseMultipleNegativesRankingLoss(Given(), scale=scale),  # type: ignore[arg-type]
        document_regularizer_weight=options.flops_documents,
        query_regularizer_weight=options.flops_queries,
    )

    def batch_loss(embedded: Embedded, margins: Tensor | None) -> Tensor:
        parts: dict[str, Tensor] = loss([{"sentence_embedding": column} for column in columns_of(embedded)], margins)
        first, *others = parts.values()
        return sum(others, first)

    return batch_loss, [SpladeRegularizerWeightSchedulerCallback(loss)]


def margins(model: SparseEncoder, embedded: Embedded) -> Tensor:
    """Dot product with the positive minus that with the negative, (queries,)."""
    return margins_of(embedded)


def similarities(model: SparseEncoder, queries: Sequence[str], documents: Sequence[str]) -> Tensor:
    """Dot products of each query with each document, (queries, documents)."""
    return torch.from_numpy(
        (_weights(model.encode_query, queries) @ _weights(model.encode_document, documents).T).toarray()
    )


def _weights(encode: Callable[..., Tensor], texts: Sequence[str]) -> csr_array:
    """Term weights, (texts, vocabulary)."""
    settings: dict[str, Any] = {"show_progress_bar": False, "convert_to_sparse_tensor": False}
    batches = slices(texts, VALIDATION_BATCH)
    parts = [encode(list(batch), batch_size=VALIDATION_BATCH, **settings) for batch in batches]
    return vstack([csr_array(part.float().cpu().numpy()) for part in parts], format="csr")
