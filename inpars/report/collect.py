"""Collect a report's values from records and stage outputs: results, synthetic queries, trainings, times.

A report keeps counts and a few examples only, so its size does not grow with the number of queries. The caller looks up
document texts.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from inpars.evaluation.measures import Evaluation, evaluate
from inpars.evaluation.run_diff import Change, most_changed
from inpars.evaluation.significance import Difference, bootstrap_interval
from inpars.evaluation.verdicts import power_in_words
from inpars.filtering.filters import FilterOutcome
from inpars.io.manifest import MANIFEST_SUFFIX, Manifest, read_manifest
from inpars.io.runs import cut, rank
from inpars.io.topics import Topics
from inpars.io.triples import read_negative_rows
from inpars.records import Qrels, Run
from inpars.report.charts import Series, bins_of, evenly
from inpars.report.schema import (
    DEPTHS,
    Moved,
    Movement,
    NegativeExample,
    Negatives,
    Passage,
    QueryExample,
    Results,
    StageFacts,
    System,
    Training,
    Written,
)

RESAMPLES = 2_000  # fewer than the default, since a report has many intervals
SHOWN = 5  # wins and losses
TEXT_CHARACTERS = 400

EXAMPLES = 8
SUSPECTS = 6
BELOW = "below_top_k"
BY_BM25 = (
    "Negatives that the retriever which found them scores highest beside their positives. That is a weak sign: most "
    "are hard, not false. `inpars audit` has a reranker look at all of them."
)
BY_RERANKER = "Negatives that the reranker scores highest beside their positives."

Texts = Callable[[str], str | None]
"""doc_id -> the document's text, None if unknown."""


@dataclass(frozen=True, slots=True)
class RunSummary:
    """What a report needs of a run, so that only one run is in memory at a time."""

    depth_curve: Series
    firsts: Mapping[str, str]  # query_id -> top doc_id


def glance(name: str, run: Run, qrels: Qrels) -> RunSummary:
    """Summarize a run."""
    firsts = {query_id: rank(run[query_id], 1)[0][0] for query_id in qrels if run.get(query_id)}
    return RunSummary(depth_curve(name, run, qrels), firsts)


def results_of(
    evaluations: Mapping[str, Evaluation],
    differences: Mapping[str, Mapping[str, Difference]],
    metrics: Sequence[str],
    glances: Mapping[str, RunSummary],
    topics: Topics,
    *,
    texts: Texts,
    notes: Sequence[str] = (),
) -> Results | None:
    """The results section of a report; None if nothing was measured."""
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
    """NDCG at several cutoffs."""
    means = evaluate(cut(run, max(DEPTHS)), qrels, [f"nDCG@{depth}" for depth in DEPTHS]).means
    return Series(name, list(map(float, DEPTHS)), list(means.values()))


def movement(name: str, before: Mapping[str, float], after: Mapping[str, float]) -> Movement:
    """Count the queries that gained, lost and stayed."""
    values = sorted((after[query_id] - before[query_id] for query_id in before), reverse=True)
    better, worse = sum(value > 0 for value in values), sum(value < 0 for value in values)
    return Movement(name, better, worse, len(values) - better - worse, evenly(values))


def passage(doc_id: str, texts: Texts, relevance: int | None = None) -> Passage:
    """A document with the beginning of its text."""
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
    before, after = (
        passage(top[query_id], texts, judged.get(top[query_id])) if query_id in top else None for top in firsts
    )
    answer = None if relevant is None else passage(relevant, texts, judged[relevant])
    query = topics.queries.get(query_id, "")
    return Moved(query_id, query, change.baseline, change.system, answer, before, after)


def written_of(verdicts: Sequence[FilterOutcome], score_name: str, texts: Texts) -> Written:
    """Summarize the filter's verdicts on all synthetic queries."""
    kept = [verdict for verdict in verdicts if verdict.reason is None]
    passing = sorted((v.score for v in verdicts if v.reason in (None, BELOW) and math.isfinite(v.score)), reverse=True)
    ranks = [float(rank) for rank in range(1, len(passing) + 1)]
    shown, left_out = shown_queries(verdicts)
    return Written(
        score_name=score_name,
        count=len(verdicts),
        kept=len(kept),
        lowest_kept=min((verdict.score for verdict in kept), default=None),
        bins=bins_of([v.score for v in kept], [v.score for v in verdicts if v.reason is not None]),
        keep_curve=Series("score", evenly(ranks), evenly(passing)),
        dropped=Counter(verdict.reason for verdict in verdicts if verdict.reason is not None),
        kept_examples=[_example(verdict, texts) for verdict in shown],
        dropped_examples=[_example(verdict, texts) for verdict in left_out],
    )


def shown_queries(
    verdicts: Sequence[FilterOutcome], count: int = EXAMPLES
) -> tuple[list[FilterOutcome], list[FilterOutcome]]:
    """Examples: kept queries spread evenly over the scores, dropped ones over the reasons."""
    kept = sorted((v for v in verdicts if v.reason is None), key=lambda v: -v.score)
    by_reason: dict[str, list[FilterOutcome]] = {}
    for verdict in verdicts:
        if verdict.reason is not None:
            by_reason.setdefault(verdict.reason, []).append(verdict)
    rounds = zip_longest(*by_reason.values())  # one query per reason
    dropped = [verdict for one_round in rounds for verdict in one_round if verdict is not None]
    step = max(1, len(kept) // count)
    return kept[::step][:count], dropped[:count]


def negatives_of(path: Path, queries: Mapping[str, str], texts: Texts) -> Negatives | None:
    """Summarize the file of negatives next to the triples; None if there is no such file."""
    if not path.exists():
        return None
    rows = list(read_negative_rows(path))
    shares = {position: share for position, row in enumerate(rows) if (share := _share(row)) is not None}
    closest = sorted(shares, key=lambda position: (-shares[position], position))[:SUSPECTS]
    step = max(1, len(rows) // EXAMPLES)
    reranked = any("reranker_score" in row for row in rows)
    return Negatives(
        count=len(rows),
        queries=len({row["query_id"] for row in rows}),
        ranks=bins_of([float(row["rank"]) for row in rows if row.get("rank") is not None]),
        shares=bins_of(list(shares.values())),
        at_least_positive=sum(share >= 1 for share in shares.values()),
        examples=[_negative(row, queries, texts) for row in rows[::step][:EXAMPLES]],
        suspects=[_negative(rows[position], queries, texts) for position in closest],
        suspects_from=BY_RERANKER if reranked else BY_BM25,
    )


def trainings_of(manifests: Mapping[str, Manifest]) -> list[Training]:
    """The training curves of each model whose manifest has one."""
    return [_training(name, manifest.results) for name, manifest in manifests.items() if "curve" in manifest.results]


def manifests_in(folder: Path) -> Iterator[tuple[Path, Manifest]]:
    """Every output of a folder with its manifest, by starting time."""
    outputs = [path.with_name(path.name.removesuffix(MANIFEST_SUFFIX)) for path in folder.rglob(f"*{MANIFEST_SUFFIX}")]
    pairs = [(output, manifest) for output in sorted(outputs) if (manifest := read_manifest(output)) is not None]
    return iter(sorted(pairs, key=lambda pair: pair[1].started))


def stages_of(folder: Path) -> list[StageFacts]:
    """The facts of all stages in a folder."""
    return [stage_facts(output.relative_to(folder).as_posix(), manifest) for output, manifest in manifests_in(folder)]


def stage_facts(output: str, manifest: Manifest) -> StageFacts:
    """The facts of one stage from its manifest; `output` names its output in the report."""
    return StageFacts(
        stage=manifest.stage,
        output=output,
        records=manifest.output.records,
        seconds=manifest.seconds,
        usd=manifest.results.get("usd"),
        device=manifest.device,
        sha256=manifest.output.sha256,
        inputs={name: stamp.sha256 for name, stamp in manifest.inputs.items()},
        arguments=manifest.arguments,
        dropped=manifest.dropped,
        started=manifest.started,
        git_commit=manifest.git_commit,
        workers=manifest.results.get("workers", ()),
    )


def _example(verdict: FilterOutcome, texts: Texts) -> QueryExample:
    query = verdict.query
    return QueryExample(query.query_id, query.text, verdict.score, verdict.reason, passage(query.doc_id, texts))


def _share(row: Mapping[str, Any]) -> float | None:
    """The negative's score divided by the positive's; None without both.

    Reranker scores take precedence; as margins may be negative, their share is exp(negative - positive).
    """
    score, positive = row.get("reranker_score"), row.get("positive_reranker_score")
    if score is not None and positive is not None:
        return math.exp(min(50.0, float(score) - float(positive)))
    score, positive = row.get("score"), row.get("positive_score")
    if score is None or positive is None or positive <= 0:
        return None
    return float(score) / float(positive)


def _negative(row: Mapping[str, Any], queries: Mapping[str, str], texts: Texts) -> NegativeExample:
    reranked = row.get("reranker_score") is not None
    return NegativeExample(
        query_id=row["query_id"],
        query=queries.get(row["query_id"], row["query_id"]),
        positive=passage(row["positive_doc_id"], texts),
        negative=passage(row["negative_doc_id"], texts),
        source=str(row.get("source")),
        rank=row.get("rank"),
        score=row["reranker_score"] if reranked else row.get("score"),
        positive_score=row.get("positive_reranker_score") if reranked else row.get("positive_score"),
        scored_by="reranker" if reranked else "score",
    )


def _training(name: str, results: Mapping[str, Any]) -> Training:
    curve = results["curve"]
    validations = evenly(curve.get("validations", ())), evenly(curve.get("validation_steps", ()))
    return Training(
        name,
        Series("loss", evenly(curve["steps"]), evenly(curve["losses"])),
        Series("nDCG@10", validations[1], validations[0]),
        str(results.get("validated_by", "")),
        str(results.get("warning", "")),
    )
