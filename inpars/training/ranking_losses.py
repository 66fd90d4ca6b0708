"""Losses over the margins of a query's documents, each as its paper writes it. Knows nothing of models.

All see tables of (queries, documents): `margins`, `labels` (grades, 1 for a single positive and 0 for others, or a
teacher's scores) and `present`, false where a query has fewer documents. The best positive stands in column 0. The
formulas stand here because sentence-transformers' losses run its own model over texts; a test holds both to the same
values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from inpars.training import losses

MU = 10.0  # weight of NDCG-Loss2 in NDCG-Loss2++, as in the paper


@dataclass(frozen=True, slots=True)
class Tables:
    """What every loss sees, all (queries, documents)."""

    margins: Tensor
    labels: Tensor
    present: Tensor


def tables(margins: Tensor, labels: Tensor, group: Tensor, column: Tensor) -> Tables:
    """Flat pairs, all (pairs,), as tables; `group` and `column` are their row and column."""
    shape = int(group.max()) + 1, int(column.max()) + 1
    where = (group, column)
    return Tables(
        margins.new_zeros(shape).index_put(where, margins),
        margins.new_zeros(shape).index_put(where, labels.to(margins)),
        torch.zeros(shape, dtype=torch.bool, device=margins.device).index_put(where, torch.ones_like(group).bool()),
    )


def bce(t: Tables) -> Tensor:
    """Binary cross-entropy of sigmoid(margin), which for two answers is cross-entropy over the two tokens.

    A grade above 0 counts as 1.
    """
    return nn.functional.binary_cross_entropy_with_logits(t.margins[t.present], t.labels[t.present].clamp(0, 1))


def pairwise(t: Tables) -> Tensor:
    """Mean of -log softmax of the positive against each negative (RankT5, arXiv 2210.10634, eq. 4)."""
    behind = t.margins[:, :1] - t.margins[:, 1:]
    return nn.functional.softplus(-behind)[t.present[:, 1:]].mean()


def listwise(t: Tables) -> Tensor:
    """Mean over queries of the cross-entropy of the softmax of margins against the labels' shares (RankT5, eq. 5).

    Of one positive that is -log softmax of it among all; of several, each counts by its grade over the sum of grades.
    """
    labels = t.labels * t.present
    shares = labels / labels.sum(dim=1, keepdim=True)
    return -(shares * _log_softmax(t).masked_fill(~t.present, 0)).sum(dim=1).mean()


def ranknet(t: Tables) -> Tensor:
    """Mean of log(1 + exp(s_j - s_i)) over pairs with label i above label j (Burges et al., ICML 2005)."""
    better = _better(t.labels, t.present)
    return nn.functional.softplus(-_differences(t.margins))[better].sum() / better.sum().clamp(min=1)


def listnet(t: Tables) -> Tensor:
    """Cross-entropy of the softmax of margins against that of labels, mean over queries (Cao et al., ICML 2007)."""
    target = t.labels.masked_fill(~t.present, -torch.inf).softmax(dim=1)
    return -(target * _log_softmax(t).masked_fill(~t.present, 0)).sum(dim=1).mean()


def lambda_loss(t: Tables) -> Tensor:
    """NDCG-Loss2++ of LambdaLoss, mean over pairs with label i above label j (Wang et al., CIKM 2018, section 6)."""
    order = t.margins.masked_fill(~t.present, -torch.inf).argsort(dim=1, descending=True, stable=True)
    margins, labels, present = (table.gather(1, order) for table in (t.margins, t.labels, t.present))
    ranks = torch.arange(1, margins.shape[1] + 1, device=margins.device)
    shares = 1 / torch.log2(1.0 + ranks)  # 1 / D of the paper, (documents,)
    gains = (2**labels - 1) * present
    gains = gains / (gains.sort(dim=1, descending=True).values * shares).sum(dim=1, keepdim=True).clamp(min=1e-10)
    apart = (ranks[:, None] - ranks[None, :]).abs()
    steps = torch.cat([shares.new_zeros(1), shares - torch.log2(2.0 + ranks).reciprocal()])[apart]  # delta of the paper
    weights = _differences(gains).abs() * (MU * steps + (shares[:, None] - shares[None, :]).abs())
    better = _better(labels, present)
    losses = weights * nn.functional.softplus(-_differences(margins)) / torch.log(torch.tensor(2.0))
    return losses[better].sum() / better.sum().clamp(min=1)


def margin_mse(t: Tables) -> Tensor:
    """Mean squared error of positive less negative against the teacher's (Hofstätter et al., arXiv 2010.02666)."""
    wrong = (t.margins[:, :1] - t.margins[:, 1:]) - (t.labels[:, :1] - t.labels[:, 1:])
    return wrong[t.present[:, 1:]].square().mean()


def _log_softmax(t: Tables) -> Tensor:
    return t.margins.masked_fill(~t.present, -torch.inf).log_softmax(dim=1)


def _differences(table: Tensor) -> Tensor:
    """Entry i less entry j of each row, (queries, documents, documents)."""
    return table[:, :, None] - table[:, None, :]


def _better(labels: Tensor, present: Tensor) -> Tensor:
    return (_differences(labels) > 0) & present[:, :, None] & present[:, None, :]


FUNCTIONS: Mapping[str, Callable[[Tables], Tensor]] = {
    name: globals()[loss.function] for name, loss in losses.LOSSES.items()
}
