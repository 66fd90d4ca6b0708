"""Mines negatives for each query and each of its positives, block by block.

The draw depends only on the seed, the query's id and its positive, not on blocks, order or other queries. `rules.py`
decides which documents are allowed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from inpars.errors import ConfigError
from inpars.io.corpus import Corpus
from inpars.io.runs import rank
from inpars.negatives.rules import (
    NO_RULE,
    ExcludedDocuments,
    MarginRule,
    Negative,
    RelevantDocuments,
    Source,
    interleave_shuffled,
    random_documents,
    rank_window,
    select_negatives,
)
from inpars.pairs.headings import name_in
from inpars.protocols import PairScorer
from inpars.records import Document, Query, Run, Triple
from inpars.text.hashing import sampling_key

RANK_DIGITS = 9  # Java ranks are 32-bit
NegativesMode: TypeAlias = Literal["bm25", "dense", "both", "random"]
SOURCES: Mapping[NegativesMode, tuple[Source, ...]] = {
    "bm25": ("bm25",),
    "dense": ("dense",),
    "both": ("bm25", "dense"),
    "random": (),
}


@dataclass(frozen=True, slots=True)
class QueryWithPositives:
    """A query and its relevant documents."""

    query: Query
    positives: tuple[str, ...]
    may_stand_above: bool = False  # the query may be a heading of its document
    is_generated: bool = False  # for its only positive, which may be replaced
    original_positive: str | None = None  # the document it was written for, if replaced
    grades: Mapping[str, int] = field(default_factory=dict)  # of the positives, if kept


@dataclass(frozen=True, slots=True)
class MiningConfig:
    """How negatives are drawn; with a scorer, the rule applies to its scores of `rescore_candidates` per positive."""

    negatives: NegativesMode = "bm25"
    ranks: tuple[int, int] = (1, 100)
    per_query: int = 1
    positive_within: int | None = None
    rule: MarginRule = field(default_factory=MarginRule)
    rescore_candidates: int = 10
    seed: int = 0
    best_positives: bool = False

    def __post_init__(self) -> None:
        if self.per_query < 1:
            raise ConfigError(f"--per-query is {self.per_query}; it must be at least 1")

    @property
    def searched(self) -> tuple[Source, ...]:
        """The retrievers to search; random negatives need BM25 only for the round trip and for best positives."""
        return SOURCES[self.negatives] or (("bm25",) if self.positive_within or self.best_positives else ())

    def depth(self, relevant: int) -> int:
        """Search depth: the window, the positive and the relevant documents, rounded up to a few distinct depths."""
        room = 1 << (relevant - 1).bit_length() if relevant else 0
        return max(self.ranks[1] + 1 + room, self.positive_within or 1)


@dataclass(frozen=True, slots=True)
class MinedQuery:
    """One query with one positive and its negatives."""

    query: Query
    positive: Document
    negatives: Sequence[Negative]
    is_heading: bool = False
    grade: int | None = None  # of the positive
    original_positive: str | None = None  # the document that the query was written for, if replaced

    def text_of(self, document: Document) -> str:
        """A document's text; without its title if the query is a heading, which the title may repeat."""
        return document.text if self.is_heading else document.full_text

    @property
    def triples(self) -> list[Triple]:
        """One triple of ids per negative."""
        return [Triple(self.query.query_id, self.positive.doc_id, negative.doc_id) for negative in self.negatives]


Pair: TypeAlias = tuple[str, str]
_Searched: TypeAlias = tuple[Run, Mapping[Pair, float]]
SearchWithScores: TypeAlias = Callable[[Sequence[Query], int, Sequence[Pair]], _Searched]
"""From queries, depth and (query_id, positive) pairs to a run and the scores of the pairs that have one."""


@dataclass(slots=True)
class Counts:
    """Numbers of queries, pairs and negatives, and of dropped pairs and skipped candidates by reason."""

    queries: int = 0
    pairs: int = 0
    dropped: Counter[str] = field(default_factory=Counter)  # (query, positive) pairs
    skipped: Counter[str] = field(default_factory=Counter)  # candidates
    sources: Counter[str] = field(default_factory=Counter)  # negatives
    above_window: int = 0  # negatives of rankings that end before the window
    not_retrieved: int = 0  # positives that the first retriever does not find


def parse_ranks(text: str) -> tuple[int, int]:
    """`10-100` as (10, 100): first and last rank, counted from 1. Raises ConfigError."""
    first, _, last = text.partition("-")
    usable = all(part.isdecimal() and len(part) <= RANK_DIGITS for part in (first, last))
    if not (usable and 1 <= int(first) <= int(last)):
        raise ConfigError(f"--ranks is {text!r}; write the first and the last rank, 1-100 for instance")
    return int(first), int(last)


def rank_problems(ranks: str, per_query: int) -> Iterator[str]:
    """Problems with drawing `per_query` negatives from these ranks."""
    try:
        first, last = parse_ranks(ranks)
    except ConfigError as error:
        yield str(error)
        return
    if per_query > (count := last - first + 1):
        yield f"--per-query is {per_query}, but --ranks {ranks} holds {count}; give more ranks or fewer negatives"


class NegativeMiner:
    """Draws negatives for blocks of queries and counts what it drops."""

    def __init__(
        self,
        corpus: Corpus,
        config: MiningConfig,
        searches: Mapping[Source, SearchWithScores],
        *,
        judged: RelevantDocuments | None = None,
        scorer: PairScorer | None = None,
        document_queries: Callable[[Mapping[str, str]], Collection[str]] = lambda _: (),
    ) -> None:
        """`searches` has an entry per `config.searched`; `document_queries` gives the queries that are documents."""
        self._corpus, self._config, self._searches = corpus, config, searches
        self._judged, self._scorer, self._document_queries = judged or RelevantDocuments(), scorer, document_queries
        self.counts = Counts()

    def mine(self, block: Sequence[QueryWithPositives]) -> tuple[list[MinedQuery], Mapping[Source, Run]]:
        """The block's queries with negatives, in order, and the runs that these were drawn from."""
        self.counts.queries += len(block)
        self.counts.pairs += sum(len(item.positives) for item in block)
        relevant = self._relevant(block)
        searched = {source: self._search(source, block, relevant) for source in self._config.searched}
        mined = [one for item in block for one in self._mine_query(item, relevant[item.query.query_id], searched)]
        if self._scorer is not None:
            mined = list(self._rescored(mined, self._scorer))
        for query_negatives in mined:
            self.counts.sources.update(negative.source for negative in query_negatives.negatives)
            ranks = (negative.rank for negative in query_negatives.negatives if negative.rank is not None)
            self.counts.above_window += sum(rank < self._config.ranks[0] for rank in ranks)
        return mined, {source: run for source, (run, _) in searched.items()}

    def _relevant(self, block: Sequence[QueryWithPositives]) -> dict[str, frozenset[str]]:
        """Relevant documents per query, including several positives and the query itself if it is a document."""
        documents = self._document_queries({item.query.query_id: item.query.text for item in block})
        relevant: dict[str, frozenset[str]] = {}
        for item in block:
            query, several = item.query, item.positives if len(item.positives) > 1 else ()
            sources = [query.query_id] if query.query_id in documents else []
            sources += [] if item.original_positive is None else [item.original_positive]
            relevant[query.query_id] = self._judged.relevant(query.query_id, query.text).union(several, sources)
        return relevant

    def _search(
        self, source: Source, block: Sequence[QueryWithPositives], relevant: Mapping[str, Collection[str]]
    ) -> _Searched:
        """The block's run; the depth of a query does not depend on the block."""
        depths = {item.query.query_id: self._config.depth(len(relevant[item.query.query_id])) for item in block}
        block_run: Run = {}
        scores: dict[Pair, float] = {}
        for depth in sorted(set(depths.values())):
            group = [item for item in block if depths[item.query.query_id] == depth]
            pairs = [(item.query.query_id, positive) for item in group for positive in item.positives]
            run, positives = self._searches[source]([item.query for item in group], depth, pairs)
            block_run |= run
            scores |= positives
        return {item.query.query_id: block_run.get(item.query.query_id, {}) for item in block}, scores

    def _mine_query(
        self, item: QueryWithPositives, relevant: Collection[str], searched: Mapping[Source, _Searched]
    ) -> Iterator[MinedQuery]:
        """Per positive, as many allowed candidates as are needed or rescored."""
        query_id = item.query.query_id
        runs = {source: run[query_id] for source, (run, _) in searched.items()}
        excluded = ExcludedDocuments.of(self._corpus, (*item.positives, *relevant))
        windows = [
            rank_window(
                source, scores, excluded, self._corpus, ranks=self._config.ranks, per_query=self._config.per_query
            )
            for source, scores in runs.items()
        ]
        for positive in item.positives:
            document = self._corpus[positive]
            heading = name_in(item.query.text, document) if item.may_stand_above else None
            excluded_below = replace(excluded, heading=heading)
            scores = {
                source: pair_scores[query_id, positive]
                for source, (_, pair_scores) in searched.items()
                if (query_id, positive) in pair_scores
            }
            if runs:
                self.counts.not_retrieved += positive not in next(iter(runs.values()))
            reason = self._drop_reason(item.query, document, runs, scores)
            if reason is not None:
                self.counts.dropped[reason] += 1
                continue
            mined = self._mine_positive(item.query, document, windows, excluded_below, scores)
            if mined is not None:
                yield replace(mined, grade=item.grades.get(positive), original_positive=item.original_positive)

    def _mine_positive(
        self,
        query: Query,
        positive: Document,
        windows: Sequence[Sequence[Negative]],
        excluded: ExcludedDocuments,
        positive_scores: Mapping[Source, float],
    ) -> MinedQuery | None:
        """The negatives of one positive; None if there are none, which is counted."""
        key = sampling_key(self._config.seed, f"{query.query_id}\0{positive.doc_id}")
        if self._config.negatives == "random":
            candidates = random_documents(self._corpus, key, self._candidate_count)
        else:
            candidates = interleave_shuffled(windows, key)
        skipped: Counter[str] = Counter()
        chosen = select_negatives(
            candidates,
            excluded,
            self._corpus,
            count=self._config.per_query if self._scorer is None else self._candidate_count,
            skipped=skipped,
            rule=self._config.rule if self._scorer is None else NO_RULE,
            positive_scores=positive_scores,
        )
        self.counts.skipped += skipped
        mined = MinedQuery(query, positive, chosen, excluded.heading is not None)
        return self._unless_empty(mined, too_near="too_near_the_positive" in skipped)

    @property
    def _candidate_count(self) -> int:
        return max(self._config.rescore_candidates, self._config.per_query)

    def _drop_reason(
        self, query: Query, positive: Document, runs: Mapping[Source, Mapping[str, float]], scores: Collection[Source]
    ) -> str | None:
        """Why a positive is dropped before drawing; `scores` are the retrievers that score it."""
        if not query.text.strip():
            return "empty_query"
        if not positive.full_text.strip():
            return "empty_document"
        within = self._config.positive_within
        if within is not None and positive.doc_id not in dict(rank(next(iter(runs.values())), within)):
            return "positive_not_retrieved"
        if self._config.rule and self._scorer is None and not scores:
            return "positive_not_retrieved"  # no result scores below it
        return None

    def _rescored(self, pools: Sequence[MinedQuery], scorer: PairScorer) -> Iterator[MinedQuery]:
        """The candidates that the rule allows by the scorer's scores, in drawing order."""
        documents = {(pool.query.text, pool.positive.doc_id): pool.text_of(pool.positive) for pool in pools}
        for pool in pools:
            for negative in pool.negatives:
                key = (pool.query.text, negative.doc_id)
                documents.setdefault(key, pool.text_of(self._corpus[negative.doc_id]))
        scored = scorer.score([(text, document) for (text, _), document in documents.items()])
        scores = dict(zip(documents, scored, strict=True))
        for pool in pools:
            positive_score = scores[pool.query.text, pool.positive.doc_id]
            rescored = [
                replace(
                    negative,
                    reranker_score=scores[pool.query.text, negative.doc_id],
                    positive_reranker_score=positive_score,
                )
                for negative in pool.negatives
            ]
            rule = self._config.rule
            allowed = [negative for negative in rescored if rule.allows(negative.reranker_score, positive_score)]
            self.counts.skipped.update({"too_near_the_positive": len(rescored) - len(allowed)})
            result = self._unless_empty(
                replace(pool, negatives=allowed[: self._config.per_query]), too_near=len(allowed) < len(rescored)
            )
            if result is not None:
                yield result

    def _unless_empty(self, mined: MinedQuery, *, too_near: bool) -> MinedQuery | None:
        if mined.negatives:
            return mined
        self.counts.dropped["too_near_the_positive" if too_near else "no_negatives"] += 1
        return None


def best_document(original: str, scores: Mapping[str, float]) -> str:
    """The document with the highest score; ties go to the original, then to the lower id."""
    return min(scores, key=lambda doc_id: (-scores[doc_id], doc_id != original, doc_id))


class PositiveChooser:
    """Replaces the positives of synthetic queries by better documents and counts the replaced ones.

    A query's best document may differ from the one it was written for (Gecko, arXiv 2403.20327): a reranker scores the
    original and the retrieved documents, and the best becomes the positive if it scores above the original.
    """

    def __init__(
        self, corpus: Corpus, searches: Mapping[Source, SearchWithScores], scorer: PairScorer, candidates: int
    ) -> None:
        """`candidates` is the number of documents to score per retriever."""
        self._corpus, self._searches, self._scorer, self._depth = corpus, searches, scorer, candidates
        self.replaced = 0

    def choose(self, block: Sequence[QueryWithPositives]) -> list[QueryWithPositives]:
        """The same queries; a replaced positive becomes `original_positive`."""
        generated = [item for item in block if item.is_generated and item.query.text.strip()]
        candidates = self._candidates(generated)
        pairs = dict.fromkeys(
            (item.query.text, doc_id) for item in generated for doc_id in candidates[item.query.query_id]
        )
        scored = self._scorer.score([(text, self._corpus[doc_id].full_text) for text, doc_id in pairs]) if pairs else []
        scores = dict(zip(pairs, scored, strict=True))
        best = {
            item.query.query_id: best_document(
                item.positives[0],
                {doc_id: scores[item.query.text, doc_id] for doc_id in candidates[item.query.query_id]},
            )
            for item in generated
        }
        return [self._with_positive(item, best.get(item.query.query_id)) for item in block]

    def _candidates(self, block: Sequence[QueryWithPositives]) -> dict[str, list[str]]:
        """Per query, its original positive and the retrieved documents, without duplicates."""
        candidates = {item.query.query_id: [item.positives[0]] for item in block}
        for search in self._searches.values():
            run, _ = search([item.query for item in block], self._depth, []) if block else ({}, {})
            for query_id, doc_ids in candidates.items():
                doc_ids += [doc_id for doc_id, _ in rank(run.get(query_id, {}), self._depth) if doc_id not in doc_ids]
        return candidates

    def _with_positive(self, item: QueryWithPositives, best: str | None) -> QueryWithPositives:
        original = item.positives[0] if item.positives else None
        if best is None or original is None or best == original:
            return item
        if self._corpus.text_key(best) == self._corpus.text_key(original):
            return item
        self.replaced += 1
        return replace(item, positives=(best,), original_positive=original)
