"""The whole of it: from a corpus to tuned models and an honest comparison, in one folder.

Every step is a stage with its own manifest, so that a second run redoes only what its changed settings touch.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from inpars.datasets import Dataset
from inpars.errors import ConfigError, DataFormatError, StaleInputError
from inpars.evaluation.measures import DEFAULT_METRICS, Evaluation
from inpars.evaluation.significance import Difference
from inpars.manifest import Manifest
from inpars.models.embedded import EMBEDDED
from inpars.pipeline.held_out import HeldOut, hold_out_queries, said_beside
from inpars.pipeline.judging import Judged, judge, verdict_on
from inpars.pipeline.options import PipelineOptions
from inpars.pipeline.results import FOLDER_MARK, Asked, report_of, write_mark
from inpars.pipeline.retrieving import BASE_FUSION, RERANKED, TUNED_FUSION, Surroundings, all_runs
from inpars.progress import SILENT, Progress
from inpars.prompting.templates import PromptSource
from inpars.reports.report import write_report
from inpars.stages.examples import without_examples
from inpars.stages.filtering import filter_file
from inpars.stages.generating import GenerateOptions, generate_queries, generator_maker
from inpars.stages.mining import TriplesOptions, write_triples
from inpars.stages.training import train_reranker_from_file, train_retriever_from_file
from inpars.topics import DEFAULT_SPLIT, Topics

SYNTHETIC, FILTERED = "queries.synthetic.jsonl", "queries.filtered.jsonl"
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

    Without judged queries, a share of the written ones is held out to measure by.
    """
    for name in {options.model, options.retriever, options.reranker} & set(EMBEDDED):
        EMBEDDED[name].locate()  # now, not after the stages before the one that needs it
    topics = dataset.topics(split) if dataset.splits else None
    if topics is not None:
        _check_judged(topics, dataset)
    _claim(output, dataset, asked)
    run = Surroundings(dataset, prompt, options, output, topics, progress, overwrite)
    manifests = {"generate": _generate(run), "filter": _filter(run)}
    held_out = _hold_out(run)
    topics, manifests["triples"] = held_out.topics, _mine(run, held_out.train)
    manifests["retriever"] = _train_retriever(run)
    if options.reranker_epochs:
        manifests["reranker"] = _train_reranker(run, manifests["triples"])
    judged = Judged()
    if topics is not None:
        topics = without_examples(topics.first(options.limit), prompt, progress)
        judged = judge(output, topics, all_runs(run, topics), metrics, progress=progress, overwrite=overwrite)
    report, verdict = output / "report.html", verdict_on(judged, BASE_FUSION, TUNED_FUSION + RERANKED, metrics[0])
    page = report_of(dataset, prompt, options, output, manifests, judged, metrics, asked, verdict)
    write_report(said_beside(page, held_out), report)
    results, differences = dict(judged.evaluations), dict(judged.differences)
    return Finished(results, differences, report, held_out.statement, verdict, judged.problems)


def _check_judged(topics: Topics, dataset: Dataset) -> None:
    """Say now, not after hours, that nothing can be measured."""
    judged = {doc_id: None for grades in topics.qrels.values() for doc_id in grades}
    if judged and not any(doc_id in dataset.corpus for doc_id in judged):
        problem = f"none of the {len(judged):,} judged documents is in the corpus, {next(iter(judged))!r} for instance"
        raise ConfigError(f"{dataset.name}: {problem}; give the judgements of these documents")


def _claim(folder: Path, dataset: Dataset, asked: Asked) -> None:
    """Mark the folder as this dataset's."""
    mark = folder / FOLDER_MARK
    if mark.exists():
        try:
            known = json.loads(mark.read_text(encoding="utf-8"))
            same = known["corpus_sha256"] == dataset.corpus.sha256
            same = same or (asked.documents and known.get("documents") == asked.documents)  # they may have changed
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise DataFormatError(f"not the mark of a run ({error}); remove it", path=mark) from None
        if not same:
            raise StaleInputError(
                f"{folder} holds a run of another dataset ({known.get('dataset')}), not of {dataset.name}; "
                "choose another --output or remove the folder"
            )
    write_mark(folder, dataset, asked)


def _generate(run: Surroundings) -> Manifest:
    own = run.options
    options = GenerateOptions(
        model=own.model,
        max_documents=own.max_documents,
        max_doc_tokens=own.max_doc_tokens,
        max_new_tokens=own.max_new_tokens,
        seed=own.seed,
        **own.clustered,
    )
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
    return hold_out_queries(queries, run.dataset, run.options, run.folder, run.told)


def _mine(run: Surroundings, queries: Path) -> Manifest:
    own = run.options
    options = TriplesOptions(
        ranks=own.ranks,
        per_query=own.per_query,
        positive_within=own.positive_within,
        seed=own.seed,
        threads=own.threads,
    )
    return write_triples(
        queries,
        run.dataset.corpus,
        run.dataset.corpus_stamp,
        options,
        output=run.path("triples.tsv"),
        **run.told,
    )


def _train_retriever(run: Surroundings) -> Manifest:
    from inpars.training.retriever import RetrieverOptions

    own = run.options
    options = RetrieverOptions(model=own.retriever, epochs=own.retriever_epochs, seed=own.seed, **own.computing)
    return train_retriever_from_file(
        run.path("triples.tsv"), options, output=run.path("models") / "retriever", **run.told
    )


def _train_reranker(run: Surroundings, triples: Manifest) -> Manifest:
    from inpars.training.reranker import RerankerOptions

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
    return train_reranker_from_file(
        run.path("triples.tsv"), options, output=run.path("models") / "reranker", prompt=run.shown, **run.told
    )
