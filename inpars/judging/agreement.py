"""How far a model's grades agree with others: Cohen's kappa pair by pair, Kendall's tau over systems.

Kappas are scikit-learn's, tau scipy's. Knows nothing of who judged. Cohen 1960, 1968; Kendall 1938; on judgements by
models both are what UMBRELA reports (arXiv 2406.06519).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from inpars.evaluation.measures import evaluate
from inpars.io.model_judgements import POOR_KAPPA
from inpars.judging.sample import Pair
from inpars.records import Qrels, Run

TOP_GRADE = 3
RELEVANT_FROM = 2  # on the scale to 3, as in TREC's Deep Learning tracks; on scales that end below, from 1


@dataclass(frozen=True, slots=True)
class Agreement:
    """Two judges of the same pairs. A kappa is None where both gave one and the same grade to all."""

    reference: str  # the other judge's name, for people
    pairs: int
    same: float  # share of equal grades
    kappa: float | None
    weighted_kappa: float | None  # quadratic
    relevant_kappa: float | None  # of relevant or not
    relevant_from: int  # of the reference
    grades: Sequence[int]
    table: Sequence[Sequence[int]]  # pairs by the reference's grade (rows) and the model's
    unjudged_as_0: int = 0  # pairs that the reference does not list
    of_sample: bool = False  # whether the kappas weigh pairs by what they stand for

    @property
    def is_poor(self) -> bool:
        """Whether it is hardly better than chance."""
        return self.weighted_kappa is None or self.weighted_kappa <= POOR_KAPPA


@dataclass(frozen=True, slots=True)
class SystemOrder:
    """Systems measured by both; tau is None where there are fewer than two, or one measures all alike."""

    metric: str
    values: Mapping[str, tuple[float, float]]  # system -> by the reference, by the model
    tau: float | None


def compare_with(
    model: Mapping[Pair, int],
    reference: Qrels,
    name: str,
    weights: Mapping[Pair, float] | None = None,
    top: int | None = None,
) -> Agreement | None:
    """Agreement over the pairs that both judged, None where there are none.

    A reference that lists relevant documents alone, as many collections do, says of the others that they are not: those
    of its queries count as 0. `weights` say what pairs of a sample stand for, `top` is the reference's highest possible
    grade (by default the highest that it gave).
    """
    given = {(q, d): reference[q][d] for q, d in model if d in reference.get(q, {})}
    relevant_only = bool(given) and min(grade for judged in reference.values() for grade in judged.values()) > 0
    added = [pair for pair in model if pair not in given and pair[0] in reference] if relevant_only else []
    given |= dict.fromkeys(added, 0)
    if not given:
        return None
    pairs = [pair for pair in model if pair in given]
    theirs, ours = [max(given[pair], 0) for pair in pairs], [model[pair] for pair in pairs]
    highest = max(grade for judged in reference.values() for grade in judged.values()) if top is None else top
    from sklearn.metrics import confusion_matrix

    start = RELEVANT_FROM if highest >= TOP_GRADE else 1
    grades = list(range(max(TOP_GRADE, *theirs) + 1))
    by_weight = None if weights is None else [weights[pair] for pair in pairs]
    relevant = [grade >= start for grade in theirs], [grade >= RELEVANT_FROM for grade in ours]
    return Agreement(
        name,
        len(pairs),
        sum(a == b for a, b in zip(theirs, ours, strict=True)) / len(pairs),
        _kappa(theirs, ours, grades, None, by_weight),
        _kappa(theirs, ours, grades, "quadratic", by_weight),
        _kappa(*relevant, [False, True], None, by_weight),
        start,
        grades,
        confusion_matrix(theirs, ours, labels=grades).tolist(),
        len(added),
        weights is not None,
    )


def order_systems(runs: Mapping[str, Run], reference: Qrels, model: Qrels, metric: str) -> SystemOrder:
    """The systems by both judges, over the queries that both judged."""
    shared = [query_id for query_id in model if query_id in reference]
    by_reference, by_model = ({query_id: qrels[query_id] for query_id in shared} for qrels in (reference, model))
    values = {
        name: (evaluate(run, by_reference, [metric]).means[metric], evaluate(run, by_model, [metric]).means[metric])
        for name, run in (runs.items() if shared else ())
    }
    return SystemOrder(metric, values, tau_of(list(values.values())))


def tau_of(values: Sequence[tuple[float, float]]) -> float | None:
    """Kendall's tau of pairs of values; None for fewer than two, or where one side is all alike."""
    from scipy.stats import kendalltau

    tau = kendalltau(*zip(*values, strict=True)).statistic if len(values) > 1 else math.nan
    return float(tau) if math.isfinite(tau) else None


def _kappa(
    first: Sequence[int | bool],
    second: Sequence[int | bool],
    grades: Sequence[int | bool],
    how: str | None,
    weights: Sequence[float] | None,
) -> float | None:
    if len({*first, *second}) < 2:  # chance alone would agree always
        return None
    from sklearn.metrics import cohen_kappa_score

    return float(cohen_kappa_score(first, second, labels=grades, weights=how, sample_weight=weights))
