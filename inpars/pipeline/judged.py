"""Measure a run's systems again by a language model's grades of their top documents.

The model judges the unjudged real queries if given, else the test queries. All files are in `judged/`; grades stay
there, since they may have been paid for.
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
    """The measures by a model's grades, the model, and how far to trust the tables by queries and by grades."""

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
    """Have the model judge, and measure; None if no model is named or there are no queries.

    `measured` are the measures by the test queries, `paths` the systems' runs for these queries.
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
    output, judge_options = run.path(JUDGED) / QRELS, options.stage_options(run.options.computing)
    _add_commands(run, options, judge_options, paths, metrics)
    manifest = judge_pairs(
        _pairs(run, topics, paths, options.judge_depth),
        run.dataset.corpus_stamp,
        options.prompt,
        judge_options,
        output=output,
        make_judge=lambda: load_judge(judge_options, options.prompt, options.api, output, run.progress),
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
    trust = (
        _trust_in_queries(measured, run.options.model),
        _trust_in_grades(measured, by_model, origin, manifest, metrics[0]),
    )
    return JudgedSystems(by_model, origin, trust)


def _for_queries(run: RunContext, topics: Topics) -> RunContext:
    """The run context for other queries than the test queries, with runs in `judged/`."""
    commands = StageCommands(replace(run.commands.invocation, ingest=""), run.commands.lines)
    commands.topics = [*commands.documents, "--queries", str(run.path(JUDGED) / TOPICS / QUERIES)]
    options = replace(run.options, limit=None)
    return replace(run, options=options, topics=topics, commands=commands, runs=f"{JUDGED}/runs")


def _pairs(run: RunContext, topics: Topics, paths: Mapping[str, Path], depth: int) -> list[Pair]:
    """The top documents of all systems for these queries."""
    runs = ({q: scores for q, scores in read_run(path).items() if q in topics.queries} for path in paths.values())
    ids = chosen_pairs(pooled(runs, depth), None, None, 0)
    return [Pair(query_id, topics.queries[query_id], run.dataset.corpus[doc_id]) for query_id, doc_id in ids]


def _add_commands(
    run: RunContext,
    options: JudgingOptions,
    judge_options: JudgeOptions,
    paths: Mapping[str, Path],
    metrics: Sequence[str],
) -> None:
    queries = ["--queries", str(run.path(JUDGED) / TOPICS / QUERIES)]
    api_settings = {"base-url": options.judge_base_url, "max-usd": options.judge_max_usd}
    server = [word for name, value in api_settings.items() if value is not None for word in (f"--{name}", str(value))]
    common, output = [*queries, *run_flags(paths.values())], run.path(JUDGED) / QRELS
    run.commands.say(f"{JUDGED}/{TOPICS} and {JUDGED}/metrics.json are written by `inpars run` alone")
    run.commands.add(
        "judge", [*run.commands.documents, *common, "--prompt", options.judge_prompt, *server], output, judge_options
    )
    run.commands.add("evaluate", [*common, "--qrels", output, "--metrics", " ".join(metrics)])


def _trust_in_queries(measured: MeasuredSystems, writer: str) -> str:
    """How far to trust the table by the test queries."""
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


def _trust_in_grades(
    measured: MeasuredSystems, by_model: MeasuredSystems, origin: Origin, manifest: Manifest, metric: str
) -> str:
    """How far to trust the table by the model's grades: agreement with people, indirect signs, and model size."""
    assert by_model.topics is not None
    signs = [*_source_grades(by_model.topics.qrels, measured.topics), *_rank_correlation(measured, by_model, metric)]
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


def _source_grades(grades: Qrels, topics: Topics | None) -> list[str]:
    """The grades of the documents that queries were written for, compared with all others."""
    if topics is None or topics.split != DEV_SPLIT:
        return []
    pairs, sources = pairs_of(grades), pairs_of(topics.qrels)
    source_hits = [grade >= RELEVANT_FROM for pair, grade in pairs.items() if pair in sources]
    other_hits = [grade >= RELEVANT_FROM for pair, grade in pairs.items() if pair not in sources]
    if not source_hits:
        return []
    return [
        f"grade {RELEVANT_FROM} or 3 went to {sum(source_hits)} of {len(source_hits)} documents that queries were "
        f"written for and to {sum(other_hits)} of {len(other_hits)} others"
    ]


def _rank_correlation(measured: MeasuredSystems, by_model: MeasuredSystems, metric: str) -> list[str]:
    """Whether both tables order the systems alike."""
    values = [
        (evaluation.means[metric], by_model.evaluations[name].means[metric])
        for name, evaluation in measured.evaluations.items()
    ]
    tau = tau_of(values)
    return [] if tau is None else [f"Kendall's tau with the other table is {tau:.2f} over {len(values)} systems"]
