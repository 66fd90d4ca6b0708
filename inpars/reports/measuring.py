"""What evaluations come to in a report: means with intervals, movements of queries, nDCG by depth, wins and losses.

Records in, the report's values out; texts are looked up by whoever calls.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from inpars.evaluation.measures import Evaluation, evaluate
from inpars.evaluation.significance import Difference, bootstrap_interval
from inpars.records import Qrels, Run
from inpars.reports.charts import Series, evenly
from inpars.reports.content import DEPTHS, Moved, Movement, Passage, Results, System
from inpars.runs import cut, rank

RESAMPLES = 2_000  # for intervals of means, of which there are many
SHOWN = 5  # wins and losses
TEXT_CHARACTERS = 400

Texts = Callable[[str], str | None]
"""A document's text by its id, None where it is not known."""


def results_of(
    evaluations: Mapping[str, Evaluation],
    differences: Mapping[str, Mapping[str, Difference]],
    metrics: Sequence[str],
    runs: Mapping[str, Run],
    qrels: Qrels,
    *,
    queries: Mapping[str, str],
    texts: Texts,
    notes: Sequence[str] = (),
) -> Results | None:
    """All that the report shows of these systems; None where nothing was measured."""
    if not evaluations:
        return None
    judged = metrics[0]
    baseline = next(name for name in evaluations if name not in differences[judged])
    best = max(evaluations, key=lambda name: evaluations[name].means[judged])
    others = [name for name in evaluations if name != baseline]
    other = best if best != baseline else next(iter(others), baseline)
    pair = {name: evaluations[name].per_query[judged] for name in (baseline, other)}
    wins, losses = most_moved(pair[baseline], pair[other])

    def moved(query_ids: Sequence[str]) -> list[Moved]:
        return [
            _moved(query_id, pair[baseline][query_id], pair[other][query_id], queries, qrels, firsts, texts)
            for query_id in query_ids
        ]

    firsts = (runs[baseline], runs[other])
    return Results(
        metrics=list(metrics),
        queries=next(iter(evaluations.values())).queries,
        baseline=baseline,
        best=best,
        systems=[_system(name, evaluation, metrics) for name, evaluation in evaluations.items()],
        differences=differences,
        movements=[
            movement(name, evaluations[baseline].per_query[judged], evaluations[name].per_query[judged])
            for name in others
        ],
        depth_curves=[depth_curve(name, run, qrels) for name, run in runs.items()],
        wins=moved(wins),
        losses=moved(losses),
        notes=notes,
    )


def depth_curve(name: str, run: Run, qrels: Qrels) -> Series:
    """The nDCG of the first k documents for several k."""
    means = evaluate(cut(run, max(DEPTHS)), qrels, [f"nDCG@{depth}" for depth in DEPTHS]).means
    return Series(name, list(map(float, DEPTHS)), list(means.values()))


def movement(name: str, before: Mapping[str, float], after: Mapping[str, float]) -> Movement:
    """How many queries moved which way."""
    values = sorted((after[query_id] - before[query_id] for query_id in before), reverse=True)
    better, worse = sum(value > 0 for value in values), sum(value < 0 for value in values)
    return Movement(name, better, worse, len(values) - better - worse, evenly(values))


def most_moved(
    before: Mapping[str, float], after: Mapping[str, float], count: int = SHOWN
) -> tuple[list[str], list[str]]:
    """Ids of the queries that won and that lost most, each from the largest on; the same ones whatever their order."""
    changes = {query_id: after[query_id] - value for query_id, value in before.items() if query_id in after}
    wins = sorted((q for q, change in changes.items() if change > 0), key=lambda q: (-changes[q], q))
    losses = sorted((q for q, change in changes.items() if change < 0), key=lambda q: (changes[q], q))
    return wins[:count], losses[:count]


def passage(doc_id: str, texts: Texts, relevance: int | None = None) -> Passage:
    """A document to be shown, the beginning of its text."""
    return Passage(doc_id, (texts(doc_id) or "")[:TEXT_CHARACTERS], relevance)


def _system(name: str, evaluation: Evaluation, metrics: Sequence[str]) -> System:
    intervals = {
        metric: bootstrap_interval(list(evaluation.per_query[metric].values()), RESAMPLES) for metric in metrics
    }
    return System(name, {metric: evaluation.means[metric] for metric in metrics}, intervals, evaluation.missing)


def _moved(
    query_id: str,
    before: float,
    after: float,
    queries: Mapping[str, str],
    qrels: Qrels,
    runs: tuple[Run, Run],
    texts: Texts,
) -> Moved:
    judged = qrels.get(query_id, {})
    relevant = max(
        (doc_id for doc_id, grade in judged.items() if grade > 0), key=lambda d: (judged[d], d), default=None
    )
    firsts = [rank(run.get(query_id, {}), 1) for run in runs]
    one, other = (passage(found[0][0], texts, judged.get(found[0][0])) if found else None for found in firsts)
    wanted = None if relevant is None else passage(relevant, texts, judged[relevant])
    return Moved(query_id, queries.get(query_id, ""), before, after, wanted, one, other)
