"""Reranks the top of a run with a scorer; the tail keeps its order.

Scores are yielded every few seconds, so that a stage can store them and resume after an interruption. Batches depend
only on the run. Handles neither models nor files.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np

from inpars.batches import slices
from inpars.errors import BackendError, ConfigError, StaleInputError
from inpars.io.runs import DEFAULT_FUSION, Fusion, cut, fuse, fuse_z_scores, rank
from inpars.progress import SILENT, Progress
from inpars.protocols import PairScorer, ScoredPart, score_in_parts
from inpars.records import Run, ScoredDocument

DEFAULT_DEPTH = 100
PAIRS_PER_BATCH = 512  # passed to the scorer together, so that it can sort them by length
SECONDS_PER_PART = 2.0  # after which the scores so far are yielded


class Texts(Protocol):
    """Looks up texts by document id, like `Corpus`."""

    def __contains__(self, doc_id: object) -> bool: ...

    def texts(self, doc_ids: Iterable[str]) -> list[str]:
        """The texts in the order of the ids."""
        ...


def score_run(
    run: Run,
    queries: Mapping[str, str],
    texts: Texts,
    scorer: PairScorer,
    *,
    depth: int = DEFAULT_DEPTH,
    done: Collection[tuple[str, str]] = (),
    query_ids: Collection[str] | None = None,
    pairs_per_batch: int = PAIRS_PER_BATCH,
    seconds_per_part: float = SECONDS_PER_PART,
    progress: Progress = SILENT,
) -> Iterator[list[ScoredDocument]]:
    """Yield the scores of the first `depth` documents per query, in batches of fixed order, each in timed parts.

    `done` are (query_id, doc_id) pairs scored by an earlier run. `query_ids` are the queries of a shard; batches are
    planned over all queries, so scores do not depend on shards. A scorer with `reads_documents_once` gets each
    document's pairs together, for the shard's queries only. Raises StaleInputError for ids missing from the queries or
    the corpus.
    """
    planned = pairs_to_score(run, depth)
    if getattr(scorer, "reads_documents_once", False):
        planned = [pair for pair in planned if query_ids is None or pair[0] in query_ids]
        first = {doc_id: position for position, (_, doc_id) in reversed(list(enumerate(planned)))}
        planned.sort(key=lambda pair: first[pair[1]])
    check_ids(planned, queries, texts)
    total = sum(query_ids is None or query_id in query_ids for query_id, _ in planned)
    for batch, remaining in progress.track(
        _batches_left(planned, done, query_ids, pairs_per_batch, whole=hasattr(scorer, "score_in_parts")),
        total=total,
        description="rerank",
        unit="pairs",
        done=len(done),
    ):
        documents = texts.texts(doc_id for _, doc_id in batch)
        pairs = [(queries[query_id], text) for (query_id, _), text in zip(batch, documents, strict=True)]
        for part in _timed(score_in_parts(scorer, pairs, remaining), seconds_per_part):
            scored = [
                ScoredDocument(*batch[position], score) for position, score in sorted(part) if position in remaining
            ]
            if wrong := next((row for row in scored if not math.isfinite(row.score)), None):
                raise BackendError(
                    f"{scorer.name} scores query {wrong.query_id!r} and document {wrong.doc_id!r} {wrong.score}, "
                    "which ranks nothing; try --dtype float32, or another model"
                )
            yield scored
            progress.advance(len(scored))


def _batches_left(
    pairs: Sequence[tuple[str, str]],
    done: Collection[tuple[str, str]],
    query_ids: Collection[str] | None,
    pairs_per_batch: int,
    *,
    whole: bool,
) -> Iterator[tuple[Sequence[tuple[str, str]], set[int]]]:
    """Batches with pairs left to score, and those pairs' positions. Pairs already done are kept only if `whole`."""
    for planned in slices(pairs, pairs_per_batch):
        batch = planned if whole else [pair for pair in planned if pair not in done]
        remaining = {
            position
            for position, pair in enumerate(batch)
            if pair not in done and (query_ids is None or pair[0] in query_ids)
        }
        if remaining:
            yield batch, remaining


def _timed(parts: Iterable[ScoredPart], seconds: float) -> Iterator[list[tuple[int, float]]]:
    """Join parts until they have taken this long."""
    start, waiting = time.monotonic(), list[tuple[int, float]]()
    for part in parts:
        waiting += part
        if waiting and time.monotonic() - start >= seconds:
            yield waiting
            start, waiting = time.monotonic(), []
    if waiting:
        yield waiting


def pairs_to_score(run: Run, depth: int) -> list[tuple[str, str]]:
    """(query_id, doc_id) in the order of the run's queries and of `runs.rank`."""
    if depth < 1:
        raise ConfigError(f"depth is {depth}; it must be at least 1")
    return [(query_id, doc_id) for query_id, scores in run.items() for doc_id, _ in rank(scores, depth)]


def apply_scores(run: Run, scored: Iterable[ScoredDocument], *, depth: int = DEFAULT_DEPTH) -> Run:
    """Reorder the top of the run by the scores; the tail follows in its order, with lower scores.

    Raises StaleInputError if a document of the top has no score.
    """
    margins: Run = {query_id: {} for query_id in run}
    for row in scored:
        margins.setdefault(row.query_id, {})[row.doc_id] = row.score
    return {query_id: _reordered(query_id, scores, margins[query_id], depth) for query_id, scores in run.items()}


def rescored(run: Run, queries: Mapping[str, str], texts: Texts, scorer: PairScorer, depth: int) -> Run:
    """The run with its top reordered by the scorer."""
    scores = itertools.chain.from_iterable(score_run(run, queries, texts, scorer, depth=depth))
    return apply_scores(run, scores, depth=depth)


def fuse_with_first_stage(
    run: Run,
    reranked: Run,
    *,
    depth: int = DEFAULT_DEPTH,
    fusion: Fusion = DEFAULT_FUSION,
    weights: Sequence[float] | None = None,
) -> Run:
    """Fuse first stage and reranker over the top `depth`; the tail stays. `weights` imply fusion by z-scores."""
    top = cut(run, depth)
    margins = {query_id: {doc_id: reranked[query_id][doc_id] for doc_id in scores} for query_id, scores in top.items()}
    fused = fuse_z_scores([top, margins], depth, weights) if weights else fuse([top, margins], depth, fusion)
    return {query_id: _reordered(query_id, scores, fused[query_id], depth) for query_id, scores in run.items()}


def _reordered(
    query_id: str, scores: Mapping[str, float], margins: Mapping[str, float], depth: int
) -> dict[str, float]:
    ranking = [doc_id for doc_id, _ in rank(scores)]
    top, tail = ranking[:depth], ranking[depth:]
    missing = [doc_id for doc_id in top if doc_id not in margins]
    if missing:
        raise StaleInputError(
            f"query {query_id!r}: document {missing[0]!r} is in the top {depth} of the run but has no reranker score; "
            "the scores belong to another run or depth, rerank again"
        )
    reranked = {doc_id: margins[doc_id] for doc_id in top}
    return dict(rank(reranked)) | _below(tail, min(reranked.values(), default=0.0))


def _below(doc_ids: Sequence[str], ceiling: float) -> dict[str, float]:
    """Strictly decreasing scores below the ceiling that stay distinct in float32."""
    step = max(1.0, float(np.spacing(np.float32(abs(ceiling)))) * 2)
    first = math.floor(ceiling)
    return {doc_id: first - position * step for position, doc_id in enumerate(doc_ids, start=1)}


def check_ids(pairs: Sequence[tuple[str, str]], queries: Mapping[str, str], texts: Texts) -> None:
    """Raise StaleInputError for ids missing from the queries or the corpus."""
    query_ids = list(dict.fromkeys(query_id for query_id, _ in pairs))
    unknown_queries = [query_id for query_id in query_ids if query_id not in queries]
    unknown = [doc_id for doc_id in dict.fromkeys(doc_id for _, doc_id in pairs) if doc_id not in texts]
    problems = [
        f"{len(ids)} {noun} of the run are not in the {source} ({', '.join(map(repr, ids[:3]))})"
        for ids, noun, source in ((unknown_queries, "queries", "queries given"), (unknown, "documents", "corpus"))
        if ids
    ]
    if problems:
        raise StaleInputError("; ".join(problems) + "; give the queries and the corpus the run was made with")
