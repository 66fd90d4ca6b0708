"""Rank, cut and fuse runs: pure functions over `Run` mappings.

Ranking follows trec_eval: score descending, then doc_id descending. trec_eval compares scores in float32, so writers
keep different scores apart.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal, TypeAlias

from inpars.records import Run

RECIPROCAL_RANK_CONSTANT = 60  # Cormack, Clarke, Büttcher, SIGIR 2009

Fusion: TypeAlias = Literal["z-score", "rrf"]
"""The sum of z-scores, or of reciprocal ranks."""

DEFAULT_FUSION: Fusion = "z-score"


def by_query(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Group (query_id, doc_id) pairs: document ids per query id, in order."""
    doc_ids: dict[str, list[str]] = {}
    for query_id, doc_id in pairs:
        doc_ids.setdefault(query_id, []).append(doc_id)
    return doc_ids


def rank(scores: Mapping[str, float], depth: int | None = None) -> list[tuple[str, float]]:
    """The (doc_id, score) pairs of one query: score descending, then doc_id descending."""
    ordered = sorted(scores.items(), key=lambda item: (item[1], item[0]), reverse=True)
    return ordered if depth is None else ordered[:depth]


def cut(run: Run, depth: int) -> Run:
    """The first `depth` documents per query, in rank order."""
    return {query_id: dict(rank(scores, depth)) for query_id, scores in run.items()}


def without_own_document(run: Run, document_queries: Collection[str]) -> Run:
    """Drop each query's own document; `document_queries` are the ids of queries that are also documents."""
    return {
        query_id: {
            doc_id: score for doc_id, score in scores.items() if doc_id != query_id or query_id not in document_queries
        }
        for query_id, scores in run.items()
    }


def fuse(runs: Sequence[Run], depth: int, fusion: Fusion = DEFAULT_FUSION) -> Run:
    """Fuse runs and keep the best `depth` documents per query."""
    return fuse_reciprocal_ranks(runs, depth) if fusion == "rrf" else fuse_z_scores(runs, depth)


def fuse_z_scores(runs: Sequence[Run], depth: int, weights: Sequence[float] | None = None) -> Run:
    """Weighted sum of z-scores; a document missing from a run gets the run's lowest z-score for the query."""
    weights = weights or [1.0] * len(runs)
    fused: Run = {}
    for query_id in _query_ids(runs):
        parts = [z_scores(run.get(query_id, {})) for run in runs]
        weighted = [
            (part, min(part.values(), default=0.0), weight) for part, weight in zip(parts, weights, strict=True)
        ]
        totals = {
            doc_id: sum(weight * part.get(doc_id, lowest) for part, lowest, weight in weighted)
            for doc_id in {doc_id for part in parts for doc_id in part}
        }
        fused[query_id] = dict(rank(totals, depth))
    return fused


def fuse_reciprocal_ranks(runs: Sequence[Run], depth: int) -> Run:
    """Sum over runs of 1 / (60 + rank), ranks from 1."""
    fused: Run = {}
    for query_id in _query_ids(runs):
        totals: dict[str, float] = {}
        for run in runs:
            for position, (doc_id, _) in enumerate(rank(run.get(query_id, {})), start=1):
                totals[doc_id] = totals.get(doc_id, 0.0) + 1.0 / (RECIPROCAL_RANK_CONSTANT + position)
        fused[query_id] = dict(rank(totals, depth))
    return fused


def with_zeros(lexical: Run, others: Sequence[Run], depth: int) -> Run:
    """BM25's run with score 0 for documents that only the other runs found, if it found fewer than `depth` documents.

    It has then found all documents with a query word. Without the zeros, the only document with a rare word would get
    the z-score 0 and gain nothing.
    """
    filled: Run = {}
    for query_id in _query_ids([lexical, *others]):
        scores = lexical.get(query_id, {})
        zeros = {doc_id: 0.0 for run in others for doc_id in run.get(query_id, {})} if len(scores) < depth else {}
        filled[query_id] = zeros | scores
    return filled


def completed(runs: Sequence[Run], lexical: Sequence[bool], depth: int) -> list[Run]:
    """The first `depth` documents of each first stage's run; `with_zeros` for the lexical ones."""
    tops = [cut(run, depth) for run in runs]
    pairs = list(zip(tops, lexical, strict=True))
    others = [run for run, is_lexical in pairs if not is_lexical]
    return [with_zeros(run, others, depth) if is_lexical else run for run, is_lexical in pairs]


def _query_ids(runs: Sequence[Run]) -> list[str]:
    return list(dict.fromkeys(query_id for run in runs for query_id in run))


def z_scores(scores: Mapping[str, float]) -> dict[str, float]:
    """Scores minus their mean, divided by their standard deviation; zeros if all are equal."""
    if len(set(scores.values())) <= 1:
        return dict.fromkeys(scores, 0.0)
    try:
        mean = math.fsum(scores.values()) / len(scores)
        deviation = math.sqrt(math.fsum((score - mean) ** 2 for score in scores.values()) / len(scores))
    except OverflowError:
        deviation = 0.0
    if deviation:
        return {doc_id: (score - mean) / deviation for doc_id, score in scores.items()}
    largest = max(map(abs, scores.values()))  # the squares overflowed or underflowed
    return dict.fromkeys(scores, 0.0) if largest == 1 else z_scores({d: score / largest for d, score in scores.items()})
