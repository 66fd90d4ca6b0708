"""Triples block by block: each query's positives, and the negatives drawn against them.

What is drawn depends on the seed, the query's id and its positive alone: not on blocks, order or other queries. Knows
nothing of files; `negatives.py` says what may be drawn.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from inpars.errors import ConfigError
from inpars.negatives.rules import (
    NO_RULE,
    Documents,
    ExcludedDocuments,
    Negative,
    RelevantDocuments,
    ScoreRule,
    Source,
    choose,
    from_anywhere,
    in_random_order,
    window,
)
from inpars.pairs.headings import name_in
from inpars.protocols import PairScorer
from inpars.records import Document, Query, Run, Triple
from inpars.runs import rank
from inpars.text.hashing import sampling_key

RANK_DIGITS = 9  # Java counts documents in 32 bits
NegativesMode: TypeAlias = Literal["bm25", "dense", "both", "random"]
SOURCES: Mapping[NegativesMode, tuple[Source, ...]] = {
    "bm25": ("bm25",),
    "dense": ("dense",),
    "both": ("bm25", "dense"),
    "random": (),
}


@dataclass(frozen=True, slots=True)
class QueryWithPositives:
    """A query and the documents that answer it."""

    query: Query
    positives: tuple[str, ...]
    may_stand_above: bool = False  # the query may be a heading of its document
    is_generated: bool = False  # a model wrote it for its only positive, which may be replaced
    own: str | None = None  # the document it was written for, where another is the positive
    grades: Mapping[str, int] = field(default_factory=dict)  # of the positives, where they are kept


@dataclass(frozen=True, slots=True)
class MiningConfig:
    """How negatives are drawn; with a scorer the rule uses its scores of this many candidates per positive."""

    negatives: NegativesMode = "bm25"
    ranks: tuple[int, int] = (1, 100)
    per_query: int = 1
    positive_within: int | None = None
    rule: ScoreRule = field(default_factory=ScoreRule)
    rescore_candidates: int = 10
    seed: int = 0
    best_positives: bool = False

    def __post_init__(self) -> None:
        """Raise ConfigError for numbers that make no sense."""
        if self.per_query < 1:
            raise ConfigError(f"--per-query is {self.per_query}; it must be at least 1")

    @property
    def searched(self) -> tuple[Source, ...]:
        """The retrievers that are asked; random negatives need BM25 for the round trip and for positives alone."""
        return SOURCES[self.negatives] or (("bm25",) if self.positive_within or self.best_positives else ())

    def depth(self, relevant: int) -> int:
        """Documents asked for: the window, the positive, and room for those judged relevant, in few sizes."""
        room = 1 << (relevant - 1).bit_length() if relevant else 0
        return max(self.ranks[1] + 1 + room, self.positive_within or 1)


@dataclass(frozen=True, slots=True)
class MinedQuery:
    """One query with one positive and what stands against it."""

    query: Query
    positive: Document
    negatives: Sequence[Negative]
    is_heading: bool = False
    grade: int | None = None  # of the positive
    own: str | None = None  # the document that the query was written for, where another is the positive

    def text_of(self, document: Document) -> str:
        """What is shown of a document: not its title where the query is a heading, which would give it away."""
        return document.text if self.is_heading else document.full_text

    @property
    def triples(self) -> list[Triple]:
        """The ids."""
        return [Triple(self.query.query_id, self.positive.doc_id, negative.doc_id) for negative in self.negatives]


Pair: TypeAlias = tuple[str, str]
_Found: TypeAlias = tuple[Run, Mapping[Pair, float]]
SearchBeside: TypeAlias = Callable[[Sequence[Query], int, Sequence[Pair]], _Found]
"""Queries, depth and (query_id, positive) pairs to a run and the scores of those pairs that have one."""


@dataclass(slots=True)
class Counts:
    """What happened to queries and candidates, by reason."""

    queries: int = 0
    pairs: int = 0
    dropped: Counter[str] = field(default_factory=Counter)  # (query, positive) pairs
    passed_over: Counter[str] = field(default_factory=Counter)  # candidates
    sources: Counter[str] = field(default_factory=Counter)  # negatives
    not_retrieved: int = 0  # positives that BM25, or else the first retriever, does not find


def parse_ranks(text: str) -> tuple[int, int]:
    """`10-100` as (10, 100): first and last rank, counted from 1. Raises ConfigError."""
    first, _, last = text.partition("-")
    usable = all(part.isdecimal() and len(part) <= RANK_DIGITS for part in (first, last))
    if not (usable and 1 <= int(first) <= int(last)):
        raise ConfigError(f"--ranks is {text!r}; write the first and the last rank, 1-100 for instance")
    return int(first), int(last)


def rank_problems(ranks: str, per_query: int) -> Iterator[str]:
    """What is wrong with ranks that so many negatives of each positive are to be drawn from."""
    try:
        first, last = parse_ranks(ranks)
    except ConfigError as error:
        yield str(error)
        return
    if per_query > (count := last - first + 1):
        yield f"--per-query is {per_query}, but --ranks {ranks} holds {count}; give more ranks or fewer negatives"


class NegativeMiner:
    """Draws negatives for blocks of queries and counts what it leaves out."""

    def __init__(
        self,
        corpus: Documents,
        draw: MiningConfig,
        searches: Mapping[Source, SearchBeside],
        *,
        judged: RelevantDocuments | None = None,
        scorer: PairScorer | None = None,
        own_documents: Callable[[Mapping[str, str]], Collection[str]] = lambda _: (),
    ) -> None:
        """`searches` holds one for each of `draw.searched`; `own_documents` says which queries are documents."""
        self._corpus, self._draw, self._searches = corpus, draw, searches
        self._judged, self._scorer, self._own = judged or RelevantDocuments(), scorer, own_documents
        self.counts = Counts()

    def mine(self, block: Sequence[QueryWithPositives]) -> tuple[list[MinedQuery], Mapping[Source, Run]]:
        """The block's queries that have negatives, in order, and the runs these were drawn from."""
        self.counts.queries += len(block)
        self.counts.pairs += sum(len(asked.positives) for asked in block)
        relevant = self._relevant(block)
        found = {source: self._search(source, block, relevant) for source in self._draw.searched}
        pools = [pool for asked in block for pool in self._pools(asked, relevant[asked.query.query_id], found)]
        mined = pools if self._scorer is None else list(self._rescored(pools, self._scorer))
        for one in mined:
            self.counts.sources.update(negative.source for negative in one.negatives)
        return mined, {source: run for source, (run, _) in found.items()}

    def _relevant(self, block: Sequence[QueryWithPositives]) -> dict[str, frozenset[str]]:
        """For each query what is judged relevant, its positives, and the query itself where it is a document."""
        own = self._own({asked.query.query_id: asked.query.text for asked in block})
        found: dict[str, frozenset[str]] = {}
        for asked in block:
            query, several = asked.query, asked.positives if len(asked.positives) > 1 else ()
            itself = [query.query_id] if query.query_id in own else []
            itself += [] if asked.own is None else [asked.own]
            found[query.query_id] = self._judged.relevant(query.query_id, query.text).union(several, itself)
        return found

    def _search(
        self, source: Source, block: Sequence[QueryWithPositives], relevant: Mapping[str, Collection[str]]
    ) -> _Found:
        """The block's run; queries are asked for as many documents as they themselves need, whatever their block."""
        depths = {asked.query.query_id: self._draw.depth(len(relevant[asked.query.query_id])) for asked in block}
        found: Run = {}
        scores: dict[Pair, float] = {}
        for depth in sorted(set(depths.values())):
            group = [asked for asked in block if depths[asked.query.query_id] == depth]
            pairs = [(asked.query.query_id, positive) for asked in group for positive in asked.positives]
            run, positives = self._searches[source]([asked.query for asked in group], depth, pairs)
            found |= run
            scores |= positives
        return {asked.query.query_id: found.get(asked.query.query_id, {}) for asked in block}, scores

    def _pools(
        self, asked: QueryWithPositives, relevant: Collection[str], found: Mapping[Source, _Found]
    ) -> Iterator[MinedQuery]:
        """For each positive the candidates that are allowed, as many as are wanted or rescored."""
        query_id = asked.query.query_id
        runs = {source: run[query_id] for source, (run, _) in found.items()}
        forbidden = ExcludedDocuments.of(self._corpus, (*asked.positives, *relevant))
        windows = [
            window(source, scores, forbidden, self._corpus, ranks=self._draw.ranks, per_query=self._draw.per_query)
            for source, scores in runs.items()
        ]
        for positive in asked.positives:
            document = self._corpus[positive]
            heading = name_in(asked.query.text, document) if asked.may_stand_above else None
            against = replace(forbidden, heading=heading)
            scores = {
                source: similar[query_id, positive]
                for source, (_, similar) in found.items()
                if (query_id, positive) in similar
            }
            if runs:
                self.counts.not_retrieved += positive not in next(iter(runs.values()))
            reason = self._why_not(asked.query, document, runs, scores)
            if reason is not None:
                self.counts.dropped[reason] += 1
                continue
            pool = self._pool(asked.query, document, windows, against, scores)
            if pool is not None:
                yield replace(pool, grade=asked.grades.get(positive), own=asked.own)

    def _pool(
        self,
        query: Query,
        positive: Document,
        windows: Sequence[Sequence[Negative]],
        forbidden: ExcludedDocuments,
        positive_scores: Mapping[Source, float],
    ) -> MinedQuery | None:
        """The candidates of one positive; None, and counted, where there is none."""
        key = sampling_key(self._draw.seed, f"{query.query_id}\0{positive.doc_id}")
        if self._draw.negatives == "random":
            candidates = from_anywhere(self._corpus, key, self._pool_size)
        else:
            candidates = in_random_order(windows, key)
        passed_over: Counter[str] = Counter()
        chosen = choose(
            candidates,
            forbidden,
            self._corpus,
            wanted=self._draw.per_query if self._scorer is None else self._pool_size,
            passed_over=passed_over,
            rule=self._draw.rule if self._scorer is None else NO_RULE,
            positive_scores=positive_scores,
        )
        self.counts.passed_over += passed_over
        mined = MinedQuery(query, positive, chosen, forbidden.heading is not None)
        return self._kept(mined, too_near="too_near_the_positive" in passed_over)

    @property
    def _pool_size(self) -> int:
        return max(self._draw.rescore_candidates, self._draw.per_query)

    def _why_not(
        self, query: Query, positive: Document, runs: Mapping[Source, Mapping[str, float]], scores: Collection[Source]
    ) -> str | None:
        """Why a positive is dropped before anything is drawn against it; `scores` are the retrievers that score it."""
        if not query.text.strip():
            return "empty_query"
        if not positive.full_text.strip():
            return "empty_document"
        within = self._draw.positive_within
        if within is not None and positive.doc_id not in dict(rank(next(iter(runs.values())), within)):
            return "positive_not_retrieved"
        if self._draw.rule and self._scorer is None and not scores:
            return "positive_not_retrieved"  # nothing that was found scores below it
        return None

    def _rescored(self, pools: Sequence[MinedQuery], scorer: PairScorer) -> Iterator[MinedQuery]:
        """The candidates with the scorer's scores, and of them those the rule admits, in the order of the draw."""
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
            admitted = [one for one in rescored if self._draw.rule.admits(one.reranker_score, positive_score)]
            self.counts.passed_over.update({"too_near_the_positive": len(rescored) - len(admitted)})
            kept = self._kept(
                replace(pool, negatives=admitted[: self._draw.per_query]),
                too_near=len(admitted) < len(rescored),
            )
            if kept is not None:
                yield kept

    def _kept(self, mined: MinedQuery, *, too_near: bool) -> MinedQuery | None:
        if mined.negatives:
            return mined
        self.counts.dropped["too_near_the_positive" if too_near else "no_negatives"] += 1
        return None
