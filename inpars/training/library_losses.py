"""How the losses of sentence-transformers are asked about embeddings that are there already.

They call the model on each column of texts. Here that model gives back what it is given, and the embeddings come from
our mini-batches, which are sorted by length and may be cached.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from inpars.training.embedding_losses import Embedded


class Given(nn.Module):
    """Stands where a loss expects the model: its features are the embeddings."""

    def forward(self, features: dict[str, Any], **_: Any) -> dict[str, Any]:  # noqa: ANN401
        return features


def columns_of(embedded: Embedded) -> list[Tensor]:
    """Queries, positives and perhaps negatives, each in the order of the queries."""
    return [embedded.queries, *torch.split(embedded.documents, len(embedded.queries))]
