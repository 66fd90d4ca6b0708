"""Names of the reranker losses. Loads no torch; `ranking_losses` has the formulas."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias


@dataclass(frozen=True, slots=True)
class RankingLoss:
    """A loss described for `--help`; whether it learns from a teacher's scores, and from several positives."""

    words: str
    teacher: bool = False
    several: bool = True


LOSSES: Mapping[str, RankingLoss] = {
    "bce": RankingLoss("each document separately"),
    "pairwise": RankingLoss("the positive against each negative", several=False),
    "listwise": RankingLoss("the positive among all documents"),
    "ranknet": RankingLoss("a teacher's pairwise order", teacher=True),
    "listnet": RankingLoss("a teacher's score distribution", teacher=True),
    "lambda": RankingLoss("nDCG"),
    "margin-mse": RankingLoss("a teacher's score differences", teacher=True),
}
POINTWISE = "pointwise"  # monoT5's own loss on the answer token

if TYPE_CHECKING:
    LossName: TypeAlias = str
else:
    LossName = Literal[("auto", POINTWISE, *LOSSES)]  # the choices of a flag


def loss_help() -> str:
    """Help text for `--loss`."""
    return "; ".join(f"{name}: {loss.words}" for name, loss in LOSSES.items())
