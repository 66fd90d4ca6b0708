"""Recomputes a sample of a run's scores and compares them with its files.

Log-probabilities come from a teacher-forced pass, scores from the rerankers and retrievers, fusions and measures from
their input runs. Whatever cannot be recomputed (changed prompt, missing model or corpus) is reported. bfloat16 scores
depend slightly on the batch and the processor, float32 scores hardly at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from inpars.contrib.verify.run import VerifyFindings, known_prompt
from inpars.documents.datasets import Dataset
from inpars.errors import ConfigError, InparsError, StaleInputError
from inpars.evaluation.measures import evaluate
from inpars.fusion.system import BM25, Reranking, read_system
from inpars.io.corpus import Corpus
from inpars.io.formats import as_stored, read_run, read_synthetic_records, run_lines
from inpars.io.json_text import parse_json
from inpars.io.manifest import Manifest
from inpars.io.runs import cut
from inpars.io.topics import Topics
from inpars.models.compute_options import ComputingOptions, use_engine
from inpars.models.retrievers import DENSE, retriever_kind
from inpars.options import SEED, option
from inpars.pipeline.choice import choice_of, evidenced
from inpars.pipeline.folder import RunFolder, topics_of
from inpars.pipeline.measurement import JUDGED, METRICS
from inpars.pipeline.system_runs import fused_files
from inpars.progress import SILENT, Progress
from inpars.records import Document, Query, Run
from inpars.rerankers.rerank import fuse_with_first_stage, rescored
from inpars.retrieval.bm25 import bm25_index
from inpars.stages.rerank import RerankOptions, load_run_scorer, reordered
from inpars.stages.score import ScoreOptions, load_query_scorer
from inpars.stages.search import SearchOptions, retrieve
from inpars.stages.workers import Bm25Options
from inpars.text.hashing import sampling_key

DENSE_DEPTH = 5  # documents per sampled query that are encoded again
EXACT = {"measures": 1e-6, "fused scores": 2e-5, "BM25 scores": 2e-5, "choices": 1e-6}
FLOAT32 = {"log-probs": 1e-4, "reranked scores": 1e-3, "similarities": 1e-4}
ROUGH = {"log-probs": 0.15, "reranked scores": 1.0, "similarities": 0.01}  # bfloat16; log-probs: of the query's mean


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyOptions(ComputingOptions):
    """How much is recomputed."""

    sample: int = option(
        8, help="synthetic queries, and queries per run, whose scores are recomputed; 0: none", minimum=0
    )
    seed: int = option(0, help="seed of the sample", bounds=SEED)


@dataclass(frozen=True, slots=True)
class Recomputation:
    """The state of recomputing a run."""

    run: RunFolder
    options: VerifyOptions
    dataset: Dataset | None
    findings: VerifyFindings
    progress: Progress

    def sampled(self, ids: Iterable[str]) -> list[str]:
        """A deterministic sample of the ids."""
        return sorted(ids, key=lambda name: (sampling_key(self.options.seed, name), name))[: self.options.sample]

    @property
    def corpus(self) -> Corpus:
        """The documents. Raises ConfigError without a dataset."""
        if self.dataset is None:
            raise ConfigError("the documents are needed; give --dataset NAME or --corpus FILE")
        return self.dataset.corpus

    def read(self, output: str) -> Run:
        """A TREC run in the folder."""
        return read_run(self.run.path / output)

    def read_inputs(self, manifest: Manifest, names: Iterable[str]) -> dict[str, Run]:
        """A stage's input runs by name. Raises ConfigError if one is not in the folder."""
        paths = {name: self.run.inside(manifest.inputs[name]) for name in names}
        if None in paths.values():
            raise ConfigError("its input runs are not in the folder")
        return {name: self.read(str(path)) for name, path in paths.items()}

    def hold(self, subject: str, where: str, differences: Mapping[str, float], *, rough: bool = False) -> None:
        """Record differences by query id, and a problem if one exceeds the tolerance, that of bfloat16 if `rough`."""
        tolerance = ROUGH[subject] if rough else (EXACT | FLOAT32)[subject]
        if not differences:
            return
        self.findings.count(f"{subject} recomputed", len(differences))
        worst = max(differences, key=lambda name: differences[name])
        self.findings.largest[subject] = max(differences[worst], self.findings.largest.get(subject, 0.0))
        if not differences[worst] <= tolerance:
            too_large = sum(not value <= tolerance for value in differences.values())
            self.findings.problems.append(
                f"{where}: {subject} of {too_large} of {len(differences)} queries come out differently, "
                f"{worst!r} by {differences[worst]:.4g} (at most {tolerance:g} is rounding)"
            )


def recompute(
    run: RunFolder,
    options: VerifyOptions,
    dataset: Dataset | None,
    findings: VerifyFindings,
    progress: Progress = SILENT,
) -> None:
    """Recompute a sample of every kind of score and add differences and reasons for gaps to `findings`."""
    recomputed = Recomputation(run, options, dataset, findings, progress)
    for output in (METRICS, f"{JUDGED}/{METRICS}"):
        if output == METRICS or output in run.manifests:
            with _unchecked(findings, output):
                _measures(recomputed, output)
    for output, manifest in run.manifests.items():
        check = STAGES.get(manifest.stage)
        if check is not None and options.sample and (run.path / output).exists():
            progress.note(f"verify: {output}")
            with _unchecked(findings, output):
                check(recomputed, output, manifest)


@contextmanager
def _unchecked(findings: VerifyFindings, output: str) -> Iterator[None]:
    """Note an output as unchecked if the block fails."""
    try:
        yield
    except InparsError as error:
        findings.unchecked.append(f"{output}: {error}")
    except ModuleNotFoundError as error:
        findings.unchecked.append(f"{output}: {error.name} is not installed")
    except KeyError as error:
        findings.unchecked.append(f"{output}: its manifest does not name {error}")


def _measures(recomputed: Recomputation, output: str) -> None:
    run, measures = recomputed.run, recomputed.run.measures(output)
    qrels, stage = run.qrels(topics_of(output)), run.manifests.get(output)
    if not measures or stage is None:
        raise ConfigError("no measures")
    if not qrels:
        raise ConfigError("the judgements are not in the folder")
    for name, per_query in measures.items():
        stamp = stage.inputs.get(name)
        run_path = None if stamp is None else run.inside(stamp)
        if run_path is None or not (run.path / run_path).exists():
            recomputed.findings.unchecked.append(f"measures of {name}: its run is not in the folder")
            continue
        recomputed_values = evaluate(recomputed.read(run_path), qrels, list(per_query)).per_query
        for metric, values in per_query.items():
            differences = {
                query_id: abs(values.get(query_id, float("nan")) - value)
                for query_id, value in recomputed_values[metric].items()
            }
            recomputed.hold("measures", f"{output}: {metric} of {name}", differences)


def _fusion(recomputed: Recomputation, output: str, manifest: Manifest) -> None:
    runs = recomputed.read_inputs(manifest, manifest.inputs)
    depth, k = number_of(manifest, "depth"), number_of(manifest, "k")
    written = recomputed.read(output)
    chosen = recomputed.sampled(written)
    parts = {name: {query_id: run[query_id] for query_id in chosen if query_id in run} for name, run in runs.items()}
    try:
        fused = fused_files(parts, depth, k, manifest.arguments.get("lexical", ()))
    except (TypeError, ValueError):
        raise ConfigError("its manifest does not say which runs are BM25's") from None
    recomputed.hold("fused scores", output, score_differences(fused, written, chosen))


def _fused_top(recomputed: Recomputation, output: str, manifest: Manifest) -> None:
    run, scores = recomputed.read_inputs(manifest, ("run", "scores")).values()
    written = recomputed.read(output)
    chosen = recomputed.sampled(written)
    fused = reordered({query_id: run[query_id] for query_id in chosen}, scores, number_of(manifest, "depth"))
    recomputed.hold("fused scores", output, score_differences(fused, written, chosen))


def _log_probs(recomputed: Recomputation, output: str, manifest: Manifest) -> None:
    if manifest.arguments.get("backend", "causal") != "causal":
        raise ConfigError(f"log-probs of {manifest.arguments['backend']} cannot be recomputed here")
    prompt = known_prompt(recomputed.run, manifest)
    if prompt is None:
        raise ConfigError("the prompt is not the one it was, or had examples of the collection put in")
    rows = {query.query_id: (query, record) for query, record in read_synthetic_records(recomputed.run.path / output)}
    chosen = [rows[name] for name in recomputed.sampled(name for name, (query, _) in rows.items() if query.text)]
    from inpars.generation.teacher_forcing import KnownQuery

    settings = {name: manifest.arguments[name] for name in ("model", "max_doc_tokens")}
    options = ScoreOptions(**settings, **computing_of(recomputed.options, manifest))
    known = [
        KnownQuery(_document(recomputed, query.doc_id, record), query.text, query.token_ids, query.prompt)
        for query, record in chosen
    ]
    scorer = load_query_scorer(options, prompt)
    differences = {
        query.query_id: _mean_difference(query.token_log_probs, score.token_log_probs)
        for (query, _), score in zip(chosen, scorer.score(known), strict=True)
    }
    exact = "float32" in manifest.device and "float32" in scorer.device
    recomputed.hold("log-probs", output, differences, rough=not exact)


def _reranked(recomputed: Recomputation, output: str, manifest: Manifest) -> None:
    source, folder = recomputed.run.inside(manifest.inputs["run"]), _model(recomputed.run, manifest, "model")
    if source is None or "run 2" in manifest.inputs:
        raise ConfigError("its input run is not in the folder, or there are several")
    corpus = recomputed.corpus
    if "prompt" in manifest.inputs:
        raise ConfigError("its prompt is not known")
    names = {field.name for field in fields(RerankOptions)} - {"model", "dtype", "trust_remote_code"}
    rerank_settings = {name: value for name, value in manifest.arguments.items() if name in names}
    options = RerankOptions(model=folder, **rerank_settings, **computing_of(recomputed.options, manifest))
    written, queries = recomputed.read(output), recomputed.run.queries()
    chosen = recomputed.sampled(query_id for query_id in written if query_id in queries)
    first = {query_id: scores for query_id, scores in recomputed.read(source).items() if query_id in chosen}
    reranked = rescored(first, queries, corpus, load_run_scorer(options), options.depth)
    if options.fuse:
        reranked = fuse_with_first_stage(first, reranked, depth=options.depth, fusion=options.fusion)
    differences = score_differences(reranked, written, chosen)
    recomputed.hold("reranked scores", output, differences, rough=options.dtype != "float32")


def _searched(recomputed: Recomputation, output: str, manifest: Manifest) -> None:
    retrievers = manifest.arguments["retriever"]
    if not isinstance(retrievers, list) or not retrievers or not all(isinstance(name, str) for name in retrievers):
        raise ConfigError("its manifest names no retriever")
    if len(retrievers) > 1:
        raise ConfigError("scores of several fused retrievers are not recomputed")
    corpus = recomputed.corpus
    written, queries = recomputed.read(output), recomputed.run.queries(topics_of(output))
    chosen = [Query(q, queries[q]) for q in recomputed.sampled(query_id for query_id in written if query_id in queries)]
    if not chosen:
        raise ConfigError("its queries are not in the folder")
    if retrievers[0] != BM25:
        _similarities(recomputed, corpus, output, manifest, chosen, written)
        return
    search_settings = {name: manifest.arguments[name] for name in ("k", "k1", "b", "language")}
    options = SearchOptions(retriever=(BM25,), **search_settings, **computing_of(recomputed.options, manifest))
    searched: Run = {}
    for block in retrieve(corpus, chosen, options):
        searched |= block
    recomputed.hold("BM25 scores", output, score_differences(searched, written, [q.query_id for q in chosen]))


def _similarities(
    recomputed: Recomputation, corpus: Corpus, output: str, manifest: Manifest, chosen: Sequence[Query], written: Run
) -> None:
    from inpars.retrieval.dense import Encoder

    computing = computing_of(recomputed.options, manifest)
    computing.pop("threads")
    use_engine(computing.pop("engine_backend"))
    name = _model(recomputed.run, manifest, f"retriever {manifest.arguments['retriever'][0]}")
    if (kind := retriever_kind(name)) != DENSE:
        raise ConfigError(f"scores of a {kind} retriever are not recomputed")
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


def _searched_by_system(recomputed: Recomputation, output: str, manifest: Manifest) -> None:
    """Fused and reranked scores of the chosen system, from its first-stage runs in the folder."""
    corpus = recomputed.corpus
    system, k = read_system(recomputed.run.path), number_of(manifest, "k")
    if "reranker" not in manifest.inputs:
        system = replace(system, reranking=None)
    if "late interaction" not in manifest.inputs:
        system = replace(system, late_interaction=None)
    paths = {stage.name: Path(output).with_name(f"{stage.name}.trec").as_posix() for stage in system.stages}
    known = [recomputed.run.manifests.get(path) for path in paths.values()]
    if not all(stage and number_of(stage, "k") >= system.retrieved(k) for stage in known):
        depth = system.retrieved(k)
        raise ConfigError(f"the runs of its first stages hold fewer than the {depth} documents that it reads")
    written, queries = recomputed.read(output), recomputed.run.queries(topics_of(output))
    texts = {query_id: queries[query_id] for query_id in recomputed.sampled(q for q in written if q in queries)}
    runs = {
        name: {query_id: scores for query_id, scores in recomputed.read(path).items() if query_id in texts}
        for name, path in paths.items()
    }
    coverage = None
    if system.gate is not None:
        bm25 = Bm25Options(k1=system.k1, b=system.b, language=system.language).bm25
        coverage = bm25_index(corpus, **bm25, threads=recomputed.options.threads).coverage()
    shares = system.shares(texts, runs, coverage, lambda doc_id: corpus[doc_id].full_text)
    run = system.fuse(runs, system.fused(k), shares)
    if not system.rerankings:
        recomputed.hold("fused scores", output, score_differences(cut(as_stored(run), k), written, list(texts)))
        return
    computing = computing_of(recomputed.options, manifest)

    def score(reranking: Reranking, run: Run) -> Run:
        scorer = load_run_scorer(RerankOptions(**reranking.scorer, **computing), reranking.prompt)
        return rescored(run, texts, corpus, scorer, reranking.depth)

    run = system.rerank(run, score, shares)
    differences = score_differences(cut(run, k), written, list(texts))
    recomputed.hold("reranked scores", output, differences, rough=computing["dtype"] != "float32")


def _chosen(recomputed: Recomputation, output: str, manifest: Manifest) -> None:
    """The gate's offset, from the queries and runs in its folder."""
    corpus, topics = recomputed.corpus, topics_of(output)
    if BM25 not in manifest.inputs:
        raise StaleInputError(f"{output}: its manifest names no run of BM25; run the same `inpars run` again")
    queries = Topics(topics, recomputed.run.queries(topics), recomputed.run.qrels(topics))
    path = recomputed.run.path / output
    evidence = evidenced(queries, path.parent, list(manifest.inputs), manifest.arguments)
    system = read_system(recomputed.run.path)
    bm25 = Bm25Options(k1=system.k1, b=system.b, language=system.language).bm25
    choice = choice_of(corpus, evidence, bm25, threads=recomputed.options.threads)
    stored, gate = parse_json(path.read_bytes())["gate"]["offset"], system.gate
    offsets = {"choice.json": stored, "system.json": float("nan") if gate is None else gate.offset}
    recomputed.hold("choices", output, {name: abs(value - choice["gate"]["offset"]) for name, value in offsets.items()})


def number_of(manifest: Manifest, name: str) -> int:
    """A number of documents in the manifest's settings. Raises ConfigError if it is not a positive integer."""
    value = manifest.arguments[name]
    if type(value) is not int or value < 1:
        raise ConfigError(f"its manifest's {name} is not a number of documents")
    return value


def score_differences(recomputed: Run, written: Run, query_ids: Sequence[str]) -> dict[str, float]:
    """The largest difference of scores per query; infinite if the documents differ.

    Recomputed scores are rounded like those in a file, where ties are broken.
    """
    differences = {}
    for query_id in query_ids:
        one, other = _as_written(recomputed.get(query_id, {})), written.get(query_id, {})
        same = one.keys() == other.keys()
        differences[query_id] = max((abs(one[d] - other[d]) for d in other), default=0.0) if same else float("inf")
    return differences


def _as_written(scores: Mapping[str, float]) -> dict[str, float]:
    """As `as_stored`, but lets NaN through, which must show up as a difference."""
    rows = (line.split() for line in run_lines({"": dict(scores)}, ""))
    return {row[1]: float(row[3]) for row in rows}


def computing_of(options: VerifyOptions, manifest: Manifest) -> dict[str, Any]:
    """Settings for loading models; `auto` dtype and engine become those of the manifest."""
    precision = {
        name: value if value != "auto" else manifest.arguments.get(name, "auto")
        for name, value in (("dtype", options.dtype), ("engine_backend", options.engine_backend))
    }
    return {**options.computing, **precision}


def _mean_difference(written: Sequence[float], recomputed: Sequence[float]) -> float:
    """The difference of mean log-probs; infinite if the lengths differ."""
    if len(written) != len(recomputed) or not recomputed:
        return float("inf")
    return abs(sum(written) - sum(recomputed)) / len(recomputed)


def _document(recomputed: Recomputation, doc_id: str, record: Mapping[str, Any]) -> Document:
    if recomputed.dataset is not None and doc_id in recomputed.dataset.corpus:
        return recomputed.dataset.corpus[doc_id]
    return Document(doc_id, str(record.get("text") or record.get("doc_text") or ""))


def _model(run: RunFolder, manifest: Manifest, name: str) -> str:
    """The model of an input; for a model of the run its folder in the run, which may have moved."""
    stamp = manifest.inputs[name]
    inside = run.inside(stamp)
    return stamp.path if inside is None else str(run.path / inside)


STAGES: Mapping[str, Callable[[Recomputation, str, Manifest], None]] = {
    "generate": _log_probs,
    "search": _searched,
    "fuse": _fusion,
    "rerank": _reranked,
    "fuse top": _fused_top,
    "search system": _searched_by_system,
    "choose": _chosen,
}
