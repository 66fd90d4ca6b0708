"""The systems of a run measured once more, by the grades that a language model gives their first documents.

What it judges are real queries without judgements where there are some, else the queries that the run is measured by
anyway. All its files lie in `judged/`; what was paid for stays there whatever the run does next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from inpars.fusion.system import FirstStage, SearchSystem
from inpars.io.formats import read_run
from inpars.io.manifest import Manifest
from inpars.io.model_judgements import Origin, origin_of
from inpars.io.topics import Topics
from inpars.judging import Pair
from inpars.judging.agreement import FEW_PARAMETERS, PERSON, RELEVANT_FROM, agreements_with, note_agreement, tau_of
from inpars.judging.sample import chosen_pairs, pairs_of, pooled
from inpars.judging.terminal import answers_path, read_answers
from inpars.pipeline.commands import StageCommands, run_flags
from inpars.pipeline.held_out import DEV_SPLIT
from inpars.pipeline.judging_options import JudgingOptions
from inpars.pipeline.measurement import JUDGED, QUERIES, TOPICS, MeasuredSystems, judge
from inpars.pipeline.system_runs import RunContext, all_runs
from inpars.records import Qrels
from inpars.stages.judge import JudgeOptions, judge_pairs, load_judge, read_grades

QRELS = "qrels.txt"


@dataclass(frozen=True, slots=True)
class JudgedSystems:
    """The systems by a model's grades, who that is, and two sentences on what either table is worth."""

    measured: MeasuredSystems
    origin: Origin
    trust: tuple[str, str]


def judge_systems(
    run: RunContext,
    options: JudgingOptions,
    system: SearchSystem,
    candidates: Sequence[FirstStage],
    measured: MeasuredSystems,
    paths: Mapping[str, Path],
    metrics: Sequence[str],
) -> JudgedSystems | None:
    """Have the model judge, and measure; None where none is named or there are no queries.

    `measured` are the systems as they were measured before, `paths` their runs for the same queries.
    """
    if options.judge is None:
        return None
    run.progress.begin("judge")
    if run.evidence.unlabelled is not None:
        topics = run.evidence.unlabelled.first(options.judge_queries)
        run = _for_queries(run, topics)
        paths = all_runs(run, topics, system, candidates)
    elif measured.topics is not None:
        topics = measured.topics.first(options.judge_queries)
    else:
        run.progress.note("nothing is judged: no queries are held out; give --unlabelled-queries FILE")
        return None
    output, own = run.path(JUDGED) / QRELS, options.stage_options(run.options.computing)
    _say(run, options, own, paths, metrics)
    manifest = judge_pairs(
        _pairs(run, topics, paths, options.judge_depth),
        run.dataset.corpus_stamp,
        options.prompt,
        own,
        output=output,
        make_judge=lambda: load_judge(own, options.prompt, options.api, output, run.progress),
        api=options.api,
        **run.stage_kwargs,
    )
    grades = read_grades(output)
    by_people = topics.qrels if topics.origin is None and topics.split != DEV_SPLIT else {}
    others = {run.dataset.name: by_people, PERSON: read_answers(answers_path(output))}
    note_agreement(output, agreements_with(grades, {name: qrels for name, qrels in others.items() if qrels}))
    origin = origin_of(output)
    assert origin is not None
    topics = replace(topics, qrels=grades, origin=origin, remarks=())
    by_model = judge(run.path(JUDGED), topics, paths, metrics, progress=run.progress, overwrite=run.overwrite)
    trust = (_of_queries(measured, run.options.model), _of_grades(measured, by_model, origin, manifest, metrics[0]))
    return JudgedSystems(by_model, origin, trust)


def _for_queries(run: RunContext, topics: Topics) -> RunContext:
    """The run with other queries than those it is measured by, whose runs lie in `judged/` too."""
    commands = StageCommands(replace(run.commands.invocation, ingest=""), run.commands.lines)
    commands.topics = [*commands.documents, "--queries", str(run.path(JUDGED) / TOPICS / QUERIES)]
    options = replace(run.options, limit=None)
    return replace(run, options=options, topics=topics, commands=commands, runs=f"{JUDGED}/runs")


def _pairs(run: RunContext, topics: Topics, paths: Mapping[str, Path], depth: int) -> list[Pair]:
    """The first documents of all systems for these queries."""
    runs = ({q: scores for q, scores in read_run(path).items() if q in topics.queries} for path in paths.values())
    ids = chosen_pairs(pooled(runs, depth), None, None, 0)
    return [Pair(query_id, topics.queries[query_id], run.dataset.corpus[doc_id]) for query_id, doc_id in ids]


def _say(
    run: RunContext, options: JudgingOptions, own: JudgeOptions, paths: Mapping[str, Path], metrics: Sequence[str]
) -> None:
    queries = ["--queries", str(run.path(JUDGED) / TOPICS / QUERIES)]
    asked = {"base-url": options.judge_base_url, "max-usd": options.judge_max_usd}
    server = [word for name, value in asked.items() if value is not None for word in (f"--{name}", str(value))]
    common, output = [*queries, *run_flags(paths.values())], run.path(JUDGED) / QRELS
    run.commands.say(f"{JUDGED}/{TOPICS} and {JUDGED}/metrics.json are written by `inpars run` alone")
    run.commands.add(
        "judge", [*run.commands.documents, *common, "--prompt", options.judge_prompt, *server], output, own
    )
    run.commands.add("evaluate", [*common, "--qrels", output, "--metrics", " ".join(metrics)])


def _of_queries(measured: MeasuredSystems, writer: str) -> str:
    """How far the table by queries can be trusted."""
    topics = measured.topics
    if topics is None or not topics.qrels:
        return "No other queries were measured by."
    if topics.split == DEV_SPLIT:
        return (
            f"The {len(topics.qrels)} synthetic queries by {writer} show which system finds the one document that such "
            "a query was written for, as far as differences are not noise, and not how well people's queries are "
            "answered."
        )
    if topics.origin is not None:
        return f"The {topics.split} queries are {topics.origin}; their table is worth no more than that."
    return f"The {topics.split} queries were judged by people: where the tables differ, theirs counts."


def _of_grades(
    measured: MeasuredSystems, by_model: MeasuredSystems, origin: Origin, manifest: Manifest, metric: str
) -> str:
    """How far the table by the model's grades can be trusted: agreement, two signs of it, and the model's size."""
    assert by_model.topics is not None
    signs = [*_of_sources(by_model.topics.qrels, measured.topics), *_of_order(measured, by_model, metric)]
    parameters = manifest.results.get("parameters")
    if origin.is_poor:
        verdict = "conclude nothing from them"
    elif origin.agreement:
        verdict = "they order systems no better than that"
    elif parameters is not None and parameters < FEW_PARAMETERS:
        verdict = f"a model of {parameters / 1e6:.0f}M parameters grades close to chance, so conclude nothing from them"
    else:
        verdict = "take them as a second opinion until you have judged a sample (`inpars judge --sample 50`)"
    return f"What {origin.pairs} grades measure is {'; '.join([str(origin), *signs, verdict])}."


def _of_sources(grades: Qrels, topics: Topics | None) -> list[str]:
    """How the documents that the queries were written for are graded, beside all others."""
    if topics is None or topics.split != DEV_SPLIT:
        return []
    pairs, sources = pairs_of(grades), pairs_of(topics.qrels)
    sides = [[pairs[pair] >= RELEVANT_FROM for pair in pairs if (pair in sources) is own] for own in (True, False)]
    if not sides[0]:
        return []
    own, others = (f"{sum(side)} of {len(side)}" for side in sides)
    return [f"grade {RELEVANT_FROM} or 3 went to {own} documents that queries were written for and to {others} others"]


def _of_order(measured: MeasuredSystems, by_model: MeasuredSystems, metric: str) -> list[str]:
    """Whether both tables order the systems alike."""
    values = [
        (found.means[metric], by_model.evaluations[name].means[metric]) for name, found in measured.evaluations.items()
    ]
    tau = tau_of(values)
    return [] if tau is None else [f"Kendall's tau with the other table is {tau:.2f} over {len(values)} systems"]
