"""Weights under which written queries are like those that people ask, without any judgement of these.

Calibration by exponential tilting (Deville and Särndal, JASA 1992; Hainmueller's entropy balancing, 2012): of all
weights under which some traits have the target's means, those nearest to the ones before. A ridge leaves a distance
that a target of few queries cannot tell from chance.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass

import numpy as np
import numpy.typing as npt

from inpars.fusion.gate import QueryFeatures

MIN_QUERIES = 5  # of a target
NEWTON_STEPS = 50
HALVINGS = 30
TOLERANCE = 1e-10
_QUESTION = re.compile(
    r"(who|whom|whose|what|when|where|which|why|how|is|are|was|were|do|does|did|can|could|should|would|will|has|have)\b"
    r"|.*\?\s*$",
    re.IGNORECASE | re.DOTALL,
)

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """Three numbers that describe a query."""

    overlap: float  # share of it in the first documents of BM25 and of the bi-encoder, on average
    words: float  # natural logarithm of their number
    question: float  # 1 for a question, else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """How the written queries compare with the target, before and after they are weighted."""

    target_queries: int
    target: dict[str, float]  # trait -> mean
    before: dict[str, float]
    after: dict[str, float]
    effective_queries: float  # as many of equal weight would be as precise (Kish)


def traits_of(queries: Mapping[str, str], features: Mapping[str, QueryFeatures]) -> dict[str, Traits]:
    """The traits of each query that the first stages searched for."""
    return {
        query_id: Traits(
            overlap=(features[query_id].lexical_coverage + features[query_id].dense_coverage) / 2,
            words=math.log(max(1, len(text.split()))),
            question=float(is_question(text)),
        )
        for query_id, text in queries.items()
        if query_id in features
    }


def is_question(text: str) -> bool:
    """By an English word at its beginning or a question mark at its end."""
    return bool(_QUESTION.match(text.strip()))


def matched_weights(
    written: Sequence[Traits], target: Sequence[Traits], before: Sequence[float] | None = None
) -> tuple[list[float], Match]:
    """Weights of the own queries, 1 in sum, that come near the target's means; `before` are those to stay near to.

    Raises ValueError where either side has no query.
    """
    if not written or not target:
        raise ValueError("nothing to match")
    mine, theirs = np.array([astuple(one) for one in written]), np.array([astuple(one) for one in target])
    start = np.ones(len(written)) if before is None else np.array(before, dtype=float)
    start /= start.sum()
    spread = np.concatenate([mine, theirs]).std(axis=0)
    scaled = (mine - theirs.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    weights = _tilted(scaled, start, 1 / len(target))
    names = tuple(asdict(written[0]))

    def means(values: Array) -> dict[str, float]:
        return dict(zip(names, values.tolist(), strict=True))

    match = Match(
        target_queries=len(target),
        target=means(theirs.mean(axis=0)),
        before=means(start @ mine),
        after=means(weights @ mine),
        effective_queries=float(1 / (weights**2).sum()),
    )
    return weights.tolist(), match


def _tilted(traits: Array, start: Array, ridge: float) -> Array:
    """Weights `start * exp(traits @ slope)` that minimise log sum + ridge / 2 * |slope|^2, by Newton's method.

    `traits` are (queries, traits), as distances from the target's mean; 0 is what their weighted mean should be.
    """

    def value(slope: Array) -> float:
        odds = traits @ slope
        top = float(odds.max())
        return top + math.log(float(start @ np.exp(odds - top))) + ridge / 2 * float(slope @ slope)

    def weighted(slope: Array) -> Array:
        odds = traits @ slope
        raw = start * np.exp(odds - odds.max())
        return np.asarray(raw / raw.sum())

    slope = np.zeros(traits.shape[1])
    for _ in range(NEWTON_STEPS):
        weights = weighted(slope)
        mean = weights @ traits
        gradient = mean + ridge * slope
        curvature = (traits * weights[:, None]).T @ traits - np.outer(mean, mean) + ridge * np.eye(len(slope))
        step = np.linalg.solve(curvature, gradient)
        if float(gradient @ step) < TOLERANCE:
            break
        length = next((0.5**n for n in range(HALVINGS) if value(slope - 0.5**n * step) < value(slope)), 0.0)
        slope = slope - length * step
    return weighted(slope)
