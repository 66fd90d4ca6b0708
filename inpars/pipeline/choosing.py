"""Which search system a whole run ships: chosen by queries that it wrote, and written to `system.json`.

Each of them has one document that is known to answer it. Judged test queries have no part in this.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from inpars.corpus import Corpus
from inpars.errors import UntrainedModelError
from inpars.formats import read_run, read_synthetic_queries
from inpars.fusion.choice import Choice, choose
from inpars.fusion.gate import PRIOR, findings
from inpars.fusion.system import BM25, FirstStage, Reranking, SearchSystem, write_system
from inpars.manifest import Manifest, stamp
from inpars.options import option
from inpars.pipeline.judging import CHOICE_TOPICS, keep_topics
from inpars.pipeline.options import PipelineOptions
from inpars.pipeline.retrieving import FUSION_DEPTH, Surroundings, search_stage
from inpars.records import Run
from inpars.retrieval.bm25 import DEFAULT_B, DEFAULT_K1, DEFAULT_LANGUAGE, bm25_index
from inpars.runs import cut
from inpars.stages.stage import Outcome, run_stage
from inpars.storage import atomic_writer
from inpars.topics import Topics

FOLDER, CHOICE = "choice", "choice.json"
MOST_QUERIES = 300  # that the choice is made by
SPLIT = "choice"


@dataclass(frozen=True, slots=True)
class _ChoiceOptions:
    depth: int = option(help="documents of each stage that are fused")
    prior: str = option(help="the gate before the collection's own queries move it")


def choose_system(run: Surroundings, queries: Path, done: Mapping[str, Manifest]) -> tuple[SearchSystem, Manifest]:
    """Choose by these written queries, and write `system.json`; `done` are the trainings' manifests."""
    run.progress.begin("choose")
    topics = _topics(run, queries)
    stages = first_stages(run, tuned="retriever" in done)
    paths = {
        stage.name: search_stage(run, topics, f"{FOLDER}/{stage.name}", stage, k=FUSION_DEPTH, shown=False)
        for stage in stages
    }
    output = run.path(FOLDER) / CHOICE

    def work() -> Outcome:
        runs = {name: cut(read_run(path), FUSION_DEPTH) for name, path in paths.items()}
        choice = choice_of(run.dataset.corpus, topics, runs, threads=run.options.threads)
        with atomic_writer(output) as stream:
            json.dump(asdict(choice), stream, indent=1)
            stream.write("\n")
        return Outcome(choice.queries, {}, asdict(choice))

    inputs = {"queries": topics.stamp, **{name: stamp(path) for name, path in paths.items()}}
    options = _ChoiceOptions(FUSION_DEPTH, repr(PRIOR))
    manifest = run_stage("choose", options, output=output, inputs=inputs, work=work, **run.told)
    system = SearchSystem(
        stages=stages,
        gate=PRIOR.moved(manifest.results["gate"]["offset"]),
        reranking=reranking_of(run, trained="reranker" in done),
        fusion_depth=FUSION_DEPTH,
        k1=DEFAULT_K1,
        b=DEFAULT_B,
        language=DEFAULT_LANGUAGE,
    )
    write_system(system, run.folder)
    return system, manifest


def lexical_system(run: Surroundings, done: Mapping[str, Manifest]) -> SearchSystem:
    """BM25 alone, reranked where something reranks, written to `system.json`; there is nothing to choose."""
    system = SearchSystem(
        stages=(FirstStage(name=BM25, retriever=BM25),),
        reranking=reranking_of(run, trained="reranker" in done),
        k1=DEFAULT_K1,
        b=DEFAULT_B,
        language=DEFAULT_LANGUAGE,
    )
    write_system(system, run.folder)
    return system


def first_stages(run: Surroundings, *, tuned: bool) -> tuple[FirstStage, ...]:
    """BM25, the bi-encoder over whole documents and over windows, and the tuned one where there is one."""
    own, windows = run.options, run.options.window_tokens or None
    found = [
        FirstStage(name=BM25, retriever=BM25),
        FirstStage(name="whole", retriever=own.retriever),
        *([FirstStage(name="base", retriever=own.retriever, window_tokens=windows)] if windows else []),
        *([FirstStage(name="tuned", retriever=str(run.tuned), window_tokens=windows)] if tuned else []),
    ]
    return tuple(found)


def reranking_of(run: Surroundings, *, trained: bool) -> Reranking | None:
    """The reranker: the trained one, else the one to start from, shown the prompt's examples.

    None where the depth is 0, or, with a note, where that is no reranker yet and was not made one.
    """
    own = run.options
    if not own.rerank_depth:
        return None
    if not trained and (problem := _untrained(run)) is not None:
        run.progress.note(f"nothing is reranked: {problem}")
        return None
    windows = {"window_retriever": own.retriever, "window_tokens": own.window_tokens} if _in_windows(own) else {}
    return Reranking(
        model=str(run.path("models") / "reranker") if trained else own.reranker,
        kind="auto" if trained else own.reranker_kind,
        depth=own.rerank_depth,
        max_length=None if trained else own.reranker_max_length,
        prompt=None if trained else run.shown,
        **windows,  # type: ignore[arg-type]
    )


def _in_windows(own: PipelineOptions) -> bool:
    return bool(own.window_tokens) and own.retriever != BM25


def _untrained(run: Surroundings) -> UntrainedModelError | None:
    """Why the model to start from cannot score pairs."""
    from inpars.scoring.loading import check_trained  # torch

    own = run.options
    try:
        check_trained(own.reranker, kind=own.reranker_kind, trust_remote_code=own.trust_remote_code)
    except UntrainedModelError as error:
        return error
    return None


def _topics(run: Surroundings, queries: Path) -> Topics:
    """The first of the kept queries, with their documents as the answers; they are kept in a folder."""
    kept = [query for query, _ in zip(read_synthetic_queries(queries), range(MOST_QUERIES), strict=False)]
    texts = {query.query_id: query.text for query in kept}
    topics = Topics(SPLIT, texts, {query.query_id: {query.doc_id: 1} for query in kept})
    keep_topics(run.path(CHOICE_TOPICS), topics, **run.told)
    return topics


def choice_of(corpus: Corpus, topics: Topics, runs: Mapping[str, Run], *, threads: int | None = None) -> Choice:
    """The choice by these queries and the runs of the first stages, BM25's among them."""
    coverage = bm25_index(corpus, threads=threads).coverage()
    lexical, dense = runs[BM25], [run for name, run in runs.items() if name != BM25]
    found = findings(topics.queries, lexical, dense[0], coverage, lambda doc_id: corpus[doc_id].full_text)
    return choose(PRIOR, found, lexical, dense, topics.qrels, FUSION_DEPTH)
