"""What evaluations come to in a report: means with intervals, movements of queries, nDCG by depth, wins and losses.

Records in, the report's values out; texts are looked up by whoever calls.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from inpars.evaluation.changes import Change, most_changed
from inpars.evaluation.measures import Evaluation, evaluate
from inpars.evaluation.significance import Difference, bootstrap_interval
from inpars.evaluation.wording import power_in_words
from inpars.records import Qrels, Run
from inpars.reports.charts import Series, evenly
from inpars.reports.content import DEPTHS, Moved, Movement, Passage, Results, System
from inpars.runs import cut, rank
from inpars.topics import Topics

RESAMPLES = 2_000  # for intervals of means, of which there are many
SHOWN = 5  # wins and losses
TEXT_CHARACTERS = 400

Texts = Callable[[str], str | None]
"""A document's text by its id, None where it is not known."""


@dataclass(frozen=True, slots=True)
class Glance:
    """What a report keeps of a run, so that no two runs need be in memory together."""

    depth_curve: Series
    firsts: Mapping[str, str]  # query_id -> its first document


def glance(name: str, run: Run, qrels: Qrels) -> Glance:
    """Look at a run once."""
    firsts = {query_id: rank(run[query_id], 1)[0][0] for query_id in qrels if run.get(query_id)}
    return Glance(depth_curve(name, run, qrels), firsts)


def results_of(
    evaluations: Mapping[str, Evaluation],
    differences: Mapping[str, Mapping[str, Difference]],
    metrics: Sequence[str],
    glances: Mapping[str, Glance],
    topics: Topics,
    *,
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
    before, after = (evaluations[name].per_query[judged] for name in (baseline, other))
    firsts = (glances[baseline].firsts, glances[other].firsts)
    wins, losses = (
        [_moved(change, topics, firsts, texts) for change in changes] for changes in most_changed(before, after, SHOWN)
    )
    power = power_in_words(judged, differences[judged][other]) if other in differences[judged] else ""
    return Results(
        metrics=list(metrics),
        queries=next(iter(evaluations.values())).queries,
        baseline=baseline,
        best=best,
        systems=[_system(name, evaluation, metrics) for name, evaluation in evaluations.items()],
        differences=differences,
        movements=[movement(name, before, evaluations[name].per_query[judged]) for name in others],
        depth_curves=[glances[name].depth_curve for name in evaluations],
        wins=wins,
        losses=losses,
        notes=[*([f"{power}."] if power else []), *notes],
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


def passage(doc_id: str, texts: Texts, relevance: int | None = None) -> Passage:
    """A document to be shown, the beginning of its text."""
    return Passage(doc_id, (texts(doc_id) or "")[:TEXT_CHARACTERS], relevance)


def _system(name: str, evaluation: Evaluation, metrics: Sequence[str]) -> System:
    intervals = {
        metric: bootstrap_interval(list(evaluation.per_query[metric].values()), RESAMPLES) for metric in metrics
    }
    return System(
        name,
        {metric: evaluation.means[metric] for metric in metrics},
        intervals,
        evaluation.missing,
        evaluation.judged_at_10,
    )


def _moved(change: Change, topics: Topics, firsts: tuple[Mapping[str, str], Mapping[str, str]], texts: Texts) -> Moved:
    judged, query_id = topics.qrels.get(change.query_id, {}), change.query_id
    relevant = max(
        (doc_id for doc_id, grade in judged.items() if grade > 0), key=lambda d: (judged[d], d), default=None
    )
    one, other = (
        passage(found[query_id], texts, judged.get(found[query_id])) if query_id in found else None for found in firsts
    )
    wanted = None if relevant is None else passage(relevant, texts, judged[relevant])
    words = topics.queries.get(query_id, "")
    return Moved(query_id, words, change.baseline, change.system, wanted, one, other)
