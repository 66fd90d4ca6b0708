"""The losses that rerankers are trained with, by name. Loads no torch; the formulas stand in `ranking_losses`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias


@dataclass(frozen=True, slots=True)
class RankingLoss:
    """A function of `ranking_losses`, in words; whether it reads a teacher's scores, and several positives."""

    function: str
    words: str
    teacher: bool = False
    several: bool = True


LOSSES: Mapping[str, RankingLoss] = {
    "bce": RankingLoss("bce", "each document by itself"),
    "pairwise": RankingLoss("pairwise", "the positive against each negative", several=False),
    "listwise": RankingLoss("listwise", "the positive among all"),
    "ranknet": RankingLoss("ranknet", "a teacher's order of pairs", teacher=True),
    "listnet": RankingLoss("listnet", "a teacher's shares", teacher=True),
    "lambda": RankingLoss("lambda_loss", "nDCG"),
    "margin-mse": RankingLoss("margin_mse", "a teacher's score differences", teacher=True),
}
POINTWISE = "pointwise"  # the answer itself: a model's own loss

if TYPE_CHECKING:
    LossName: TypeAlias = str
else:
    LossName = Literal[("auto", POINTWISE, *LOSSES)]  # the choices of a flag


def loss_help() -> str:
    """The help of the flag that names one."""
    return "; ".join(f"{name}: {loss.words}" for name, loss in LOSSES.items())
