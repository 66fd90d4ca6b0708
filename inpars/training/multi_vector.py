"""Late-interaction training: the model and sentence-transformers' losses, with one vector per token.

ColBERT (Khattab and Zaharia, arXiv 2004.12832). Token embeddings and their mask are packed into one tensor, the mask as
its last column, so that mini-batches and gradient caching work as for a bi-encoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from sentence_transformers import MultiVectorEncoder
from sentence_transformers.multi_vector_encoder import losses, scoring
from torch import Tensor, nn
from transformers import TrainerCallback

from inpars.models import loading as models
from inpars.models.compute_options import Placement
from inpars.models.retrievers import MULTI_VECTOR, RETRIEVERS
from inpars.training.embedding_batches import WIDTH
from inpars.training.embedding_losses import Embedded, Given, Objective, columns_of
from inpars.training.gradient_cache import Features
from inpars.training.options import RetrieverOptions

MEAN = "meanmaxsim"  # MaxSim divided by the number of query tokens


def load(options: RetrieverOptions, where: Placement) -> MultiVectorEncoder:
    """A ColBERT, or an encoder whose token states are used without a projection."""
    return models.load_multi_vector(options.model, of_encoder=True, **where)


def embed(model: Any, features: Features) -> Tensor:
    """Packed token embeddings of a mini-batch in float32, (texts, tokens of the batch's longest text, width + 1)."""
    outputs = model(dict(features), task=features["task"])
    states, mask = outputs["token_embeddings"].float(), outputs["attention_mask"].float()
    packed = torch.cat([states, mask[..., None]], dim=-1)
    return nn.functional.pad(packed, (0, 0, 0, features[WIDTH] - packed.shape[1]))


def token_features(packed: Tensor) -> dict[str, Tensor]:
    """Unpack a tensor of `embed` for the library's losses."""
    mask = packed[..., -1] > 0
    longest = max(1, int(mask.any(dim=0).nonzero().max().item()) + 1 if mask.any() else 1)
    return {"token_embeddings": packed[:, :longest, :-1], "attention_mask": mask[:, :longest]}


def objective(model: MultiVectorEncoder, options: RetrieverOptions) -> tuple[Objective, list[TrainerCallback]]:
    """The loss over a batch's token embeddings."""
    mean = model.similarity_fn_name == MEAN
    scale = options.scale if options.scale is not None else RETRIEVERS[MULTI_VECTOR].scale
    compare = scoring.mean_colbert_scores if mean else scoring.colbert_scores
    of_pairs = scoring.mean_colbert_scores_pairwise if mean else scoring.colbert_scores_pairwise
    loss: nn.Module = (
        losses.MultiVectorMarginMSELoss(Given(), similarity_fct=of_pairs)  # type: ignore[arg-type]
        if options.loss == "margin-mse"
        else losses.MultiVectorMultipleNegativesRankingLoss(Given(), scale=scale, similarity_fct=compare)  # type: ignore[arg-type]
    )

    def batch_loss(embedded: Embedded, margins: Tensor | None) -> Tensor:
        queries, *documents = columns_of(embedded)
        loss_value: Tensor = loss([token_features(queries), *_document_features(documents)], margins)
        return loss_value

    return batch_loss, []


def _document_features(columns: Sequence[Tensor]) -> list[dict[str, Tensor]]:
    """Features of positives and negatives, cut to the longest text of both."""
    features = token_features(torch.cat(list(columns)))
    split = {name: torch.split(value, len(columns[0])) for name, value in features.items()}
    return [{name: parts[column] for name, parts in split.items()} for column in range(len(columns))]


def margins(model: MultiVectorEncoder, embedded: Embedded) -> Tensor:
    """MaxSim with the positive minus that with the negative, (queries,)."""
    compare = (
        scoring.mean_colbert_scores_pairwise if model.similarity_fn_name == MEAN else scoring.colbert_scores_pairwise
    )
    queries, positives, negatives = map(token_features, columns_of(embedded))
    scores = [
        compare(
            queries["token_embeddings"],
            documents["token_embeddings"],
            queries_mask=queries["attention_mask"],
            documents_mask=documents["attention_mask"],
        )
        for documents in (positives, negatives)
    ]
    return scores[0] - scores[1]


def similarities(model: MultiVectorEncoder, queries: Sequence[str], documents: Sequence[str]) -> Tensor:
    """MaxSim of each query with each document, (queries, documents)."""
    settings: dict[str, Any] = {"show_progress_bar": False}
    embeddings = model.encode_query(list(queries), **settings), model.encode_document(list(documents), **settings)
    return model.similarity(*([vectors.float() for vectors in one] for one in embeddings)).cpu()
