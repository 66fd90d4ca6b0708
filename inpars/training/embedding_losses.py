"""What a bi-encoder's batch costs, as formulas over embeddings. Knows nothing of models, texts or mini-batches.

Multiple negatives ranking loss (Henderson et al., arXiv 1705.00652), margin-MSE (Hofstätter et al., arXiv 2010.02666)
and the sum of either over leading dimensions (Matryoshka, Kusupati et al., arXiv 2205.13147). sentence-transformers has
the same losses around its own forward pass; a test holds both to the same values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, arange, nn


@dataclass(frozen=True, slots=True)
class Embedded:
    """A batch's embeddings; row i of `documents` is the positive of query i, the negatives follow in the same order."""

    queries: Tensor  # (queries, width)
    documents: Tensor  # (queries or 2 * queries, width)

    def leading(self, dimensions: int) -> Embedded:
        return Embedded(self.queries[:, :dimensions], self.documents[:, :dimensions])

    def of_unit_length(self) -> Embedded:
        """The same directions, so that a dot product is a cosine."""
        return Embedded(nn.functional.normalize(self.queries, dim=1), nn.functional.normalize(self.documents, dim=1))


Objective: TypeAlias = Callable[[Embedded, Tensor | None], Tensor]  # with the teacher's margins, (queries,)


def ranking_loss(embedded: Embedded, scale: float) -> Tensor:
    """Mean of -log softmax of `scale` times a query's similarity with its positive among all documents of the batch."""
    similarities = scale * embedded.queries @ embedded.documents.T  # (queries, documents)
    return nn.functional.cross_entropy(similarities, arange(len(similarities), device=similarities.device))


def margins_of(embedded: Embedded) -> Tensor:
    """Similarity with the positive less that with the negative, (queries,)."""
    positives, negatives = embedded.documents.chunk(2)
    return (embedded.queries * (positives - negatives)).sum(dim=1)


def margin_mse(embedded: Embedded, margins: Tensor) -> Tensor:
    """Mean squared error of the batch's margins against those a teacher gave."""
    return nn.functional.mse_loss(margins_of(embedded), margins)


def ranking_objective(scale: float, *, cosine: bool) -> Objective:
    """`ranking_loss` of cosines or of dot products."""
    return lambda embedded, _: ranking_loss(embedded.of_unit_length() if cosine else embedded, scale)


def margin_objective(*, cosine: bool) -> Objective:
    """`margin_mse` of cosines or of dot products."""

    def objective(embedded: Embedded, margins: Tensor | None) -> Tensor:
        assert margins is not None
        return margin_mse(embedded.of_unit_length() if cosine else embedded, margins)

    return objective


def matryoshka(objective: Objective, dimensions: Sequence[int]) -> Objective:
    """The sum of an objective over embeddings cut to each of these numbers of leading dimensions."""

    def total(embedded: Embedded, margins: Tensor | None) -> Tensor:
        losses = [objective(embedded.leading(width), margins) for width in dimensions]
        return sum(losses[1:], losses[0])

    return total


class Given(nn.Module):
    """Stands where a loss of sentence-transformers expects the model: its features are the embeddings, made before."""

    def forward(self, features: dict[str, Any], **_: Any) -> dict[str, Any]:
        return features


def columns_of(embedded: Embedded) -> list[Tensor]:
    """Queries, positives and perhaps negatives, each in the order of the queries."""
    return [embedded.queries, *torch.split(embedded.documents, len(embedded.queries))]
