"""The whole pipeline, from a corpus to tuned models and a tested comparison, in one folder.

Every step is a stage with its own manifest, so a second run redoes only what the changed settings affect.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from inpars.distributed import workers_of
from inpars.documents.datasets import Dataset
from inpars.errors import ConfigError, StaleInputError
from inpars.evaluation.measures import DEFAULT_METRICS, Evaluation
from inpars.evaluation.significance import Difference
from inpars.filtering.checks import FilterContext
from inpars.fusion.system import BM25, FirstStage, SearchSystem
from inpars.io.manifest import Manifest
from inpars.io.model_judgements import Origin
from inpars.io.topics import DEFAULT_SPLIT, Topics
from inpars.pipeline.budget import Part
from inpars.pipeline.commands import Invocation, StageCommands, run_flags
from inpars.pipeline.evidence import EvidenceOptions, read_evidence
from inpars.pipeline.given_queries import join_pairs, take_generated
from inpars.pipeline.held_out import hold_out_queries, with_statements
from inpars.pipeline.judged import JudgedSystems, judge_systems
from inpars.pipeline.judging_options import JudgingOptions
from inpars.pipeline.leftovers import refuse_to_replace, remove_leftovers, settings_of
from inpars.pipeline.mark import read_mark, write_mark
from inpars.pipeline.measurement import MeasuredSystems, judge, verdict_on
from inpars.pipeline.options import PipelineOptions
from inpars.pipeline.plan import Frozen, budget_rows, facts_of, free_settings, planned_options
from inpars.pipeline.prompt_choice import TriedPrompt, check_looks
from inpars.pipeline.results import Shipped, report_of, texts_of, with_judged
from inpars.pipeline.steps import Steps
from inpars.pipeline.system_choice import choose_system, first_stages, lexical_system
from inpars.pipeline.system_runs import BASE_FUSION, FILTERED, MIX, RERANKED, SYNTHETIC, RunContext, all_runs
from inpars.pipeline.trainings import choice_queries, train_models
from inpars.progress import SILENT, Progress
from inpars.prompts.mixture import PromptSource
from inpars.report.render import write_report
from inpars.stages.card_numbers import add_numbers_of_run, split_label
from inpars.stages.examples import without_examples
from inpars.stages.filter import filter_file
from inpars.stages.generate import GenerateOptions, generate_queries, generator_maker


@dataclass(frozen=True, slots=True)
class PipelineResult:
    """The outcome of a run; results are empty if nothing was measured, `statement` says what held-out queries show.

    `verdict` compares the shipped system with the equal-weight fusion of BM25 and the untuned bi-encoder.
    """

    results: dict[str, Evaluation]
    differences: dict[str, Mapping[str, Difference]]
    report: Path
    statement: str = ""
    verdict: str = ""
    problems: Sequence[str] = ()  # why the measures of some systems are meaningless
    plan: Frozen | None = None  # with a budget
    facts: Mapping[Part, float] = field(default_factory=dict)  # part of the plan -> actual seconds
    origin: Origin | None = None  # the model that judged the test queries
    judged: JudgedSystems | None = None  # the measures by a model's grades


def run_pipeline(
    dataset: Dataset,
    prompt: PromptSource,
    options: PipelineOptions,
    *,
    output: Path,
    split: str = DEFAULT_SPLIT,
    metrics: Sequence[str] = DEFAULT_METRICS,
    evidence: EvidenceOptions = EvidenceOptions(),  # noqa: B008 - frozen
    judging: JudgingOptions = JudgingOptions(),  # noqa: B008 - frozen
    invocation: Invocation = Invocation(),  # noqa: B008 - frozen
    tried: TriedPrompt | None = None,
    progress: Progress = SILENT,
    overwrite: bool = False,
) -> PipelineResult:
    """Run all stages into the folder `output`.

    Without judged queries, a share of the generated ones is held out to measure by. Queries that the prompt wrote in
    its trial (`tried`) are reused. Raises StaleInputError if the folder holds a run of another dataset, and ConfigError
    if it holds finished results of other settings, unless `overwrite` is set.
    """
    run, plan, settings = _begin(
        dataset,
        prompt,
        options,
        output=output,
        read={"split": split, "metrics": metrics, "topics": judged_topics(dataset, split), "judging": judging},
        evidence=evidence,
        invocation=invocation,
        written=0 if tried is None else tried.written,
        progress=progress,
        overwrite=overwrite,
    )
    manifests = {"generate": _generate(run, tried), "looks": check_looks(run), "filter": _filter(run)}
    manifests |= {} if tried is None else {"prompt": tried.manifest}
    held_out = hold_out_queries(run, join_pairs(run, run.path(FILTERED), manifests))
    trained, skipped = train_models(run, held_out.train)
    system, candidates, chosen = _choose(run, held_out.train, trained)
    manifests |= trained | chosen
    judged, shipped = _measure(run, held_out.topics, system, candidates, manifests, metrics)
    facts = {} if plan is None else facts_of(output, plan, time.monotonic() - run.progress.began)
    by_model = judge_systems(run, judging, system, candidates, judged, shipped.runs, metrics)
    remove_leftovers(output, run.progress)
    page = report_of(run, manifests, judged, metrics, shipped=shipped, skipped=skipped)
    page = page if plan is None else replace(page, budget=budget_rows(plan, facts))
    report = output / "report.html"
    write_report(with_judged(with_statements(page, held_out), by_model, metrics, texts_of(dataset)), report)
    write_mark(output, dataset, invocation, settings)
    run.progress.end()
    bar = BM25 if run.options.retriever == BM25 else BASE_FUSION
    return PipelineResult(
        dict(judged.evaluations),
        dict(judged.differences),
        report,
        held_out.statement,
        verdict_on(judged, bar, shipped.name, metrics[0]),
        judged.problems,
        plan,
        facts,
        None if judged.topics is None else judged.topics.origin,
        by_model,
    )


def _begin(
    dataset: Dataset,
    prompt: PromptSource,
    options: PipelineOptions,
    *,
    output: Path,
    read: dict[str, Any],
    evidence: EvidenceOptions,
    invocation: Invocation,
    written: int,
    progress: Progress,
    overwrite: bool,
) -> tuple[RunContext, Frozen | None, dict[str, Any]]:
    """The run context with planned options, the plan, and the settings to mark the folder with.

    `read` are further arguments of `settings_of`; `written` is the number of documents with queries from the prompt
    trial.
    """
    mark = known_mark(output, dataset, invocation)
    topics, judge_model = read["topics"], read["judging"].judge
    read |= {"evidence": evidence}
    free = free_settings(options, invocation.named)
    before = settings_of(options, prompt, *invocation.reading, **read, free=free)
    same = refuse_to_replace(output, before, overwrite=overwrite)
    steps = Steps.over(progress, options, judge_model)
    known = read_evidence(evidence, dataset, topics, steps)
    run = RunContext(dataset, prompt, options, output, topics, steps, overwrite, StageCommands(invocation), known)
    options, plan = planned_options(run, free, written)
    settings = settings_of(options, prompt, *invocation.reading, **read)
    overwrite = refuse_to_replace(output, settings, overwrite=overwrite) and same
    write_mark(output, dataset, invocation, mark.get("finished"))
    return replace(run, options=options, overwrite=overwrite), plan, settings


def _choose(
    run: RunContext, queries: Path, trained: Mapping[str, Manifest]
) -> tuple[SearchSystem, Sequence[FirstStage], dict[str, Manifest]]:
    """The search system, its candidate first stages, and the choice's manifest."""
    if run.options.retriever == BM25:
        system = lexical_system(run, trained)
        return system, system.stages, {}
    system, manifest = choose_system(run, choice_queries(run, queries, trained), trained)
    return system, first_stages(run, tuned="retriever" in trained), {"choose": manifest}


def _measure(
    run: RunContext,
    topics: Topics | None,
    system: SearchSystem,
    candidates: Sequence[FirstStage],
    manifests: Mapping[str, Manifest],
    metrics: Sequence[str],
) -> tuple[MeasuredSystems, Shipped]:
    """Search with all systems and measure them; both results are empty without test queries."""
    if topics is None:
        return MeasuredSystems(), Shipped(MIX, system, {})
    topics = without_examples(topics.first(run.options.limit), run.prompt, run.progress)
    paths = all_runs(run, topics, system, candidates)
    shipped = list(paths)[-1]
    run.progress.begin("measure")
    judged = judge(run.folder, topics, paths, metrics, progress=run.progress, overwrite=run.overwrite)
    _add_evaluate_command(run, [path for name, path in paths.items() if name != MIX or shipped == MIX], metrics)
    collection = run.dataset.name, split_label(topics.split, topics.origin)
    add_numbers_of_run(manifests, judged.evaluations, metrics[0], collection, RERANKED, run.progress)
    return judged, Shipped(shipped, system, paths)


def judged_topics(dataset: Dataset, split: str) -> Topics | None:
    """The test queries, None if the dataset has none.

    Raises ConfigError, before hours of work, if the corpus has none of the judged documents.
    """
    if not dataset.splits:
        return None
    topics = dataset.topics(split)
    judged = {doc_id: None for grades in topics.qrels.values() for doc_id in grades}
    if judged and not any(doc_id in dataset.corpus for doc_id in judged):
        problem = f"none of the {len(judged):,} judged documents is in the corpus, {next(iter(judged))!r} for instance"
        raise ConfigError(f"{dataset.name}: {problem}; give the judgements of these documents")
    return topics


def known_mark(folder: Path, dataset: Dataset, invocation: Invocation) -> dict[str, Any]:
    """The folder's mark, empty if there is none. Raises StaleInputError for the mark of another dataset."""
    known = read_mark(folder)
    same_documents = invocation.documents and known.get("documents") == invocation.documents  # which may have changed
    if known and known.get("corpus_sha256") != dataset.corpus.sha256 and not same_documents:
        raise _another_dataset(folder, known, invocation.documents or dataset.name)
    return known


def refuse_other_documents(folder: Path, documents: str) -> None:
    """Raise StaleInputError if the folder holds a run of other documents, before its passages are replaced."""
    known = read_mark(folder)
    if known and known.get("documents") != documents:
        raise _another_dataset(folder, known, documents)


def _another_dataset(folder: Path, known: Mapping[str, Any], name: str) -> StaleInputError:
    before = known.get("documents") or known.get("dataset")
    problem = (
        f"a run of another dataset ({before}), not of {name}"
        if before != name
        else f"a run of {name}, whose documents have changed since"
    )
    return StaleInputError(f"{folder} holds {problem}; choose another --output or remove the folder")


def generate_options(options: PipelineOptions) -> GenerateOptions:
    """The options for generating a run's queries."""
    return GenerateOptions(
        model=options.model,
        max_documents=options.max_documents,
        max_doc_tokens=options.max_doc_tokens,
        max_new_tokens=options.max_new_tokens,
        seed=options.seed,
        **options.clustered,
    )


def _generate(run: RunContext, tried: TriedPrompt | None) -> Manifest:
    if run.evidence.generated is not None:
        return take_generated(run, run.evidence.generated)
    run.progress.begin("generate")
    options = generate_options(run.options)
    run.commands.add("generate", [*run.commands.documents, *run.commands.prompt], run.path(SYNTHETIC), options)
    return generate_queries(
        run.dataset.corpus,
        run.prompt,
        options,
        output=run.path(SYNTHETIC),
        make_generator=generator_maker(options, run.prompt),
        workers=workers_of(options),
        written=None if tried is None else tried.queries,
        **run.stage_kwargs,
    )


def _filter(run: RunContext) -> Manifest:
    run.progress.begin("filter")
    known = [*run.commands.documents, *run.commands.example_queries]
    run.commands.add("filter", ["--input", run.path(SYNTHETIC), *known], run.path(FILTERED), run.options.filtering)
    return filter_file(
        run.path(SYNTHETIC),
        run.options.filtering,
        output=run.path(FILTERED),
        context=FilterContext(
            example_queries=[example.query for example in run.prompt.examples],
            own_queries=list(run.topics.queries.values()) if run.topics is not None else (),
        ),
        **run.stage_kwargs,
    )


def _add_evaluate_command(run: RunContext, paths: Sequence[Path], metrics: Sequence[str]) -> None:
    """Add the command that measures the runs again, or a comment if there is none."""
    run.commands.say(
        "topics/, metrics.json and report.html are written by `inpars run` alone",
        *(
            ["its measures are those of the queries that --limit leaves, which `inpars evaluate` cannot choose"]
            * bool(run.options.limit)
        ),
    )
    if not run.options.limit:
        measured = [*run.commands.topics, *run.left_out, *run_flags(paths), "--metrics", " ".join(metrics)]
        run.commands.add("evaluate", measured)
