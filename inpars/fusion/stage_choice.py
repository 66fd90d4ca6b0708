"""Which parts a search system has: each bi-encoder's view and the reranker's weight and depth, judged inside the mix.

A first stage that is the default stays unless the queries say by more than one standard error of the paired differences
that it harms; any other has to gain as much. The reranker's weight and depth are those with the greatest gain, after
each is shrunk by how uncertain it is. Reads no files.
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

MIN_QUERIES = 10  # from which on a standard error says something
WINDOWS, TUNED, VIEW = "base", "tuned", "view"  # names of first stages; of views their beginning
RERANKER_WEIGHTS = (0.25, 0.5, 0.75, 1.0)
SPREAD = 0.02  # of what rerankers at another weight or depth gain or lose from one collection to the next, in nDCG@10


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One change of the system and what the queries say of it."""

    name: str
    value: float  # mean nDCG@10 with the change
    difference: float  # from the mean without it
    standard_error: float  # of the difference
    taken: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Headroom:
    """Shares of the queries by the place of their first relevant document; the second is what reranking can gain."""

    first_10: float
    first_100: float  # not among the first 10
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
    """The choice, the bi-encoders' stages by name and the trials.

    The gate's offset is chosen with the first bi-encoder alone, as the gate was learned: written queries overrate
    windows. Windows are a default. A tuned bi-encoder is none: it is tried beside the others, and in place of the
    windows. Views are none either, and are tried one after the other. Fewer than `MIN_QUERIES` queries leave the
    default.
    """
    views = [name for name in dense if name.startswith(VIEW)]
    names = tuple(name for name in dense if name not in (TUNED, *views))
    alone = judged_mix(gate, features, lexical, [dense[name] for name in names[:1]], qrels, depth, weights).choice

    def judged(names: Sequence[str]) -> JudgedMix:
        runs = [dense[name] for name in names]
        return judged_mix(gate, features, lexical, runs, qrels, depth, weights, at=alone.gate.offset)

    now, trials = judged(names), list[Trial]()
    if now.choice.queries < MIN_QUERIES:
        return now.choice, names, trials
    if WINDOWS in names and len(names) > 1:
        fewer = tuple(name for name in names if name != WINDOWS)
        without = judged(fewer)
        difference, error = paired(now.values, without.values, now.weights)
        stay = difference > -error
        trials.append(_trial("windows", now, difference, error, taken=stay))
        names, now = (names, now) if stay else (fewer, without)

    def consider(*options: tuple[str, tuple[str, ...]]) -> None:
        """Take the best of some sets of stages by name if it gains more than a standard error."""
        nonlocal names, now
        tried = [(name, stages, judged(stages)) for name, stages in options]
        name, stages, mix = max(tried, key=lambda option: option[2].choice.chosen)
        difference, error = paired(mix.values, now.values, now.weights)
        taken = difference > error
        trials.append(_trial(name, mix, difference, error, taken=taken))
        names, now = (stages, mix) if taken else (names, now)

    if TUNED in dense:
        options = [("tuned bi-encoder", (*names, TUNED))]
        if WINDOWS in names:
            fewer = tuple(name for name in names if name != WINDOWS)
            options.append(("tuned bi-encoder in place of the windows", (*fewer, TUNED)))
        consider(*options)
    for view in views:
        consider((view, (*names, view)))
    return now.choice, names, trials


def choose_reranking(
    mix: Run, scores: Run, qrels: Qrels, *, weight: float, depth: int, weights: Mapping[str, float] | None = None
) -> tuple[float | None, int, list[Trial]]:
    """The reranker's weight (0 for none) and depth by judged queries, from the default ones; and the trials.

    `scores` are the reranker's of the mix's first `depth` documents. Smaller depths are tried, greater ones are not.
    `weights` per query take the place of the default weight, which is then reported as None.
    """
    query_ids = [query_id for query_id in mix if qrels.get(query_id)]
    usual = weight if weights is None else None

    def values(weight: float | None, depth: int) -> Table:
        query_values = {name: (weights or {})[name] if weight is None else weight for name in query_ids}
        return np.array([_reranked(name, mix, scores, qrels, query_values[name], depth) for name in query_ids])

    if len(query_ids) < MIN_QUERIES:
        return usual, depth, []
    default, counts = values(usual, depth), np.full(len(query_ids), 1 / len(query_ids))
    depths = sorted({max(1, depth // 4), max(1, depth // 2), depth})
    fixed = RERANKER_WEIGHTS if weights is None else (None, *RERANKER_WEIGHTS)
    settings = [(0.0, depth), *((weight, smaller) for smaller in depths for weight in fixed)]
    tried_values = {setting: values(*setting) for setting in settings if setting != (usual, depth)}
    differences = {setting: paired(query_values, default, counts) for setting, query_values in tried_values.items()}
    best = max(tried_values, key=lambda setting: (shrunk(*differences[setting]), -setting[1], -(setting[0] or 0)))
    trials = [
        Trial(
            name=_reranking_name(*setting),
            value=float(tried_values[setting].mean()),
            difference=difference,
            standard_error=error,
            taken=setting == best and difference > 0,
        )
        for setting, (difference, error) in differences.items()
    ]
    return (*(best if any(trial.taken for trial in trials) else (usual, depth)), trials)


def _reranking_name(weight: float | None, depth: int) -> str:
    if weight == 0:
        return "no reranker"
    return f"weight {'by the gate' if weight is None else f'{weight:g}'}, depth {depth}"


def headroom(run: Run, qrels: Qrels, depth: int = 100) -> Headroom:
    """Shares of judged queries by the rank of their first relevant document."""
    positions = list[int]()
    for query_id, grades in qrels.items():
        ranked = rank(run.get(query_id, {}), depth)
        positions.append(
            next((position for position, (doc_id, _) in enumerate(ranked) if grades.get(doc_id, 0) > 0), depth)
        )
    total = len(positions) or 1
    near = sum(position < DEPTH for position in positions)
    beyond = sum(position >= depth for position in positions)
    return Headroom(first_10=near / total, first_100=(len(positions) - near - beyond) / total, beyond=beyond / total)


def paired(values: Table, others: Table, weights: Table) -> tuple[float, float]:
    """The weighted mean of the differences and its standard error."""
    differences = values - others
    mean = float(weights @ differences)
    return mean, math.sqrt(float(weights**2 @ (differences - mean) ** 2))


def shrunk(difference: float, error: float) -> float:
    """What is to be expected of a difference that was measured with this standard error."""
    return difference / (1 + (error / SPREAD) ** 2)


def _trial(name: str, mix: JudgedMix, difference: float, error: float, *, taken: bool) -> Trial:
    return Trial(name=name, value=mix.choice.chosen, difference=difference, standard_error=error, taken=taken)


def _reranked(query_id: str, mix: Run, scores: Run, qrels: Qrels, weight: float, depth: int) -> float:
    run: Run = {query_id: mix[query_id]}
    if weight:
        reranked: Run = {query_id: scores.get(query_id, {})}
        run = fuse_with_first_stage(run, reranked, depth=depth, weights=(1 - weight, weight))
    return ndcg(run[query_id], qrels[query_id])
