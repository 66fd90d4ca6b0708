"""The stage that searches with a saved system: queries in, the TREC run of its fused and reranked stages out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from inpars.documents.datasets import Dataset
from inpars.errors import ConfigError
from inpars.fusion.system import BM25, SYSTEM_FILE, FirstStage, Reranking, SearchSystem
from inpars.io.formats import as_stored, write_run
from inpars.io.manifest import FileStamp, Manifest, stamp
from inpars.io.runs import cut
from inpars.io.topics import Topics
from inpars.models.compute_options import ComputingOptions
from inpars.options import option
from inpars.progress import Progress
from inpars.records import Query, Run
from inpars.rerankers.rerank import apply_scores
from inpars.retrieval.bm25 import bm25_index
from inpars.stages.partial import remove_partial
from inpars.stages.rerank import RerankOptions, run_scorer_maker, score_top
from inpars.stages.search import SearchOptions, load_retriever, retrieve
from inpars.stages.stage import Outcome, Running, Stage, model_stamp
from inpars.stages.workers import Bm25Options

if TYPE_CHECKING:
    from inpars.retrieval.retrievers import Retriever

STAGE = "search system"
TAG = "measured"


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemSearchOptions(ComputingOptions):
    """Numbers of queries and results; the system determines the rest."""

    k: int = option(1000, help="documents per query", minimum=1)
    limit: int | None = option(None, help="use only the first N queries, for a quick try", minimum=1)
    batch_size: int = option(
        64, help="texts per batch; a bi-encoder on a processor reads at most 16", changes_result=False, minimum=1
    )


def search_system(
    system: SearchSystem,
    folder: Path,
    dataset: Dataset,
    topics: Topics,
    options: SystemSearchOptions,
    *,
    output: Path,
    **running: Unpack[Running],
) -> Manifest:
    """Write the run of the queries with the folder's system.

    Scores of interrupted rerankings stay in `<output>.late.partial` and `<output>.partial`.
    """
    inputs = _inputs(system, folder) | {"corpus": dataset.corpus_stamp, "queries": topics.query_stamp}
    stage = Stage(STAGE, options, output, inputs, **running)

    def work() -> Outcome:
        queries = topics.as_queries()[: options.limit]
        if not queries:
            raise ConfigError(f"{dataset.name}: there are no queries to search with")
        load = _sharing_loader()
        runs = {
            first.name: _retrieved(first, system, dataset, queries, options, load, stage.progress)
            for first in system.stages
        }
        coverage = None
        if system.gate:
            bm25 = Bm25Options(k1=system.k1, b=system.b, language=system.language).bm25
            index = bm25_index(dataset.corpus, **bm25, threads=options.threads, progress=stage.progress)
            coverage = index.coverage()
        texts = {query.query_id: query.text for query in queries}
        shares = system.shares(texts, runs, coverage, lambda doc_id: dataset.corpus[doc_id].full_text)
        late_scores = replace(stage.partial, path=stage.partial.path.with_name(f"{output.name}.late.partial"))

        def score(reranking: Reranking, run: Run) -> Run:
            scorer = RerankOptions(**reranking.scorer, depth=reranking.depth, **options.computing)
            scoring = dataset.corpus, topics.queries, reranking.depth, run_scorer_maker(scorer, reranking.prompt)
            partial = late_scores if reranking is system.late_interaction else stage.partial
            return apply_scores(run, score_top(run, run, *scoring, partial), depth=reranking.depth)

        run = system.rerank(system.fuse(runs, system.fused(options.k), shares), score, shares)
        remove_partial(late_scores.path)
        count = write_run(output, cut(run, options.k), TAG)
        return Outcome(count, {}, {"queries": len(queries), "without_results": len(queries) - len(run)})

    return stage.run(work)


def _inputs(system: SearchSystem, folder: Path) -> dict[str, FileStamp]:
    models = {f"retriever {stage.name}": stage.retriever for stage in system.stages if stage.retriever != BM25}
    if system.late_interaction is not None:
        models["late interaction"] = system.late_interaction.model
    if system.reranking is not None:
        models["reranker"] = system.reranking.model
        if system.reranking.window_retriever is not None:
            models["window retriever"] = system.reranking.window_retriever
    return {"system": stamp(folder / SYSTEM_FILE), **{name: model_stamp(model) for name, model in models.items()}}


def _retrieved(
    stage: FirstStage,
    system: SearchSystem,
    dataset: Dataset,
    queries: Sequence[Query],
    options: SystemSearchOptions,
    load: Callable[[str, SearchOptions], Retriever],
    progress: Progress,
) -> Run:
    settings = SearchOptions(
        retriever=(stage.retriever,),
        k=system.retrieved(options.k),
        k1=system.k1,
        b=system.b,
        language=system.language,
        window_tokens=stage.window_tokens,
        batch_size=options.batch_size,
        **options.computing,
    )
    run: Run = {}
    for block in retrieve(dataset.corpus, queries, settings, load=load, progress=progress):
        run |= block
    return as_stored(run)


def _sharing_loader() -> Callable[[str, SearchOptions], Retriever]:
    """A function that loads each retriever once, even for stages with different windows."""
    loaded: dict[str, Retriever] = {}

    def load(name: str, options: SearchOptions) -> Retriever:
        if name not in loaded:
            loaded[name] = load_retriever(name, replace(options, window_tokens=None))
        retriever: Retriever = loaded[name].reading(options.window_tokens)
        return retriever

    return load
