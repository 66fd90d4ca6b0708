"""Bi-encoder losses as functions of a batch's embeddings. Independent of models, texts and mini-batches.

Multiple negatives ranking loss (Henderson et al., arXiv 1705.00652), margin-MSE (Hofstätter et al., arXiv 2010.02666)
and the sum of either over leading dimensions (Matryoshka, Kusupati et al., arXiv 2205.13147). sentence-transformers'
losses are tied to its own forward pass; a test checks that both give the same values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, arange, nn


@dataclass(frozen=True, slots=True)
class Embedded:
    """A batch's embeddings; row i of `documents` is the positive of query i, negatives follow in the same order."""

    queries: Tensor  # (queries, width)
    documents: Tensor  # (queries or 2 * queries, width)

    def leading(self, dimensions: int) -> Embedded:
        return Embedded(self.queries[:, :dimensions], self.documents[:, :dimensions])

    def of_unit_length(self) -> Embedded:
        """Normalized, so that a dot product is a cosine."""
        return Embedded(nn.functional.normalize(self.queries, dim=1), nn.functional.normalize(self.documents, dim=1))


Objective: TypeAlias = Callable[[Embedded, Tensor | None], Tensor]  # with the teacher's margins, (queries,)


def ranking_loss(embedded: Embedded, scale: float) -> Tensor:
    """Cross-entropy of the positive among all documents of the batch, with similarities times `scale` as logits."""
    similarities = scale * embedded.queries @ embedded.documents.T  # (queries, documents)
    return nn.functional.cross_entropy(similarities, arange(len(similarities), device=similarities.device))


def margins_of(embedded: Embedded) -> Tensor:
    """Similarity with the positive minus that with the negative, (queries,)."""
    positives, negatives = embedded.documents.chunk(2)
    return (embedded.queries * (positives - negatives)).sum(dim=1)


def margin_mse(embedded: Embedded, margins: Tensor) -> Tensor:
    """Mean squared error of the batch's margins against a teacher's."""
    return nn.functional.mse_loss(margins_of(embedded), margins)


def dense_objective(scale: float, *, cosine: bool) -> Objective:
    """`margin_mse` with a teacher's margins, else `ranking_loss`; of cosines or of dot products."""

    def objective(embedded: Embedded, margins: Tensor | None) -> Tensor:
        embedded = embedded.of_unit_length() if cosine else embedded
        return ranking_loss(embedded, scale) if margins is None else margin_mse(embedded, margins)

    return objective


def matryoshka(objective: Objective, dimensions: Sequence[int]) -> Objective:
    """The sum of an objective over embeddings truncated to each of the dimensions."""

    def total(embedded: Embedded, margins: Tensor | None) -> Tensor:
        losses = [objective(embedded.leading(width), margins) for width in dimensions]
        return sum(losses[1:], losses[0])

    return total


class Given(nn.Module):
    """Replaces the model in a sentence-transformers loss; its input already is the embeddings."""

    def forward(self, features: dict[str, Any], **_: Any) -> dict[str, Any]:
        return features


def columns_of(embedded: Embedded) -> list[Tensor]:
    """Queries, positives and, if present, negatives, each in the order of the queries."""
    return [embedded.queries, *torch.split(embedded.documents, len(embedded.queries))]
