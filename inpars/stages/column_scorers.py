"""What gives queries numbers, by kind: a reranker's margin, a rank among the documents, whether there is an answer."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from inpars.corpus import Corpus
from inpars.errors import ConfigError, DataFormatError, StaleInputError
from inpars.progress import Progress
from inpars.records import Query, Run, SyntheticQuery
from inpars.runs import rank

if TYPE_CHECKING:
    from inpars.protocols import PairScorer
    from inpars.stages.scoring import ScoreOptions

DIGITS = 6  # decimals kept in files
SEARCHED_TOGETHER = 500
Row = tuple[SyntheticQuery, dict[str, Any]]
TextOf = Callable[[SyntheticQuery, dict[str, Any]], str]


class ColumnScorer(Protocol):
    """Gives each query of a block a number, or several by name, None where there is none."""

    name: str  # of the first number
    block: int  # queries that are scored and saved together

    def score(self, rows: Sequence[Row]) -> Sequence[Mapping[str, float | None]]:
        """Numbers by name, in the order of the rows."""
        ...


class MarginColumn:
    """How well the query's own document answers it, by any scorer of pairs."""

    block = 100  # half a minute of a slow reranker

    def __init__(self, name: str, scorer: PairScorer, text_of: TextOf) -> None:
        self.name, self._scorer, self._text_of = name, scorer, text_of

    def score(self, rows: Sequence[Row]) -> Sequence[Mapping[str, float | None]]:
        """Float32 margins, unbounded; no probabilities, of which many would be equal."""
        margins = self._scorer.score([(query.text, self._text_of(query, record)) for query, record in rows])
        return [{self.name: round(margin, DIGITS) if math.isfinite(margin) else None} for margin in margins]


Search: TypeAlias = Callable[[Sequence[Query]], Run]
Similarity: TypeAlias = Callable[
    [Sequence[Query], Sequence[tuple[str, str]]], tuple[Run, Mapping[tuple[str, str], float]]
]


class RankColumn:
    """The rank of the query's own document, from 1; None where it is not among the first."""

    block = SEARCHED_TOGETHER

    def __init__(self, name: str, search: Search, corpus: Corpus, source: Path) -> None:
        self.name, self._search, self._corpus, self._source = name, search, corpus, source

    def score(self, rows: Sequence[Row]) -> Sequence[Mapping[str, float | None]]:
        """Ranks. Raises StaleInputError for a document that the corpus lacks."""
        _check_documents(rows, self._corpus, self._source)
        run = self._search([Query(query.query_id, query.text) for query, _ in rows])
        return [{self.name: own_rank(run.get(query.query_id, {}), query.doc_id)} for query, _ in rows]


class DenseColumns:
    """The rank of the query's own document as a bi-encoder sees it, and how near the two are."""

    name, block = "dense_rank", SEARCHED_TOGETHER

    def __init__(self, search: Similarity, corpus: Corpus, source: Path) -> None:
        self._search, self._corpus, self._source = search, corpus, source

    def score(self, rows: Sequence[Row]) -> Sequence[Mapping[str, float | None]]:
        """Ranks and similarities. Raises StaleInputError for a document that the corpus lacks."""
        _check_documents(rows, self._corpus, self._source)
        pairs = [(query.query_id, query.doc_id) for query, _ in rows]
        run, near = self._search([Query(query.query_id, query.text) for query, _ in rows], pairs)
        return [
            {self.name: own_rank(run.get(query_id, {}), doc_id), "dense_score": round(near[query_id, doc_id], DIGITS)}
            for query_id, doc_id in pairs
        ]


def _check_documents(rows: Sequence[Row], corpus: Corpus, source: Path) -> None:
    for query, _ in rows:
        if query.doc_id not in corpus:
            raise StaleInputError(
                f"{source}: query {query.query_id!r} is about document {query.doc_id!r}, which this corpus lacks; "
                "give the corpus it was written for"
            )


def own_rank(scores: dict[str, float], doc_id: str) -> int | None:
    """The place of a document in a ranking, from 1."""
    if doc_id not in scores:
        return None
    return next(place for place, (found, _) in enumerate(rank(scores), start=1) if found == doc_id)


def load_column(source: Path, options: ScoreOptions, corpus: Corpus | None, progress: Progress) -> ColumnScorer:
    """The scorer the options name. Torch or the JVM is loaded here and not before."""
    if options.kind == "bm25-rank":
        return _bm25_column(source, options, _needed(corpus, options), progress)
    from inpars.models.hardware import compute_with

    compute_with(options.threads, options.engine_backend)
    common: dict[str, Any] = {"max_length": options.max_length, **options.placement}
    if options.kind == "dense-rank":
        return _dense_column(source, options, _needed(corpus, options), common, progress)
    text_of = text_lookup(source, corpus)
    if options.kind == "answerability":
        from inpars.scoring.answerability import AnswerabilityScorer

        reader = AnswerabilityScorer(options.model_name, batch_tokens=options.batch_tokens, **common)
        return MarginColumn("answerability", reader, text_of)
    from inpars.scoring import load_scorer

    scorer = load_scorer(
        options.model_name,
        kind=options.reranker_kind,
        batch_tokens=options.batch_tokens,
        true_token=options.true_token,
        false_token=options.false_token,
        **common,
    )
    return MarginColumn("reranker", scorer, text_of)


def text_lookup(source: Path, corpus: Corpus | None) -> TextOf:
    """How a query's document is found: in the corpus, else in the query's row."""

    def text_of(query: SyntheticQuery, record: dict[str, Any]) -> str:
        if corpus is not None:
            return corpus[query.doc_id].full_text
        text = record.get("text") or record.get("doc_text")
        if not isinstance(text, str):
            raise DataFormatError(
                f"query {query.query_id!r} has no document text; name the documents with --dataset or --corpus",
                path=source,
            )
        return text

    return text_of


def _bm25_column(source: Path, options: ScoreOptions, corpus: Corpus, progress: Progress) -> ColumnScorer:
    from inpars.retrieval.bm25 import bm25_index

    index = bm25_index(
        corpus, k1=options.k1, b=options.b, language=options.language, threads=options.threads, progress=progress
    )

    def search(queries: Sequence[Query]) -> Run:
        return index.search(queries, options.depth, threads=options.threads)

    return RankColumn("bm25_rank", search, corpus, source)


def _dense_column(
    source: Path, options: ScoreOptions, corpus: Corpus, common: dict[str, Any], progress: Progress
) -> ColumnScorer:
    from inpars.retrieval.dense import DEFAULT_BATCH_SIZE, Encoder, dense_index

    encoder = Encoder(options.model_name, batch_size=options.batch_size or DEFAULT_BATCH_SIZE, **common)
    index = dense_index(corpus, encoder, progress=progress)

    def search(
        queries: Sequence[Query], pairs: Sequence[tuple[str, str]]
    ) -> tuple[Run, Mapping[tuple[str, str], float]]:
        return index.search_beside(queries, options.depth, pairs)

    return DenseColumns(search, corpus, source)


def _needed(corpus: Corpus | None, options: ScoreOptions) -> Corpus:
    if corpus is None:
        raise ConfigError(f"--kind {options.kind} searches a corpus; give it with --dataset NAME or --corpus FILE")
    return corpus
