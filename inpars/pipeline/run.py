"""The whole of it: from a corpus to tuned models and an honest comparison, in one folder.

Every step is a stage with its own manifest, so that a second run redoes only what its changed settings touch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inpars.datasets import Dataset
from inpars.errors import ConfigError, StaleInputError
from inpars.evaluation.measures import DEFAULT_METRICS, Evaluation
from inpars.evaluation.significance import Difference
from inpars.extras import require
from inpars.manifest import Manifest
from inpars.options import flags_of
from inpars.pipeline.commands import Asked, StageCommands, run_flags
from inpars.pipeline.held_out import HeldOut, hold_out_queries, said_beside, split_files, split_settings
from inpars.pipeline.judging import Judged, judge, verdict_on
from inpars.pipeline.options import PipelineOptions
from inpars.pipeline.replacing import refuse_to_replace, settings_of
from inpars.pipeline.results import read_mark, report_of, write_mark
from inpars.pipeline.retrieving import BASE_FUSION, RERANKED, SYNTHETIC, TUNED_FUSION, Surroundings, all_runs
from inpars.pipeline.steps import Steps
from inpars.progress import SILENT, Progress
from inpars.prompting.templates import PromptSource
from inpars.reports.report import write_report
from inpars.stages.card_numbers import add_numbers_of_run
from inpars.stages.examples import without_examples
from inpars.stages.filtering import filter_file
from inpars.stages.generating import GenerateOptions, generate_queries, generator_maker
from inpars.stages.mining import TriplesOptions, write_triples
from inpars.stages.training import train_reranker_from_file, train_retriever_from_file
from inpars.topics import DEFAULT_SPLIT, Topics
from inpars.training.options import RerankerOptions, RetrieverOptions

FILTERED = "queries.filtered.jsonl"
RERANKER_BATCH = 8  # queries a step of the reranker's training
RERANKER_PASSES = 2  # that a step's queries go through the network in: a decoder needs 4.1 GB for 6.5 in as much time
STEPS_OF_THE_AUTHOR = 8  # of a reranker that wrote the queries itself: its loss is near 0 after five


@dataclass(frozen=True, slots=True)
class Finished:
    """What a run ends with; results are empty where nothing was measured, `statement` says what held-out ones prove.

    `verdict` sets the last system against the fusion of the untuned ones, which asks for no training.
    """

    results: dict[str, Evaluation]
    differences: dict[str, Mapping[str, Difference]]
    report: Path
    statement: str = ""
    verdict: str = ""
    problems: Sequence[str] = ()  # why the measures of some systems are no result


def run_pipeline(
    dataset: Dataset,
    prompt: PromptSource,
    options: PipelineOptions,
    *,
    output: Path,
    split: str = DEFAULT_SPLIT,
    metrics: Sequence[str] = DEFAULT_METRICS,
    asked: Asked = Asked(),  # noqa: B008 - frozen
    progress: Progress = SILENT,
    overwrite: bool = False,
) -> Finished:
    """Do all stages into the folder `output`. Raises StaleInputError where it holds a run of another dataset.

    Raises ConfigError where it holds finished results of other settings, unless `overwrite` lets them be replaced.

    Without judged queries, a share of the written ones is held out to measure by.
    """
    # now, not after the stages before the one that needs it
    require(("train", "bm25"), (options.model, options.retriever, options.reranker), "for a whole run")
    mark = _known_mark(output, dataset, asked)
    topics = dataset.topics(split) if dataset.splits else None
    if topics is not None:
        _check_judged(topics, dataset)
    settings = settings_of(options, prompt, *asked.reading, split=split, metrics=metrics, topics=topics)
    overwrite = refuse_to_replace(output, settings, overwrite=overwrite)
    write_mark(output, dataset, asked, mark.get("finished"))
    progress = steps = Steps.over(progress, options)
    run = Surroundings(dataset, prompt, options, output, topics, steps, overwrite, StageCommands(asked))
    manifests = {"generate": _generate(run), "filter": _filter(run)}
    held_out = _hold_out(run)
    topics, manifests["triples"] = held_out.topics, _mine(run, held_out.train)
    manifests["retriever"] = _train_retriever(run)
    if options.reranker_epochs:
        manifests["reranker"] = _train_reranker(run, manifests["triples"])
    judged = Judged()
    if topics is not None:
        topics = without_examples(topics.first(options.limit), prompt, progress)
        paths = all_runs(run, topics)
        steps.begin("measure")
        judged = judge(output, topics, paths, metrics, progress=progress, overwrite=overwrite)
        _say_judged(run, list(paths.values()), metrics)
        add_numbers_of_run(manifests, judged.evaluations, metrics[0], (dataset.name, topics.split), RERANKED, progress)
    report, verdict = output / "report.html", verdict_on(judged, BASE_FUSION, TUNED_FUSION + RERANKED, metrics[0])
    page = report_of(dataset, prompt, options, output, manifests, judged, metrics, asked, verdict, run.commands.lines)
    write_report(said_beside(page, held_out), report)
    write_mark(output, dataset, asked, settings)
    steps.end()
    results, differences = dict(judged.evaluations), dict(judged.differences)
    return Finished(results, differences, report, held_out.statement, verdict, judged.problems)


def _check_judged(topics: Topics, dataset: Dataset) -> None:
    """Say now, not after hours, that nothing can be measured."""
    judged = {doc_id: None for grades in topics.qrels.values() for doc_id in grades}
    if judged and not any(doc_id in dataset.corpus for doc_id in judged):
        problem = f"none of the {len(judged):,} judged documents is in the corpus, {next(iter(judged))!r} for instance"
        raise ConfigError(f"{dataset.name}: {problem}; give the judgements of these documents")


def _known_mark(folder: Path, dataset: Dataset, asked: Asked) -> dict[str, Any]:
    """The folder's mark, which must be this dataset's; empty where there is none."""
    known = read_mark(folder)
    same_documents = asked.documents and known.get("documents") == asked.documents  # which may have changed
    if known and known.get("corpus_sha256") != dataset.corpus.sha256 and not same_documents:
        raise StaleInputError(
            f"{folder} holds a run of another dataset ({known.get('dataset')}), not of {dataset.name}; "
            "choose another --output or remove the folder"
        )
    return known


def _generate(run: Surroundings) -> Manifest:
    run.progress.begin("generate")
    own = run.options
    options = GenerateOptions(
        model=own.model,
        max_documents=own.max_documents,
        max_doc_tokens=own.max_doc_tokens,
        max_new_tokens=own.max_new_tokens,
        seed=own.seed,
        **own.clustered,
    )
    run.commands.add("generate", [*run.commands.documents, *run.commands.prompt], run.path(SYNTHETIC), options)
    return generate_queries(
        run.dataset.corpus,
        run.dataset.corpus_stamp,
        run.prompt,
        options,
        output=run.path(SYNTHETIC),
        make_generator=generator_maker(options, run.prompt),
        **run.told,
    )


def _filter(run: Surroundings) -> Manifest:
    run.progress.begin("filter")
    known = [*run.commands.documents, *run.commands.example_queries]
    run.commands.add("filter", ["--input", run.path(SYNTHETIC), *known], run.path(FILTERED), run.options.filtering)
    return filter_file(
        run.path(SYNTHETIC),
        run.options.filtering,
        output=run.path(FILTERED),
        example_queries=[example.query for example in run.prompt.examples],
        own_queries=list(run.topics.queries.values()) if run.topics is not None else (),
        **run.told,
    )


def _hold_out(run: Surroundings) -> HeldOut:
    """What is trained on and measured by: judged queries where there are some."""
    queries = run.path(FILTERED)
    if run.topics is not None or not run.options.dev_share:
        return HeldOut(queries, run.topics, "")
    held_out = hold_out_queries(queries, run.dataset, run.options, run.folder, run.told)
    if held_out.topics is not None:
        files = split_files(run.folder)
        sides = ["--output-train", files.train, "--output-dev", files.dev]
        settings = flags_of(split_settings(run.options))
        run.commands.add("split", ["--input", queries, *run.commands.documents, *sides, *settings])
        run.commands.hold_out(files.queries_dev, files.qrels_dev)
    return held_out


def _mine(run: Surroundings, queries: Path) -> Manifest:
    run.progress.begin("mine")
    own = run.options
    options = TriplesOptions(
        ranks=own.ranks,
        per_query=own.per_query,
        positive_within=own.positive_within,
        seed=own.seed,
        threads=own.threads,
    )
    source = ["--input", queries, *run.commands.documents, "--no-judgements"]
    run.commands.add("triples", source, run.path("triples.tsv"), options)
    return write_triples(
        queries,
        run.dataset.corpus,
        run.dataset.corpus_stamp,
        options,
        output=run.path("triples.tsv"),
        **run.told,
    )


def _train_retriever(run: Surroundings) -> Manifest:
    run.progress.begin("train retriever")
    own = run.options
    options = RetrieverOptions(model=own.retriever, epochs=own.retriever_epochs, seed=own.seed, **own.computing)
    output = run.path("models") / "retriever"
    run.commands.add("train retriever", ["--triples", run.path("triples.tsv")], output, options)
    return train_retriever_from_file(run.path("triples.tsv"), options, output=output, **run.told)


def _train_reranker(run: Surroundings, triples: Manifest) -> Manifest:
    run.progress.begin("train reranker")
    own = run.options
    batches = (triples.output.records or 0) / own.per_query / RERANKER_BATCH
    limit = own.reranker_steps or (STEPS_OF_THE_AUTHOR if own.reranker == own.model else math.inf)
    options = RerankerOptions(
        model=own.reranker,
        kind=own.reranker_kind,
        batch_size=RERANKER_BATCH // RERANKER_PASSES,
        gradient_accumulation=RERANKER_PASSES,
        max_steps=max(1, math.ceil(min(own.reranker_epochs * batches, limit))),
        max_length=own.reranker_max_length,
        seed=own.seed,
        **own.computing,
    )
    output = run.path("models") / "reranker"
    run.commands.add("train reranker", ["--triples", run.path("triples.tsv"), *run.shown_flags], output, options)
    return train_reranker_from_file(run.path("triples.tsv"), options, output=output, prompt=run.shown, **run.told)


def _say_judged(run: Surroundings, paths: Sequence[Path], metrics: Sequence[str]) -> None:
    """What measures the runs again, and what is made by `inpars run` alone."""
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
