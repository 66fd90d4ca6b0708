"""The conclusion of a run: which system to deploy, what it gains over simpler ones, and what would help next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from inpars.evaluation.measures import Evaluation
from inpars.evaluation.significance import compare_pairs
from inpars.evaluation.verdicts import power_in_words
from inpars.fusion.choice import OFFSETS, STEPS
from inpars.fusion.system import SearchSystem
from inpars.io.manifest import Manifest
from inpars.report.charts import Series, Step
from inpars.report.schema import Conclusion, Gain, Mix


def conclusion_of(
    name: str,
    system: SearchSystem,
    evaluations: Mapping[str, Evaluation],
    others: Mapping[str, str],
    metric: str,
    *,
    unreranked: str,
    search: Manifest | None,
    search_unreranked: Manifest | None,
    weight_bytes: Mapping[str, int],
    skipped: Mapping[str, str],
    commands: Sequence[str],
) -> Conclusion:
    """Compare the system `name` with `others` (name -> description) and with itself without the reranker.

    The search manifests give the seconds per query; `skipped` maps each untrained model to the reason.
    """
    names = {**others, **({unreranked: "without the reranker"} if unreranked != name else {})}
    gains = _gains(name, evaluations, names, metric)
    evaluation = evaluations.get(name)
    reranker = next((gain for gain in gains if gain.against == unreranked), None)
    return Conclusion(
        system=name,
        description=str(system),
        metric=metric,
        value=None if evaluation is None else evaluation.means[metric],
        queries=0 if evaluation is None else evaluation.queries,
        gains=[gain for gain in gains if gain is not reranker],
        reranker=reranker,
        seconds_per_query=_seconds_per_query(search),
        seconds_without_reranker=_seconds_per_query(search_unreranked) if unreranked != name else None,
        device="" if search is None else search.device,
        weight_bytes=weight_bytes,
        peak_bytes=0 if search is None else search.peak_bytes,
        steps=_steps(system),
        advice=list(_advice(metric, gains, reranker, skipped, measured=evaluation is not None)),
        commands=commands,
    )


def mix_of(results: Mapping[str, Any]) -> Mix | None:
    """How the weights of the mix were chosen, from the results of the choice; None without queries to choose by."""
    if not results.get("queries"):
        return None
    offsets = results.get("offsets", ())  # absent in older runs
    return Mix(
        queries=results["queries"],
        easy=results["easy"],
        shares=Series("one share for all queries", [step / STEPS for step in range(STEPS + 1)], results["curve"]),
        offsets=Series("the gate with this offset", OFFSETS[: len(offsets)], offsets),
        offset=results["gate"]["offset"],
        chosen=results["chosen"],
        before=results["before"],
        equal=results["equal"],
        by="judged dev" if results.get("by") == "judged" else "synthetic",  # as in older runs
        weighing=results.get("weighing", "easy ones a quarter"),
    )


def _gains(name: str, evaluations: Mapping[str, Evaluation], names: Mapping[str, str], metric: str) -> list[Gain]:
    """Differences from each other measured system, with p-values adjusted together."""
    if name not in evaluations:
        return []
    values = {system: evaluation.per_query[metric] for system, evaluation in evaluations.items()}
    pairs = {other: (values[other], values[name]) for other in names if other in values and other != name}
    return [
        Gain(other, names[other], evaluations[other].means[metric], difference)
        for other, difference in compare_pairs(pairs).items()
    ]


def _steps(system: SearchSystem) -> list[Step]:
    """The boxes of the diagram, from a query to its results."""
    stages = [stage.label for stage in system.stages]
    if len(stages) == 1:
        steps = [Step(stages[0])]
    else:
        gate = Step("Weighed query by query", "BM25 counts more where its first document holds the query's rare words")
        steps = [
            Step(" + ".join(stages), f"each finds {system.fusion_depth} documents"),
            gate if system.gate else Step("Added with fixed weights"),
        ]
    steps += [Step(f"The first {each.depth} reordered", f"by {each.label}") for each in system.rerankings]
    return [Step("Query"), *steps, Step("Results")]


def _seconds_per_query(search: Manifest | None) -> float | None:
    queries = None if search is None else search.results.get("queries")
    return search.seconds / queries if search is not None and queries else None


def _advice(
    metric: str, gains: Sequence[Gain], reranker: Gain | None, skipped: Mapping[str, str], *, measured: bool
) -> Iterator[str]:
    """Advice on what would help next, the most useful first."""
    if not measured:
        yield "Judge queries (--queries, --qrels): nothing was measured."
    elif gains:
        main = gains[-1].difference  # from the strongest competitor, which comes last
        if power := power_in_words(metric, main):
            yield f"{power}."
    if reranker is not None and not reranker.difference.is_believed():
        effect = "adds nothing" if reranker.difference.better == reranker.difference.worse == 0 else "may add nothing"
        yield f"Leave the reranker out (--rerank-depth 0): queries take less time, and it {effect}."
    for model, reason in skipped.items():
        yield f"The {model} was not trained: {reason}."
