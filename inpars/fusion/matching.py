"""Weighs synthetic queries so that they resemble real, unjudged queries.

Calibration by exponential tilting (Deville and Särndal, JASA 1992; Hainmueller's entropy balancing, 2012): of all
weights that give some traits the target's means, take those nearest to the initial weights. A ridge tolerates
differences that are within the sampling error of a small target.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass

import numpy as np
import numpy.typing as npt

from inpars.fusion.gate import QueryFeatures
from inpars.text.words import count_words

MIN_QUERIES = 5  # target queries needed
NEWTON_STEPS = 50
HALVINGS = 30
TOLERANCE = 1e-10
_QUESTION = re.compile(
    r"(who|whom|whose|what|when|where|which|why|how|is|are|was|were|do|does|did|can|could|should|would|will|has|have)\b"
    r"|.*[?\uff1f\u061f]\s*$",
    re.IGNORECASE | re.DOTALL,
)

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """Features by which queries are compared."""

    overlap: float  # share of its terms in the top documents of BM25 and the bi-encoder, averaged
    words: float  # natural logarithm of the number of words
    question: float  # 1 for a question, else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """Mean traits of the target and of the synthetic queries, before and after weighting."""

    target_queries: int
    target: dict[str, float]  # trait -> mean
    before: dict[str, float]
    after: dict[str, float]
    effective_queries: float  # effective sample size (Kish)


def traits_of(queries: Mapping[str, str], features: Mapping[str, QueryFeatures]) -> dict[str, Traits]:
    """Traits of each query that has features."""
    return {
        query_id: Traits(
            overlap=(features[query_id].lexical_coverage + features[query_id].dense_coverage) / 2,
            words=math.log(max(1, count_words(text))),
            question=float(is_question(text)),
        )
        for query_id, text in queries.items()
        if query_id in features
    }


def is_question(text: str) -> bool:
    """Whether a text starts with an English question word or ends with a question mark."""
    return bool(_QUESTION.match(text.strip()))


def matched_weights(
    written: Sequence[Traits], target: Sequence[Traits], before: Sequence[float] | None = None
) -> tuple[list[float], Match]:
    """Weights that sum to 1 and bring the synthetic queries' means near the target's; `before` are initial weights.

    Raises ValueError if either side is empty.
    """
    if not written or not target:
        raise ValueError("nothing to match")
    written_traits, target_traits = (np.array([astuple(traits) for traits in side]) for side in (written, target))
    initial = np.ones(len(written)) if before is None else np.array(before, dtype=float)
    initial /= initial.sum()
    deviations = np.concatenate([written_traits, target_traits]).std(axis=0)
    scaled = (written_traits - target_traits.mean(axis=0)) / np.where(deviations > 0, deviations, 1.0)
    weights = _tilted(scaled, initial, 1 / len(target))
    names = tuple(asdict(written[0]))

    def means(values: Array) -> dict[str, float]:
        return dict(zip(names, values.tolist(), strict=True))

    match = Match(
        target_queries=len(target),
        target=means(target_traits.mean(axis=0)),
        before=means(initial @ written_traits),
        after=means(weights @ written_traits),
        effective_queries=float(1 / (weights**2).sum()),
    )
    return weights.tolist(), match


def _tilted(traits: Array, initial: Array, ridge: float) -> Array:
    """Weights `initial * exp(traits @ slope)` that minimise log sum + ridge / 2 * |slope|^2, by Newton's method.

    `traits` are (queries, traits), relative to the target's mean, so their weighted mean should be 0.
    """

    def loss(slope: Array) -> float:
        exponents = traits @ slope
        top = float(exponents.max())
        return top + math.log(float(initial @ np.exp(exponents - top))) + ridge / 2 * float(slope @ slope)

    def tilted(slope: Array) -> Array:
        exponents = traits @ slope
        raw = initial * np.exp(exponents - exponents.max())
        return np.asarray(raw / raw.sum())

    slope = np.zeros(traits.shape[1])
    for _ in range(NEWTON_STEPS):
        weights = tilted(slope)
        mean = weights @ traits
        gradient = mean + ridge * slope
        curvature = (traits * weights[:, None]).T @ traits - np.outer(mean, mean) + ridge * np.eye(len(slope))
        step = np.linalg.solve(curvature, gradient)
        if float(gradient @ step) < TOLERANCE:
            break
        length = next((0.5**n for n in range(HALVINGS) if loss(slope - 0.5**n * step) < loss(slope)), 0.0)
        slope = slope - length * step
    return tilted(slope)
