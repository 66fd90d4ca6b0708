"""Recomputes a sample of a run's scores and compares them with its files.

Log-probabilities by a teacher-forced pass, rerankers' and retrievers' scores by their models, fusions and measures from
the runs they come from. What cannot be done here is said: another prompt, an absent model, no corpus. Numbers of
bfloat16 depend a little on what else is in a batch and on the processor, those of float32 hardly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import partial
from typing import Any

import numpy as np

from inpars.contrib.verify.run import VerifyFindings, known_prompt
from inpars.contrib.verify.samples import (
    NO_CORPUS,
    Recomputation,
    VerifyOptions,
    computing_of,
    number_of,
    score_differences,
)
from inpars.contrib.verify.system import chosen_again, system_searched
from inpars.documents.datasets import Dataset
from inpars.errors import InparsError
from inpars.evaluation.measures import evaluate
from inpars.fusion.system import BM25
from inpars.io.corpus import Corpus
from inpars.io.formats import read_run, read_synthetic_records
from inpars.io.manifest import Manifest
from inpars.io.runs import cut, rank
from inpars.models.compute_options import use_engine
from inpars.models.retrievers import DENSE, retriever_kind
from inpars.pipeline.folder import RunFolder, topics_of
from inpars.pipeline.measurement import JUDGED, METRICS
from inpars.pipeline.system_runs import fused_files
from inpars.progress import SILENT, Progress
from inpars.records import Document, Query, Run, ScoredDocument
from inpars.rerankers.rerank import apply_scores, fuse_with_first_stage
from inpars.stages.rerank import RerankOptions, load_run_scorer, reordered
from inpars.stages.score import ScoreOptions, load_query_scorer
from inpars.stages.search import SearchOptions, retrieve

DENSE_DEPTH = 5  # documents of each sampled query that are encoded again


def recompute(
    run: RunFolder,
    options: VerifyOptions,
    dataset: Dataset | None,
    findings: VerifyFindings,
    progress: Progress = SILENT,
) -> None:
    """Recompute a sample of every kind of score; differences become problems, what cannot be recomputed is named."""
    recomputed = Recomputation(run, options, dataset, findings, progress)
    for place in (METRICS, f"{JUDGED}/{METRICS}"):
        if place == METRICS or place in run.manifests:
            _guard(recomputed, place, partial(_measures, recomputed, place))
    for output, manifest in run.manifests.items():
        work = STAGES.get(manifest.stage)
        if work is not None and options.sample and (run.path / output).exists():
            progress.note(f"verify: {output}")
            _guard(recomputed, output, partial(work, recomputed, output, manifest))


def _guard(recomputed: Recomputation, where: str, work: Callable[[], str | None]) -> None:
    """Do the work; a reason why it cannot be done is noted."""
    try:
        reason = work()
    except InparsError as error:
        reason = str(error)
    except ModuleNotFoundError as error:
        reason = f"{error.name} is not installed"
    except KeyError as error:
        reason = f"its manifest does not name {error}"
    if reason:
        recomputed.findings.unchecked.append(f"{where}: {reason}")


def _measures(recomputed: Recomputation, output: str) -> str | None:
    run, measures = recomputed.run, recomputed.run.measures(output)
    qrels, stage = run.qrels(topics_of(output)), run.manifests.get(output)
    if not measures or stage is None:
        return "there are none"
    if not qrels:
        return "the judgements are not in the folder"
    for name, per_query in measures.items():
        stamp = stage.inputs.get(name)
        run_path = None if stamp is None else run.inside(stamp)
        if run_path is None or not (run.path / run_path).exists():
            recomputed.findings.unchecked.append(f"measures of {name}: its run is not in the folder")
            continue
        recomputed_values = evaluate(read_run(run.path / run_path), qrels, list(per_query)).per_query
        for metric, values in per_query.items():
            differences = {
                query_id: abs(values.get(query_id, float("nan")) - value)
                for query_id, value in recomputed_values[metric].items()
            }
            recomputed.hold("measures", f"{output}: {metric} of {name}", differences)
    return None


def _fusion(recomputed: Recomputation, output: str, manifest: Manifest) -> str | None:
    sources = [recomputed.run.inside(stamp) for stamp in manifest.inputs.values()]
    if None in sources:
        return "the runs it was made of are not in the folder"
    depth, k = number_of(manifest, "depth"), number_of(manifest, "k")
    runs = {
        name: read_run(recomputed.run.path / str(source)) for name, source in zip(manifest.inputs, sources, strict=True)
    }
    written = read_run(recomputed.run.path / output)
    chosen = recomputed.sampled(written)
    parts = {name: {query_id: run[query_id] for query_id in chosen if query_id in run} for name, run in runs.items()}
    try:
        fused = fused_files(parts, depth, k, manifest.arguments.get("lexical", ()))
    except (TypeError, ValueError):
        return "its manifest does not say which runs are BM25's"
    recomputed.hold("fused scores", output, score_differences(fused, written, chosen))
    return None


def _fused_top(recomputed: Recomputation, output: str, manifest: Manifest) -> str | None:
    paths = {name: recomputed.run.inside(manifest.inputs[name]) for name in ("run", "scores")}
    if None in paths.values():
        return "the runs it was made of are not in the folder"
    run, scores = (read_run(recomputed.run.path / str(path)) for path in paths.values())
    written = read_run(recomputed.run.path / output)
    chosen = recomputed.sampled(written)
    fused = reordered({query_id: run[query_id] for query_id in chosen}, scores, number_of(manifest, "depth"))
    recomputed.hold("fused scores", output, score_differences(fused, written, chosen))
    return None


def _log_probs(recomputed: Recomputation, output: str, manifest: Manifest) -> str | None:
    if manifest.arguments.get("backend", "causal") != "causal":
        return f"log-probs of {manifest.arguments['backend']} cannot be recomputed here"
    prompt = known_prompt(recomputed.run, manifest)
    if prompt is None:
        return "the prompt is not the one it was, or had examples of the collection put in"
    rows = {query.query_id: (query, record) for query, record in read_synthetic_records(recomputed.run.path / output)}
    chosen = [rows[name] for name in recomputed.sampled(name for name, (query, _) in rows.items() if query.text)]
    from inpars.generation.teacher_forcing import KnownQuery

    options = ScoreOptions(
        model=manifest.arguments["model"],
        max_doc_tokens=manifest.arguments["max_doc_tokens"],
        **computing_of(recomputed.options, manifest),
    )
    documents = [_document(recomputed, query.doc_id, record) for query, record in chosen]
    known = [
        KnownQuery(document, query.text, query.token_ids, query.prompt)
        for (query, _), document in zip(chosen, documents, strict=True)
    ]
    scorer = load_query_scorer(options, prompt)
    scores = scorer.score(known)
    differences = {
        query.query_id: _mean_difference(query.token_log_probs, score.token_log_probs)
        for (query, _), score in zip(chosen, scores, strict=True)
    }
    exact = "float32" in manifest.device and "float32" in scorer.device
    recomputed.hold("log-probs", output, differences, rough=not exact)
    return None


def _reranked(recomputed: Recomputation, output: str, manifest: Manifest) -> str | None:
    source, folder = recomputed.run.inside(manifest.inputs["run"]), _model(recomputed.run, manifest, "model")
    if source is None or "run 2" in manifest.inputs:
        return "the run it was made of is not in the folder, or there are several"
    if recomputed.dataset is None:
        return NO_CORPUS
    if "prompt" in manifest.inputs:
        return "its prompt is not known"
    names = {field.name for field in fields(RerankOptions)} - {"model", "dtype", "trust_remote_code"}
    rerank_settings = {name: value for name, value in manifest.arguments.items() if name in names}
    options = RerankOptions(model=folder, **rerank_settings, **computing_of(recomputed.options, manifest))
    written, queries, corpus = (
        read_run(recomputed.run.path / output),
        recomputed.run.queries(),
        recomputed.dataset.corpus,
    )
    chosen = recomputed.sampled(query_id for query_id in written if query_id in queries)
    first = {
        query_id: scores for query_id, scores in read_run(recomputed.run.path / source).items() if query_id in chosen
    }
    pairs = [(q, doc_id) for q, scores in first.items() for doc_id, _ in rank(scores, options.depth)]
    texts = corpus.texts(doc_id for _, doc_id in pairs)
    scores = load_run_scorer(options).score([(queries[q], text) for (q, _), text in zip(pairs, texts, strict=True)])
    scored = [ScoredDocument(q, doc_id, score) for (q, doc_id), score in zip(pairs, scores, strict=True)]
    reranked = apply_scores(first, scored, depth=options.depth)
    if options.fuse:
        reranked = fuse_with_first_stage(first, reranked, depth=options.depth, fusion=options.fusion)
    recomputed.hold(
        "reranked scores", output, score_differences(reranked, written, chosen), rough=options.dtype != "float32"
    )
    return None


def _searched(recomputed: Recomputation, output: str, manifest: Manifest) -> str | None:
    retrievers = manifest.arguments["retriever"]
    if not isinstance(retrievers, list) or not retrievers or not all(isinstance(name, str) for name in retrievers):
        return "its manifest names no retriever"
    if len(retrievers) > 1:
        return "scores of several fused retrievers are not recomputed"
    if recomputed.dataset is None:
        return NO_CORPUS
    written, queries = read_run(recomputed.run.path / output), recomputed.run.queries(topics_of(output))
    chosen = [Query(q, queries[q]) for q in recomputed.sampled(query_id for query_id in written if query_id in queries)]
    if not chosen:
        return "its queries are not in the folder"
    if retrievers[0] == BM25:
        search_settings = {name: manifest.arguments[name] for name in ("k", "k1", "b", "language")}
        options = SearchOptions(retriever=(BM25,), **search_settings, **computing_of(recomputed.options, manifest))
        searched: Run = {}
        for block in retrieve(recomputed.dataset.corpus, chosen, options):
            searched |= block
        recomputed.hold("BM25 scores", output, score_differences(searched, written, [q.query_id for q in chosen]))
        return None
    return _similarities(recomputed, recomputed.dataset.corpus, output, manifest, chosen, written)


def _similarities(
    recomputed: Recomputation, corpus: Corpus, output: str, manifest: Manifest, chosen: Sequence[Query], written: Run
) -> str | None:
    from inpars.retrieval.dense import Encoder

    computing = computing_of(recomputed.options, manifest)
    computing.pop("threads")
    use_engine(computing.pop("engine_backend"))
    name = _model(recomputed.run, manifest, f"retriever {manifest.arguments['retriever'][0]}")
    if (kind := retriever_kind(name)) != DENSE:
        return f"scores of a {kind} retriever are not recomputed"
    encoder_settings: dict[str, Any] = {key: manifest.arguments.get(key) for key in ("max_length", "window_tokens")}
    encoder = Encoder(name, **encoder_settings, **computing)
    first = cut({query.query_id: written[query.query_id] for query in chosen}, DENSE_DEPTH)
    doc_ids = list(dict.fromkeys(doc_id for scores in first.values() for doc_id in scores))
    vectors_of, counts = encoder.encode_in_windows([corpus[doc_id] for doc_id in doc_ids])
    rows = dict(zip(doc_ids, np.split(vectors_of, np.cumsum(counts)[:-1]), strict=True))
    vectors = encoder.encode_queries([query.text for query in chosen])
    similarities = {
        query.query_id: {doc_id: float((rows[doc_id] @ vector).max()) for doc_id in first[query.query_id]}
        for query, vector in zip(chosen, vectors, strict=True)
    }
    differences = score_differences(similarities, first, list(similarities))
    recomputed.hold("similarities", output, differences, rough=computing["dtype"] != "float32")
    return None


def _mean_difference(written: Sequence[float], recomputed: Sequence[float]) -> float:
    """Of the means of two rows of log-probs; infinite where they are of different lengths."""
    if len(written) != len(recomputed) or not recomputed:
        return float("inf")
    return abs(sum(written) - sum(recomputed)) / len(recomputed)


def _document(recomputed: Recomputation, doc_id: str, record: Mapping[str, Any]) -> Document:
    if recomputed.dataset is not None and doc_id in recomputed.dataset.corpus:
        return recomputed.dataset.corpus[doc_id]
    return Document(doc_id, str(record.get("text") or record.get("doc_text") or ""))


def _model(run: RunFolder, manifest: Manifest, name: str) -> str:
    """The model an input stands for: the run's own folder of it where there is one, wherever the run lies now."""
    stamp = manifest.inputs[name]
    inside = run.inside(stamp)
    return stamp.path if inside is None else str(run.path / inside)


STAGES: Mapping[str, Callable[[Recomputation, str, Manifest], str | None]] = {
    "generate": _log_probs,
    "search": _searched,
    "fuse": _fusion,
    "rerank": _reranked,
    "fuse top": _fused_top,
    "search system": system_searched,
    "choose": chosen_again,
}
