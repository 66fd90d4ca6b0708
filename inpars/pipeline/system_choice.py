"""Choose the search system that a run ships, by judged dev queries or synthetic ones, and write `system.json`.

The only known answer to a synthetic query is its document. Test queries are not used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any

from inpars.documents.selection import choose_documents
from inpars.errors import UntrainedModelError
from inpars.fusion.gate import LATE_INTERACTION_ODDS, LIKELIHOOD_ODDS, PRIOR, reranker_weight
from inpars.fusion.stage_choice import TUNED, VIEW, choose_reranking
from inpars.fusion.system import BM25, FirstStage, Reranking, SearchSystem, write_system
from inpars.io.formats import read_run, read_synthetic_queries, write_run
from inpars.io.manifest import Manifest, stamp
from inpars.io.storage import write_json
from inpars.io.topics import Topics
from inpars.models.retrievers import MULTI_VECTOR, averages_token_states
from inpars.pipeline.choice import JUDGED, WRITTEN, ChoiceEvidence, choice_of, lines_about, read_lists
from inpars.pipeline.evidence import UNLABELLED
from inpars.pipeline.measurement import CHOICE_TOPICS, keep_topics
from inpars.pipeline.options import PipelineOptions
from inpars.pipeline.system_runs import FUSION_DEPTH, RunContext, search_stage
from inpars.pipeline.trainings import learning_curve
from inpars.records import Run
from inpars.rerankers.rerank import rescored
from inpars.retrieval.bm25 import DEFAULT_LANGUAGE, bm25_index
from inpars.stages.rerank import RerankOptions, load_run_scorer, rerank_file, run_scorer_maker
from inpars.stages.search import SearchOptions, load_encoder
from inpars.stages.stage import Outcome, Stage

FOLDER, CHOICE, RERANKING = "choice", "choice.json", "reranking.json"
# Least share of the documents' tokens within the encoder's input limit. MaxSim gains with .67 (nfcorpus) and costs .10
# nDCG@10 with .18 (whole articles); nothing was measured in between.
MIN_SHARE_READ = 0.6
SAMPLED_DOCUMENTS = 512
MAX_QUERIES = 300  # queries to choose by
SPLIT = "choice"


def choose_system(run: RunContext, queries: Path, done: Mapping[str, Manifest]) -> tuple[SearchSystem, Manifest]:
    """Choose by judged dev queries, else by these generated ones, and write `system.json`.

    `done` are the manifests of the trainings.
    """
    run.progress.begin("choose")
    evidence = run.evidence
    topics = _topics(run, queries)
    stages = first_stages(run, tuned="retriever" in done)
    paths = {
        stage.name: search_stage(run, topics, f"{FOLDER}/{stage.name}", stage, k=FUSION_DEPTH, shown=False)
        for stage in stages
    }
    real = _real_queries(run, stages)
    output = run.path(FOLDER) / CHOICE

    def work() -> Outcome:
        choice_evidence = ChoiceEvidence(
            topics=topics,
            runs=read_lists(paths),
            judged=evidence.judged is not None,
            unlabelled=evidence.unlabelled,
            unlabelled_runs=read_lists(real),
            match=evidence.match,
        )
        values = choice_of(run.dataset.corpus, choice_evidence, run.options.bm25, threads=run.options.threads)
        if offers_late_interaction(run):
            values["share_read"] = _share_read(run)
        write_json(output, values)
        for line in lines_about(values):
            run.progress.note(line)
        return Outcome(values["queries"], {}, values)

    inputs = {"queries": topics.stamp, **{name: stamp(path) for name, path in paths.items()}}
    inputs |= {f"{UNLABELLED} {name}": stamp(path) for name, path in real.items()}
    by = WRITTEN if evidence.judged is None else JUDGED
    settings: dict[str, Any] = {"depth": FUSION_DEPTH, "prior": repr(PRIOR), "by": by, "match": evidence.match}
    if offers_late_interaction(run):
        settings["late_interaction"] = True
    if run.options.language != DEFAULT_LANGUAGE:
        settings["language"] = run.options.language
    manifest = Stage("choose", settings, output, inputs, **run.stage_kwargs).run(work)
    if run.options.learning_curve and "retriever" in done:
        learning_curve(run, topics, paths, done["triples"])
    chosen = manifest.results["stages"]
    system = SearchSystem(
        stages=tuple(stage for stage in stages if stage.name in (BM25, *chosen)),
        gate=PRIOR.moved(manifest.results["gate"]["offset"]),
        fusion_depth=FUSION_DEPTH,
        **run.options.bm25,
    )
    system = replace(system, late_interaction=late_interaction_of(run, manifest.results.get("share_read")))
    reranking = reranking_of(run, trained="reranker" in done)
    if reranking is not None and evidence.judged is not None:
        reranking = _judged_reranking(run, system, reranking, topics, paths)
    system = replace(system, reranking=reranking)
    write_system(system, run.folder)
    return system, manifest


def _judged_reranking(
    run: RunContext, system: SearchSystem, start: Reranking, topics: Topics, paths: Mapping[str, Path]
) -> Reranking | None:
    """The reranker with the best weight and depth on judged queries; None if they choose weight 0."""
    mix, scored = (run.path(FOLDER) / name for name in ("mix.trec", "mix.scored.trec"))
    output = run.path(FOLDER) / RERANKING

    def shares() -> dict[str, float] | None:
        corpus = run.dataset.corpus
        coverage = bm25_index(corpus, **run.options.bm25, threads=run.options.threads).coverage()
        return system.shares(topics.queries, read_lists(paths), coverage, lambda doc_id: corpus[doc_id].full_text)

    def score(late_interaction: Reranking, run_to_score: Run) -> Run:
        scorer = load_run_scorer(RerankOptions(**late_interaction.scorer, **run.options.computing))
        return rescored(run_to_score, topics.queries, run.dataset.corpus, scorer, late_interaction.depth)

    def fuse() -> Outcome:
        query_shares = shares()
        fused = system.fuse(read_lists(paths), FUSION_DEPTH, query_shares)
        return Outcome(write_run(mix, system.rerank(fused, score, query_shares), "mix"))

    inputs = {"choice": stamp(run.path(FOLDER) / CHOICE), **{name: stamp(path) for name, path in paths.items()}}
    late_interaction = None if system.late_interaction is None else asdict(system.late_interaction)
    settings = {"depth": FUSION_DEPTH, **({"late_interaction": late_interaction} if late_interaction else {})}
    Stage("choice mix", settings, mix, inputs, **run.stage_kwargs).run(fuse)
    options = RerankOptions(**start.scorer, depth=start.depth, **run.options.computing)
    maker = run_scorer_maker(options, start.prompt)
    rerank_file(
        mix, run.dataset, topics, options, output=scored, make_scorer=maker, prompt=start.prompt, **run.stage_kwargs
    )

    def weights() -> dict[str, float] | None:
        query_shares = shares()
        if start.odds is None or query_shares is None:
            return None
        return {query_id: reranker_weight(start.odds, share) for query_id, share in query_shares.items()}

    def work() -> Outcome:
        weight, depth, trials = choose_reranking(
            *(read_run(mix), read_run(scored), topics.qrels),
            weight=start.weight,
            depth=start.depth,
            weights=weights(),
        )
        values = {"weight": weight, "depth": depth, "trials": [asdict(trial) for trial in trials]}
        write_json(output, values)
        description = "a weight by the gate" if weight is None else f"weight {weight:g}"
        run.progress.note(f"reranked with {description} to depth {depth}, by {len(topics.queries)} judged queries")
        return Outcome(len(topics.queries), {}, values)

    chosen_by = {"weight": start.weight, "odds": start.odds, "depth": start.depth}
    inputs = {"mix": stamp(mix), "scores": stamp(scored), "queries": topics.stamp}
    chosen = Stage("choose reranking", chosen_by, output, inputs, **run.stage_kwargs).run(work).results
    if chosen["weight"] is None:
        return replace(start, depth=chosen["depth"])
    if not chosen["weight"]:
        return None
    return replace(start, weight=chosen["weight"], odds=None, depth=chosen["depth"])


def _real_queries(run: RunContext, stages: Sequence[FirstStage]) -> dict[str, Path]:
    """The runs of BM25 and the first bi-encoder for the unjudged real queries, empty if there are none."""
    topics = run.evidence.unlabelled
    if topics is None:
        return {}
    keep_topics(run.path(f"{FOLDER}/{UNLABELLED}/topics"), topics, **run.stage_kwargs)
    return {
        stage.name: search_stage(run, topics, f"{FOLDER}/{UNLABELLED}/{stage.name}", stage, k=FUSION_DEPTH, shown=False)
        for stage in stages[:2]
    }


def lexical_system(run: RunContext, done: Mapping[str, Manifest]) -> SearchSystem:
    """BM25 with the reranker, if there is one, written to `system.json`."""
    system = SearchSystem(
        stages=(FirstStage(name=BM25, retriever=BM25),),
        reranking=reranking_of(run, trained="reranker" in done),
        **run.options.bm25,
    )
    write_system(system, run.folder)
    return system


def first_stages(run: RunContext, *, tuned: bool) -> tuple[FirstStage, ...]:
    """BM25, the bi-encoder over whole documents and over windows, the tuned one if trained, and further views."""
    options, windows = run.options, run.options.window_tokens or None
    return (
        FirstStage(name=BM25, retriever=BM25),
        FirstStage(name="whole", retriever=options.retriever),
        *([FirstStage(name="base", retriever=options.retriever, window_tokens=windows)] if windows else []),
        *([FirstStage(name=TUNED, retriever=str(run.tuned), window_tokens=windows)] if tuned else []),
        *(FirstStage(name=f"{VIEW}-{number}", retriever=name) for number, name in enumerate(options.view, start=1)),
    )


def offers_late_interaction(run: RunContext) -> bool:
    """Whether late interaction is on and the bi-encoder averages its token states."""
    return bool(run.options.late_interaction_depth) and averages_token_states(run.options.retriever)


def _share_read(run: RunContext) -> float:
    """The share of a document sample's tokens that the bi-encoder reads."""
    options = run.options
    encoder = load_encoder(options.retriever, SearchOptions(retriever=(options.retriever,), **options.computing))
    sample = choose_documents(run.dataset.corpus, maximum=SAMPLED_DOCUMENTS, seed=options.seed).documents
    return round(encoder.share_read([document.full_text for document in sample]), 3)


def late_interaction_of(run: RunContext, share_read: float | None) -> Reranking | None:
    """MaxSim over the untrained bi-encoder's token states; None, with a note, if it reads too little."""
    options = run.options
    if share_read is None:
        return None
    if share_read < MIN_SHARE_READ:
        run.progress.note(
            f"no late interaction: {options.retriever} reads {share_read:.0%} of the documents' tokens, less than "
            f"{MIN_SHARE_READ:.0%}; cut documents to passages with `inpars ingest`"
        )
        return None
    return Reranking(
        model=options.retriever, kind=MULTI_VECTOR, odds=LATE_INTERACTION_ODDS, depth=options.late_interaction_depth
    )


def reranking_of(run: RunContext, *, trained: bool) -> Reranking | None:
    """The trained reranker, else the initial one, a query likelihood with the run's prompt unless it has its own.

    None if the depth is 0 or, with a note, if the initial model needs training to rerank.
    """
    options = run.options
    if not options.rerank_depth:
        return None
    try:
        is_likelihood = not trained and _kind(options) == "query-likelihood"
    except UntrainedModelError as problem:
        run.progress.note(f"nothing is reranked: {problem}")
        return None
    windows: dict[str, Any] = {}
    if options.window_tokens and options.retriever != BM25:
        windows = {"window_retriever": options.retriever, "window_tokens": options.window_tokens}
    return Reranking(
        model=str(run.path("models") / "reranker") if trained else options.reranker,
        kind="auto" if trained else options.reranker_kind,
        odds=LIKELIHOOD_ODDS if is_likelihood else None,
        depth=options.rerank_depth,
        max_length=None if trained else options.reranker_max_length,
        prompt=None if trained else run.reranker_prompt,
        **windows,
    )


def _kind(options: PipelineOptions) -> str:
    """The kind of the initial reranker. Raises UntrainedModelError if it cannot score pairs."""
    from inpars.rerankers.load import check_trained  # torch

    return check_trained(options.reranker, kind=options.reranker_kind, trust_remote_code=options.trust_remote_code)


def _topics(run: RunContext, queries: Path) -> Topics:
    """The judged queries, else the first kept generated ones with their documents as relevant; stored in a folder."""
    topics = run.evidence.judged
    if topics is None:
        kept = list(islice(read_synthetic_queries(queries), MAX_QUERIES))
        texts = {query.query_id: query.text for query in kept}
        topics = Topics(SPLIT, texts, {query.query_id: {query.doc_id: 1} for query in kept})
    keep_topics(run.path(CHOICE_TOPICS), topics, **run.stage_kwargs)
    return topics
