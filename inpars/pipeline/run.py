"""The whole of it: from a corpus to tuned models and an honest comparison, in one folder.

Every step is a stage with its own manifest, so that a second run redoes only what its changed settings touch.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inpars.datasets import Dataset
from inpars.errors import DataFormatError, StaleInputError
from inpars.evaluation.measures import DEFAULT_METRICS, Evaluation
from inpars.evaluation.significance import Difference
from inpars.formats import read_run, write_run
from inpars.manifest import Manifest, stamp
from inpars.models.embedded import EMBEDDED
from inpars.options import option
from inpars.pipeline.held_out import HeldOut, hold_out_queries, said_beside
from inpars.pipeline.judging import Judged, judge, verdict_on
from inpars.pipeline.options import PipelineOptions
from inpars.pipeline.reranking import rerank_pool
from inpars.pipeline.results import FOLDER_MARK, Asked, report_of, write_mark
from inpars.progress import SILENT, Progress
from inpars.prompting.templates import Prompt, PromptSource
from inpars.records import Run
from inpars.reports.report import write_report
from inpars.runs import cut, fuse_z_scores
from inpars.stages.examples import without_examples
from inpars.stages.filtering import filter_file
from inpars.stages.generating import GenerateOptions, generate_queries, generator_maker
from inpars.stages.mining import TriplesOptions, write_triples
from inpars.stages.reranking import RerankOptions, run_scorer_maker
from inpars.stages.retrieving import BM25, SearchOptions, search_dataset
from inpars.stages.stage import Outcome, run_stage
from inpars.stages.training import train_reranker_from_file, train_retriever_from_file
from inpars.topics import DEFAULT_SPLIT, Topics

SYNTHETIC, FILTERED = "queries.synthetic.jsonl", "queries.filtered.jsonl"
FUSION_DEPTH = 100
BASE_FUSION, TUNED, TUNED_FUSION = "fusion", "tuned", "tuned fusion"
RERANKED = " + reranker"
RERANKER_BATCH = 8  # queries a step of the reranker's training
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


@dataclass(frozen=True, slots=True)
class _Run:
    """One run's surroundings."""

    dataset: Dataset
    prompt: PromptSource
    options: PipelineOptions
    folder: Path
    topics: Topics | None
    progress: Progress
    overwrite: bool

    def path(self, name: str) -> Path:
        return self.folder / name

    @property
    def told(self) -> dict[str, Any]:
        """What every stage is told."""
        return {"progress": self.progress, "overwrite": self.overwrite}


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
    _claim(output, dataset, asked)
    topics = dataset.topics(split) if dataset.splits else None
    run = _Run(dataset, prompt, options, output, topics, progress, overwrite)
    manifests = {"generate": _generate(run), "filter": _filter(run)}
    held_out = _hold_out(run)
    topics, manifests["triples"] = held_out.topics, _mine(run, held_out.train)
    manifests["retriever"] = _train_retriever(run)
    if options.reranker_epochs:
        manifests["reranker"] = _train_reranker(run, manifests["triples"])
    judged = Judged()
    if topics is not None:
        topics = without_examples(topics.first(options.limit), prompt, progress)
        judged = judge(output, topics, _retrieve(run, topics), metrics, progress=progress, overwrite=overwrite)
    report, verdict = output / "report.html", verdict_on(judged, BASE_FUSION, TUNED_FUSION + RERANKED, metrics[0])
    page = report_of(dataset, prompt, options, output, manifests, judged, metrics, asked, verdict)
    write_report(said_beside(page, held_out), report)
    return Finished(dict(judged.evaluations), dict(judged.differences), report, held_out.statement, verdict)


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


def _generate(run: _Run) -> Manifest:
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


def _filter(run: _Run) -> Manifest:
    return filter_file(
        run.path(SYNTHETIC),
        run.options.filtering,
        output=run.path(FILTERED),
        example_queries=[example.query for example in run.prompt.examples],
        own_queries=list(run.topics.queries.values()) if run.topics is not None else (),
        **run.told,
    )


def _hold_out(run: _Run) -> HeldOut:
    """What is trained on and measured by: judged queries where there are some."""
    queries = run.path(FILTERED)
    if run.topics is not None or not run.options.dev_share:
        return HeldOut(queries, run.topics, "")
    return hold_out_queries(queries, run.dataset, run.options, run.folder, run.told)


def _mine(run: _Run, queries: Path) -> Manifest:
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


def _train_retriever(run: _Run) -> Manifest:
    from inpars.training.retriever import RetrieverOptions

    own = run.options
    options = RetrieverOptions(model=own.retriever, epochs=own.retriever_epochs, seed=own.seed, **own.computing)
    return train_retriever_from_file(
        run.path("triples.tsv"), options, output=run.path("models") / "retriever", **run.told
    )


def _train_reranker(run: _Run, triples: Manifest) -> Manifest:
    from inpars.training.reranker import RerankerOptions

    own = run.options
    batches = (triples.output.records or 0) / own.per_query / RERANKER_BATCH
    limit = own.reranker_steps or (STEPS_OF_THE_AUTHOR if own.reranker == own.model else math.inf)
    options = RerankerOptions(
        model=own.reranker,
        kind=own.reranker_kind,
        batch_size=RERANKER_BATCH,
        max_steps=max(1, math.ceil(min(own.reranker_epochs * batches, limit))),
        max_length=own.reranker_max_length,
        seed=own.seed,
        **own.computing,
    )
    return train_reranker_from_file(
        run.path("triples.tsv"), options, output=run.path("models") / "reranker", prompt=_shown(run), **run.told
    )


def _retrieve(run: _Run, topics: Topics) -> dict[str, Path]:
    """The runs of all systems by name, in the order of the table."""
    own = run.options
    tuned = str(run.path("models") / "retriever")
    paths = {
        "bm25": _search(run, topics, "bm25", BM25),
        own.retriever: _search(run, topics, "base", own.retriever),
    }
    paths[BASE_FUSION] = _fuse(run, "fusion", [paths["bm25"], paths[own.retriever]])
    paths[TUNED] = _search(run, topics, "tuned", tuned)
    paths[TUNED_FUSION] = _fuse(run, "tuned-fusion", [paths["bm25"], paths[TUNED]])
    return paths | _rerank(run, topics, paths)


def _search(run: _Run, topics: Topics, name: str, retriever: str) -> Path:
    own = run.options
    options = SearchOptions(
        retriever=(retriever,),
        k=own.k,
        window_tokens=None if retriever == BM25 else own.window_tokens or None,
        **own.clustered,
    )
    output = run.path("runs") / f"{name}.trec"
    search_dataset(run.dataset, topics, options, output=output, **run.told)
    return output


@dataclass(frozen=True, slots=True)
class _FusionOptions:
    depth: int = option(FUSION_DEPTH, help="documents of each run that the fusion reads")
    k: int = option(FUSION_DEPTH, help="documents a query that it keeps")


def _fuse(run: _Run, name: str, sources: Sequence[Path]) -> Path:
    output, options = run.path("runs") / f"{name}.trec", _FusionOptions(FUSION_DEPTH, run.options.k)

    def work() -> Outcome:
        runs: list[Run] = [cut(read_run(source), options.depth) for source in sources]
        return Outcome(write_run(output, fuse_z_scores(runs, options.k), name))

    inputs = {source.name: stamp(source) for source in sources}
    run_stage("fuse", options, output=output, inputs=inputs, work=work, **run.told)
    return output


def _rerank(run: _Run, topics: Topics, paths: Mapping[str, Path]) -> dict[str, Path]:
    own, trained = run.options, run.path("models") / "reranker"
    options = RerankOptions(
        model=str(trained) if own.reranker_epochs else own.reranker,
        kind="auto" if own.reranker_epochs else own.reranker_kind,
        depth=own.rerank_depth,
        max_length=None if own.reranker_epochs else own.reranker_max_length,
        windows="nearest" if own.window_tokens else None,
        window_retriever=own.retriever if own.window_tokens else None,
        window_tokens=own.window_tokens or None,
        **own.clustered,
    )
    prompt = None if own.reranker_epochs else _shown(run)
    reranked = rerank_pool(
        {name: paths[name] for name in ("bm25", BASE_FUSION, TUNED_FUSION)},
        run.dataset,
        topics,
        options,
        make_scorer=run_scorer_maker(options, prompt),
        prompt=prompt,
        told=run.told,
    )
    return {name + RERANKED: path for name, path in reranked.items()}


def _shown(run: _Run) -> Prompt | None:
    """The examples that a query likelihood is shown: the prompt's, where all documents have the same."""
    return run.prompt if isinstance(run.prompt, Prompt) else None
