"""Ranking losses over a query's document scores, following their papers. Independent of any model.

Each loss takes tables of shape (queries, documents): `margins`, `labels` (grades, with 1 for a single positive and 0
for the others, or a teacher's scores) and `present`, False for padding. Column 0 has the best positive.
sentence-transformers' losses run its own model over texts, so they are reimplemented here; a test checks that both give
the same values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

MU = 10.0  # weight of NDCG-Loss2 in NDCG-Loss2++, as in the paper


@dataclass(frozen=True, slots=True)
class Tables:
    """Input of a loss; each tensor is (queries, documents)."""

    margins: Tensor
    labels: Tensor
    present: Tensor


def tables(margins: Tensor, labels: Tensor, group: Tensor, column: Tensor) -> Tables:
    """Arrange flat (pairs,) tensors as tables; `group` and `column` give each pair's row and column."""
    shape = int(group.max()) + 1, int(column.max()) + 1
    where = (group, column)
    return Tables(
        margins.new_zeros(shape).index_put(where, margins),
        margins.new_zeros(shape).index_put(where, labels.to(margins)),
        torch.zeros(shape, dtype=torch.bool, device=margins.device).index_put(where, torch.ones_like(group).bool()),
    )


def bce(t: Tables) -> Tensor:
    """Binary cross-entropy of sigmoid(margin), equivalent to cross-entropy over two answer tokens.

    Grades above 0 count as 1.
    """
    return nn.functional.binary_cross_entropy_with_logits(t.margins[t.present], t.labels[t.present].clamp(0, 1))


def pairwise(t: Tables) -> Tensor:
    """Mean of -log softmax of the positive against each negative (RankT5, arXiv 2210.10634, eq. 4)."""
    differences = t.margins[:, :1] - t.margins[:, 1:]
    return _mean(nn.functional.softplus(-differences)[t.present[:, 1:]])


def listwise(t: Tables) -> Tensor:
    """Cross-entropy of the softmax of margins against normalized labels, mean over queries (RankT5, eq. 5).

    With a single positive this is its -log softmax; several positives are weighted by grade.
    """
    labels = t.labels * t.present
    target = labels / labels.sum(dim=1, keepdim=True)
    return _cross_entropy(t, target)


def ranknet(t: Tables) -> Tensor:
    """Mean of log(1 + exp(s_j - s_i)) over pairs with label i above label j (Burges et al., ICML 2005)."""
    better = _better(t.labels, t.present)
    return nn.functional.softplus(-_differences(t.margins))[better].sum() / better.sum().clamp(min=1)


def listnet(t: Tables) -> Tensor:
    """Cross-entropy of the softmax of margins against that of labels, mean over queries (Cao et al., ICML 2007)."""
    return _cross_entropy(t, t.labels.masked_fill(~t.present, -torch.inf).softmax(dim=1))


def lambda_loss(t: Tables) -> Tensor:
    """NDCG-Loss2++ of LambdaLoss, mean over pairs with label i above label j (Wang et al., CIKM 2018, section 6)."""
    order = t.margins.masked_fill(~t.present, -torch.inf).argsort(dim=1, descending=True, stable=True)
    margins, labels, present = (table.gather(1, order) for table in (t.margins, t.labels, t.present))
    ranks = torch.arange(1, margins.shape[1] + 1, device=margins.device)
    discounts = 1 / torch.log2(1.0 + ranks)  # 1 / D in the paper, (documents,)
    gains = (2**labels - 1) * present
    gains = gains / (gains.sort(dim=1, descending=True).values * discounts).sum(dim=1, keepdim=True).clamp(min=1e-10)
    distances = (ranks[:, None] - ranks[None, :]).abs()
    deltas = torch.cat([discounts.new_zeros(1), discounts - torch.log2(2.0 + ranks).reciprocal()])[distances]
    weights = _differences(gains).abs() * (MU * deltas + (discounts[:, None] - discounts[None, :]).abs())
    better = _better(labels, present)
    losses = weights * nn.functional.softplus(-_differences(margins)) / torch.log(torch.tensor(2.0))
    return losses[better].sum() / better.sum().clamp(min=1)


def margin_mse(t: Tables) -> Tensor:
    """Mean squared error of score(positive) - score(negative) against the teacher's (Hofstätter, arXiv 2010.02666)."""
    errors = (t.margins[:, :1] - t.margins[:, 1:]) - (t.labels[:, :1] - t.labels[:, 1:])
    return _mean(errors[t.present[:, 1:]].square())


def _mean(values: Tensor) -> Tensor:
    """The mean of (pairs,); 0 without any, as of a query whose only negative is its positive."""
    return values.sum() / max(1, len(values))


def _cross_entropy(t: Tables, target: Tensor) -> Tensor:
    log_shares = t.margins.masked_fill(~t.present, -torch.inf).log_softmax(dim=1)
    return -(target * log_shares.masked_fill(~t.present, 0)).sum(dim=1).mean()


def _differences(table: Tensor) -> Tensor:
    """Entry i minus entry j per row, (queries, documents, documents)."""
    return table[:, :, None] - table[:, None, :]


def _better(labels: Tensor, present: Tensor) -> Tensor:
    return (_differences(labels) > 0) & present[:, :, None] & present[:, None, :]


FUNCTIONS: Mapping[str, Callable[[Tables], Tensor]] = {
    "bce": bce,
    "pairwise": pairwise,
    "listwise": listwise,
    "ranknet": ranknet,
    "listnet": listnet,
    "lambda": lambda_loss,
    "margin-mse": margin_mse,
}
