"""Scorers of queries: a reranker's margin, the rank of the source document, answerability."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from inpars.errors import ConfigError, StaleInputError
from inpars.fusion.system import BM25
from inpars.io.runs import rank
from inpars.negatives.miner import SearchWithScores
from inpars.progress import Progress
from inpars.records import Query
from inpars.stages.rerank import RerankOptions, load_run_scorer
from inpars.stages.score_kinds import ColumnScorer, Row
from inpars.stages.search import SearchOptions, search_with_scores

if TYPE_CHECKING:
    from inpars.protocols import PairScorer
    from inpars.stages.score import ScoreOptions, Source

DIGITS = 6  # decimals kept in files
SEARCHED_TOGETHER = 500


class MarginColumn:
    """How well the source document answers the query, by any scorer of pairs."""

    block = 100  # half a minute of a slow reranker

    def __init__(self, name: str, scorer: PairScorer, source: Source) -> None:
        self.name, self._scorer, self._source = name, scorer, source

    def score(self, rows: Sequence[Row]) -> Sequence[Mapping[str, float | None]]:
        """Unbounded float32 margins; many probabilities would be equal."""
        pairs = [(query.text, self._source.document(query, record).full_text) for query, record in rows]
        margins = self._scorer.score(pairs)
        return [{self.name: round(margin, DIGITS) if math.isfinite(margin) else None} for margin in margins]


class RankColumn:
    """The rank of the query's source document, from 1; None below the search depth."""

    block = SEARCHED_TOGETHER

    def __init__(self, search: SearchWithScores, depth: int, source: Source, name: str, similarity: str = "") -> None:
        """`similarity` names a second column, the score of the source document."""
        self.name, self._similarity = name, similarity
        self._search, self._depth, self._source = search, depth, source

    def score(self, rows: Sequence[Row]) -> Sequence[Mapping[str, float | None]]:
        """Ranks and similarities. Raises StaleInputError for a document missing from the corpus."""
        for query, _ in rows:
            if self._source.corpus is not None and query.doc_id not in self._source.corpus:
                raise StaleInputError(
                    f"{self._source.path}: query {query.query_id!r} is about document {query.doc_id!r}, which this "
                    "corpus lacks; give the corpus it was written for"
                )
        pairs = [(query.query_id, query.doc_id) for query, _ in rows]
        run, scores = self._search([Query(query.query_id, query.text) for query, _ in rows], self._depth, pairs)
        columns: list[dict[str, float | None]] = [{self.name: rank_of(run.get(q, {}), d)} for q, d in pairs]
        if self._similarity:
            for one, pair in zip(columns, pairs, strict=True):
                one[self._similarity] = round(scores[pair], DIGITS)
        return columns


def rank_of(scores: dict[str, float], doc_id: str) -> int | None:
    """The rank of a document, from 1; None if it is not ranked."""
    if doc_id not in scores:
        return None
    return next(position for position, (other, _) in enumerate(rank(scores), start=1) if other == doc_id)


def load_bm25_rank(source: Source, options: ScoreOptions, progress: Progress) -> ColumnScorer:
    """The rank of the source document by BM25. Raises ConfigError without a corpus."""
    return RankColumn(_search(BM25, source, options, progress), options.depth, source, "bm25_rank")


def load_dense_rank(source: Source, options: ScoreOptions, progress: Progress) -> ColumnScorer:
    """The rank and the score of the source document by a bi-encoder. Raises ConfigError without a corpus."""
    search = _search(options.model_name, source, options, progress)
    return RankColumn(search, options.depth, source, "dense_rank", "dense_score")


def _search(retriever: str, source: Source, options: ScoreOptions, progress: Progress) -> SearchWithScores:
    """Raises ConfigError without a corpus."""
    if source.corpus is None:
        raise ConfigError(f"--kind {options.kind} searches a corpus; give it with --dataset NAME or --corpus FILE")
    return search_with_scores(retriever, source.corpus, search_options(options), None, progress)


def load_answerability(source: Source, options: ScoreOptions, _progress: Progress) -> ColumnScorer:
    """The margin of a reader's best answer in the source document."""
    model, where = options.model_name, options.set_up()
    from inpars.rerankers.answerability import AnswerabilityScorer

    reader = AnswerabilityScorer(model, max_length=options.max_length, batch_tokens=options.batch_tokens, **where)
    return MarginColumn("answerability", reader, source)


def load_reranker(source: Source, options: ScoreOptions, _progress: Progress) -> ColumnScorer:
    """The margin of a reranker for the query and its source document."""
    reranker = RerankOptions(
        model=options.model_name,
        kind=options.reranker_kind,
        max_length=options.max_length,
        true_token=options.true_token,
        false_token=options.false_token,
        batch_tokens=options.batch_tokens,
        **options.computing,
    )
    return MarginColumn("reranker", load_run_scorer(reranker), source)


def search_options(options: ScoreOptions) -> SearchOptions:
    """The options of the bi-encoder or BM25."""
    settings = SearchOptions(max_length=options.max_length, **options.bm25, **options.clustered)
    return settings if options.batch_size is None else replace(settings, batch_size=options.batch_size)
