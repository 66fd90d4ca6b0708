"""Order and arithmetic of runs: ranking, cutting, fusing. Pure functions over `Run` mappings.

Ranking follows trec_eval: score descending, then doc_id descending. trec_eval compares scores in float32, so writers
keep scores that differ apart.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal, TypeAlias

from inpars.records import Run

RECIPROCAL_RANK_CONSTANT = 60  # Cormack, Clarke, Büttcher, SIGIR 2009

Fusion: TypeAlias = Literal["z-score", "rrf"]
"""How runs are put together: by the sum of their z-scores, or of their reciprocal ranks."""

DEFAULT_FUSION: Fusion = "z-score"


def by_query(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Document ids per query id of (query_id, doc_id) pairs, in their order."""
    doc_ids: dict[str, list[str]] = {}
    for query_id, doc_id in pairs:
        doc_ids.setdefault(query_id, []).append(doc_id)
    return doc_ids


def rank(scores: Mapping[str, float], depth: int | None = None) -> list[tuple[str, float]]:
    """Documents of one query as (doc_id, score), best first: score descending, then doc_id descending."""
    ordered = sorted(scores.items(), key=lambda item: (item[1], item[0]), reverse=True)
    return ordered if depth is None else ordered[:depth]


def cut(run: Run, depth: int) -> Run:
    """The first `depth` documents of every query, in order."""
    return {query_id: dict(rank(scores, depth)) for query_id, scores in run.items()}


def without_own_document(run: Run, document_queries: Collection[str]) -> Run:
    """Drop each query's own document; `document_queries` are the ids of queries that are documents themselves."""
    return {
        query_id: {
            doc_id: score for doc_id, score in scores.items() if doc_id != query_id or query_id not in document_queries
        }
        for query_id, scores in run.items()
    }


def fuse(runs: Sequence[Run], depth: int, fusion: Fusion = DEFAULT_FUSION) -> Run:
    """One run of the best `depth` documents of several."""
    return fuse_reciprocal_ranks(runs, depth) if fusion == "rrf" else fuse_z_scores(runs, depth)


def fuse_z_scores(runs: Sequence[Run], depth: int, weights: Sequence[float] | None = None) -> Run:
    """Weighted sum of each run's z-scores; a document a run lacks gets that run's lowest z-score for the query."""
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


def fuse_reciprocal_ranks(runs: Sequence[Run], depth: int, constant: int = RECIPROCAL_RANK_CONSTANT) -> Run:
    """Sum over runs of 1 / (constant + rank), ranks from 1."""
    fused: Run = {}
    for query_id in _query_ids(runs):
        totals: dict[str, float] = {}
        for run in runs:
            for position, (doc_id, _) in enumerate(rank(run.get(query_id, {})), start=1):
                totals[doc_id] = totals.get(doc_id, 0.0) + 1.0 / (constant + position)
        fused[query_id] = dict(rank(totals, depth))
    return fused


def with_zeros(lexical: Run, others: Sequence[Run], depth: int) -> Run:
    """BM25's run with the score 0 for what others found and it did not, where it found fewer than `depth` documents.

    It then found all that hold a word of the query. Without those zeros a rare word's only document would be worth no
    more than all others, since its z-score is 0.
    """
    filled: Run = {}
    for query_id in _query_ids([lexical, *others]):
        scores = lexical.get(query_id, {})
        zeros = {doc_id: 0.0 for run in others for doc_id in run.get(query_id, {})} if len(scores) < depth else {}
        filled[query_id] = zeros | scores
    return filled


def completed(runs: Sequence[Run], lexical: Sequence[bool], depth: int) -> list[Run]:
    """The first `depth` documents of first stages' runs, BM25's (`lexical`) with zeros for what only others found."""
    tops = [cut(run, depth) for run in runs]
    others = [run for run, by_words in zip(tops, lexical, strict=True) if not by_words]
    return [with_zeros(run, others, depth) if by_words else run for run, by_words in zip(tops, lexical, strict=True)]


def _query_ids(runs: Sequence[Run]) -> list[str]:
    return list(dict.fromkeys(query_id for run in runs for query_id in run))


def z_scores(scores: Mapping[str, float]) -> dict[str, float]:
    """Each score less their mean, over their standard deviation; zeros where all are the same."""
    if len(set(scores.values())) <= 1:
        return dict.fromkeys(scores, 0.0)
    try:
        mean = math.fsum(scores.values()) / len(scores)
        deviation = math.sqrt(math.fsum((score - mean) ** 2 for score in scores.values()) / len(scores))
    except OverflowError:
        deviation = 0.0
    if deviation:
        return {doc_id: (score - mean) / deviation for doc_id, score in scores.items()}
    largest = max(map(abs, scores.values()))  # the squares of such scores are no numbers
    return dict.fromkeys(scores, 0.0) if largest == 1 else z_scores({d: score / largest for d, score in scores.items()})
