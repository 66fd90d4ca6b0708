"""Recomputes the system that a run chose, and its results, from the first stages' runs in the folder.

`inpars.contrib.verify.scores` recomputes the first stages.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from inpars.contrib.verify.samples import NO_CORPUS, Recomputation, computing_of, number_of, score_differences
from inpars.errors import StaleInputError
from inpars.fusion.system import BM25, SearchSystem, read_system
from inpars.io.formats import read_run
from inpars.io.json_text import parse_json
from inpars.io.manifest import Manifest
from inpars.io.runs import cut, rank
from inpars.io.topics import Topics
from inpars.pipeline.choice import choice_of, evidenced
from inpars.pipeline.folder import topics_of
from inpars.records import Run, ScoredDocument
from inpars.rerankers.rerank import apply_scores
from inpars.retrieval.bm25 import bm25_index
from inpars.stages.rerank import RerankOptions, load_run_scorer
from inpars.stages.system_search import as_stored


def system_searched(recomputed: Recomputation, output: str, manifest: Manifest) -> str | None:
    """The fused and reranked scores of sampled queries; a reason where they cannot be made."""
    if recomputed.dataset is None:
        return NO_CORPUS
    system, k = read_system(recomputed.run.path), number_of(manifest, "k")
    if "reranker" not in manifest.inputs:
        system = replace(system, reranking=None)
    paths = {stage.name: Path(output).with_name(f"{stage.name}.trec").as_posix() for stage in system.stages}
    known = [recomputed.run.manifests.get(path) for path in paths.values()]
    if not all(differences and number_of(differences, "k") >= system.retrieved(k) for differences in known):
        return f"the runs of its stages in the folder hold fewer than the {system.retrieved(k)} documents that it reads"
    written, queries = read_run(recomputed.run.path / output), recomputed.run.queries(topics_of(output))
    texts = {query_id: queries[query_id] for query_id in recomputed.sampled(q for q in written if q in queries)}
    runs = {
        name: {
            query_id: scores for query_id, scores in read_run(recomputed.run.path / path).items() if query_id in texts
        }
        for name, path in paths.items()
    }
    corpus = recomputed.dataset.corpus
    coverage = None
    if system.gate is not None:
        index = bm25_index(
            corpus, k1=system.k1, b=system.b, language=system.language, threads=recomputed.options.threads
        )
        coverage = index.coverage()
    shares = system.shares(texts, runs, coverage, lambda doc_id: corpus[doc_id].full_text)
    recomputed_run = as_stored(system.fuse(runs, system.fused(k), shares))
    if system.reranking is None:
        recomputed.hold("fused scores", output, score_differences(cut(recomputed_run, k), written, list(texts)))
        return None
    computing = computing_of(recomputed.options, manifest)
    recomputed_run = _reranked(
        recomputed, system, recomputed_run, texts, shares, RerankOptions(**system.reranking.scorer, **computing)
    )
    differences = score_differences(cut(recomputed_run, k), written, list(texts))
    recomputed.hold("reranked scores", output, differences, rough=computing["dtype"] != "float32")
    return None


def chosen_again(recomputed: Recomputation, output: str, manifest: Manifest) -> str | None:
    """The gate's offset by the queries and runs beside it; a reason where it cannot be chosen."""
    if recomputed.dataset is None:
        return NO_CORPUS
    topics = topics_of(output)
    if BM25 not in manifest.inputs:
        raise StaleInputError(f"{output}: its manifest names no run of BM25; run the same `inpars run` again")
    queries = Topics(topics, recomputed.run.queries(topics), recomputed.run.qrels(topics))
    folder = (recomputed.run.path / output).parent
    evidence = evidenced(queries, folder, list(manifest.inputs), manifest.arguments)
    choice = choice_of(recomputed.dataset.corpus, evidence, threads=recomputed.options.threads)
    stored = parse_json((recomputed.run.path / output).read_bytes())["gate"]["offset"]
    gate = read_system(recomputed.run.path).gate
    offsets = {"choice.json": stored, "system.json": float("nan") if gate is None else gate.offset}
    recomputed.hold("choices", output, {name: abs(value - choice["gate"]["offset"]) for name, value in offsets.items()})
    return None


def _reranked(
    recomputed: Recomputation,
    system: SearchSystem,
    run: Run,
    texts: dict[str, str],
    shares: dict[str, float] | None,
    options: RerankOptions,
) -> Run:
    if recomputed.dataset is None or system.reranking is None:
        return run
    depth, corpus = system.reranking.depth, recomputed.dataset.corpus
    pairs = [(query_id, doc_id) for query_id, scores in run.items() for doc_id, _ in rank(scores, depth)]
    documents = corpus.texts(doc_id for _, doc_id in pairs)
    scorer = load_run_scorer(options, system.reranking.prompt)
    scores = scorer.score([(texts[query_id], text) for (query_id, _), text in zip(pairs, documents, strict=True)])
    scored = [ScoredDocument(*pair, score) for pair, score in zip(pairs, scores, strict=True)]
    return system.rerank(run, as_stored(apply_scores(run, scored, depth=depth)), shares)
