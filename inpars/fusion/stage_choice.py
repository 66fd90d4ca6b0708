"""Chooses the parts of a search system by their effect on the mix: first stages, reranker weight and depth.

A default first stage is dropped only if it harms by more than one standard error of the paired differences; any other
must gain as much. The reranker gets the weight and depth with the largest gain, each shrunk by its uncertainty. Reads
no files.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from inpars.fusion.choice import DEPTH, Choice, JudgedMix, Table, judged_mix, ndcg
from inpars.fusion.gate import Gate, QueryFeatures
from inpars.io.runs import rank
from inpars.records import Qrels, Run
from inpars.rerankers.rerank import fuse_with_first_stage

MIN_QUERIES = 10  # with fewer, a standard error means little
WINDOWS, TUNED, VIEW = "base", "tuned", "view"  # names of first stages; the prefix of views
RERANKER_WEIGHTS = (0.25, 0.5, 0.75, 1.0)
SPREAD = 0.02  # standard deviation, across collections, of the nDCG@10 gained by another weight or depth


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One change of the system and its measured effect."""

    name: str
    value: float  # mean nDCG@10 with the change
    difference: float  # change of the mean
    standard_error: float  # of the difference
    taken: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Headroom:
    """Shares of the queries by the rank of their first relevant document."""

    first_10: float
    first_100: float  # ranks 11 to 100: what reranking can gain
    beyond: float


def choose_stages(
    gate: Gate,
    features: Mapping[str, QueryFeatures],
    lexical: Run,
    dense: Mapping[str, Run],
    qrels: Qrels,
    depth: int,
    weights: Mapping[str, float] | None = None,
) -> tuple[Choice, tuple[str, ...], list[Trial]]:
    """The choice, the names of the bi-encoders' stages and the trials.

    The gate's offset is chosen with the first bi-encoder alone, as the gate was learned, because synthetic queries
    overrate windows. Windows are a default. A tuned bi-encoder is tried as an addition and in place of the windows,
    then each view as an addition. With fewer than `MIN_QUERIES` queries the default is kept.
    """
    views = [name for name in dense if name.startswith(VIEW)]
    names = tuple(name for name in dense if name not in (TUNED, *views))
    alone = judged_mix(gate, features, lexical, [dense[name] for name in names[:1]], qrels, depth, weights).choice

    def judged(names: Sequence[str]) -> JudgedMix:
        runs = [dense[name] for name in names]
        return judged_mix(gate, features, lexical, runs, qrels, depth, weights, at=alone.gate.offset)

    best, trials = judged(names), list[Trial]()
    if best.choice.queries < MIN_QUERIES:
        return best.choice, names, trials
    without_windows = tuple(name for name in names if name != WINDOWS)
    if WINDOWS in names and without_windows:
        mix = judged(without_windows)
        difference, error = paired(best.values, mix.values, best.weights)
        keep = difference > -error
        trials.append(_trial("windows", best, difference, error, taken=keep))
        names, best = (names, best) if keep else (without_windows, mix)

    def consider(*options: tuple[str, tuple[str, ...]]) -> None:
        """Take the best of several sets of stages if it gains more than a standard error."""
        nonlocal names, best
        tried = [(name, stages, judged(stages)) for name, stages in options]
        name, stages, mix = max(tried, key=lambda option: option[2].choice.chosen)
        difference, error = paired(mix.values, best.values, best.weights)
        taken = difference > error
        trials.append(_trial(name, mix, difference, error, taken=taken))
        names, best = (stages, mix) if taken else (names, best)

    if TUNED in dense:
        options = [("tuned bi-encoder", (*names, TUNED))]
        if WINDOWS in names:
            options.append(("tuned bi-encoder in place of the windows", (*without_windows, TUNED)))
        consider(*options)
    for view in views:
        consider((view, (*names, view)))
    return best.choice, names, trials


def choose_reranking(
    mix: Run, scores: Run, qrels: Qrels, *, weight: float, depth: int, weights: Mapping[str, float] | None = None
) -> tuple[float | None, int, list[Trial]]:
    """The reranker's weight (0 for none) and depth, chosen on judged queries, and the trials.

    `weight` and `depth` are the defaults; smaller depths are tried too. `scores` are the reranker's scores of the mix's
    first `depth` documents. If `weights` per query are given, they replace the default weight and are returned as None.
    """
    query_ids = [query_id for query_id in mix if qrels.get(query_id)]
    default = (weight if weights is None else None, depth)

    def ndcg_per_query(weight: float | None, depth: int) -> Table:
        by_query = dict.fromkeys(query_ids, weight) if weight is not None else weights or {}
        return np.array([_reranked_ndcg(name, mix, scores, qrels, by_query[name], depth) for name in query_ids])

    if len(query_ids) < MIN_QUERIES:
        return *default, []
    baseline, shares = ndcg_per_query(*default), np.full(len(query_ids), 1 / len(query_ids))
    depths = sorted({max(1, depth // 4), max(1, depth // 2), depth})
    candidates = RERANKER_WEIGHTS if weights is None else (None, *RERANKER_WEIGHTS)
    settings = [(0.0, depth), *((weight, smaller) for smaller in depths for weight in candidates)]
    values = {setting: ndcg_per_query(*setting) for setting in settings if setting != default}
    differences = {setting: paired(query_values, baseline, shares) for setting, query_values in values.items()}
    best = max(values, key=lambda setting: (shrunk(*differences[setting]), -setting[1], -(setting[0] or 0)))
    trials = [
        Trial(
            name=_reranking_name(*setting),
            value=float(values[setting].mean()),
            difference=difference,
            standard_error=error,
            taken=setting == best and difference > 0,
        )
        for setting, (difference, error) in differences.items()
    ]
    return *(best if any(trial.taken for trial in trials) else default), trials


def _reranking_name(weight: float | None, depth: int) -> str:
    if weight == 0:
        return "no reranker"
    return f"weight {'by the gate' if weight is None else f'{weight:g}'}, depth {depth}"


def headroom(run: Run, qrels: Qrels, depth: int = 100) -> Headroom:
    """Shares of judged queries by the rank of their first relevant document."""
    indices = list[int]()
    for query_id, grades in qrels.items():
        ranked = rank(run.get(query_id, {}), depth)
        indices.append(next((index for index, (doc_id, _) in enumerate(ranked) if grades.get(doc_id, 0) > 0), depth))
    total = len(indices) or 1
    first_10 = sum(index < DEPTH for index in indices)
    beyond = sum(index >= depth for index in indices)
    first_100 = len(indices) - first_10 - beyond
    return Headroom(first_10=first_10 / total, first_100=first_100 / total, beyond=beyond / total)


def paired(values: Table, others: Table, weights: Table) -> tuple[float, float]:
    """Weighted mean of the paired differences, and its standard error."""
    differences = values - others
    mean = float(weights @ differences)
    return mean, math.sqrt(float(weights**2 @ (differences - mean) ** 2))


def shrunk(difference: float, error: float) -> float:
    """The expected true difference, given one measured with this standard error (prior: 0 with `SPREAD`)."""
    return difference / (1 + (error / SPREAD) ** 2)


def _trial(name: str, mix: JudgedMix, difference: float, error: float, *, taken: bool) -> Trial:
    return Trial(name=name, value=mix.choice.chosen, difference=difference, standard_error=error, taken=taken)


def _reranked_ndcg(query_id: str, mix: Run, scores: Run, qrels: Qrels, weight: float, depth: int) -> float:
    run: Run = {query_id: mix[query_id]}
    if weight:
        reranked: Run = {query_id: scores.get(query_id, {})}
        run = fuse_with_first_stage(run, reranked, depth=depth, weights=(1 - weight, weight))
    return ndcg(run[query_id], qrels[query_id])
