"""Measures of runs against judgements, by `ir_measures` with trec_eval's code beneath.

A judged query that a run lacks scores 0 and is counted. Ranking is trec_eval's. Knows nothing of files.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import ir_measures

from inpars.errors import ConfigError
from inpars.records import Qrels, Run
from inpars.runs import rank

DEFAULT_METRICS = ("nDCG@10", "RR@10", "R@100")


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What one run is worth: means over all judged queries, and the values behind them."""

    means: dict[str, float]  # measure -> mean over judged queries
    per_query: dict[str, dict[str, float]]  # measure -> query_id -> value
    queries: int
    missing: int  # judged queries the run lacks; each scores 0


def parse_metrics(names: str | Sequence[str]) -> list[str]:
    """Measures in the field's own notation, `nDCG@10` or `RR(rel=2)@10`. Raises ConfigError with what is unknown."""
    wanted = names.split() if isinstance(names, str) else list(names)
    unknown = [name for name in wanted if not _is_measure(name)]
    if unknown or not wanted:
        raise ConfigError(
            f"unknown measure {', '.join(unknown) or 'list, it is empty'} (try: nDCG@10 RR@10 R@100 AP P@10)"
        )
    return wanted


def evaluate(run: Run, qrels: Qrels, metrics: Sequence[str] = DEFAULT_METRICS) -> Evaluation:
    """Values of a run for every judged query. Raises ConfigError where nothing is judged."""
    if not qrels:
        raise ConfigError("there are no judgements to evaluate with")
    measures = {name: ir_measures.parse_measure(name) for name in parse_metrics(metrics)}
    per_query = {name: dict.fromkeys(qrels, 0.0) for name in measures}
    judged = {query_id: _ranked(scores) for query_id, scores in run.items() if query_id in qrels}
    for value in ir_measures.iter_calc(list(dict.fromkeys(measures.values())), qrels, judged):
        for name in (name for name, measure in measures.items() if measure == value.measure):  # aliases, RR and MRR
            per_query[name][value.query_id] = float(value.value)
    means = {name: math.fsum(values.values()) / len(values) for name, values in per_query.items()}
    return Evaluation(means, per_query, len(qrels), len([query_id for query_id in qrels if not run.get(query_id)]))


def _ranked(scores: Mapping[str, float]) -> dict[str, float]:
    """The same order with scores that leave no ties, which the providers of ir_measures break differently.

    trec_eval compares scores in float32, and ties by descending doc_id.
    """
    ordered = rank(dict(zip(scores, array("f", scores.values()), strict=True)))
    return {doc_id: -float(position) for position, (doc_id, _) in enumerate(ordered, start=1)}


def _is_measure(name: str) -> bool:
    try:
        ir_measures.parse_measure(name)
    except (NameError, ValueError, TypeError, AttributeError, SyntaxError):
        return False
    return True
