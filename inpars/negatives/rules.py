"""Decides which documents may be a query's negatives. Pure functions over rankings.

Never drawn: the positive, documents judged relevant for the query or for one with the same words, and documents with
the same text as one of these; for a query that is a heading, also the passages below the same heading. Score rules
exclude probably relevant documents: TopK-MarginPos and TopK-PercPos of NV-Retriever (arXiv 2407.15831).
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice, zip_longest
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from inpars.errors import ConfigError
from inpars.io.corpus import Corpus
from inpars.io.runs import rank
from inpars.pairs.headings import headings_of
from inpars.records import Qrels
from inpars.text.words import query_key

Source: TypeAlias = Literal["bm25", "dense", "random"]
RANDOM_TRIES = 100  # maximum number of documents drawn per random negative


@dataclass(frozen=True, slots=True)
class Negative:
    """A candidate negative and its origin.

    `rank` counts from 1, as `--ranks` does, without the positive and the documents judged relevant. Random negatives
    have no rank and no score; `positive_score` is None if the retriever did not find the positive.
    """

    doc_id: str
    source: Source
    rank: int | None = None
    score: float | None = None
    positive_score: float | None = None
    reranker_score: float | None = None
    positive_reranker_score: float | None = None

    def record(self, query_id: str, positive_doc_id: str, positive_grade: int | None = None) -> dict[str, Any]:
        """The JSON form; includes the reranker's scores and the positive's grade only if known."""
        record: dict[str, Any] = {
            "query_id": query_id,
            "positive_doc_id": positive_doc_id,
            "negative_doc_id": self.doc_id,
            "source": self.source,
            "rank": self.rank,
            "score": self.score,
            "positive_score": self.positive_score,
        }
        if self.reranker_score is not None:
            record["reranker_score"] = self.reranker_score
            record["positive_reranker_score"] = self.positive_reranker_score
        return record if positive_grade is None else {**record, "positive_grade": positive_grade}


@dataclass(frozen=True, slots=True)
class MarginRule:
    """How far below the positive a negative must score; with both limits, both apply."""

    margin: float | None = None
    max_score_share: float | None = None

    def __post_init__(self) -> None:
        """Raise ConfigError for limits above the positive's score."""
        if self.margin is not None and not 0 <= self.margin < math.inf:
            raise ConfigError(f"--margin is {self.margin}; it must be a number of at least 0")
        if self.max_score_share is not None and not 0 < self.max_score_share <= 1:
            raise ConfigError(f"--max-score-share is {self.max_score_share}; it must be above 0 and at most 1")

    def __bool__(self) -> bool:
        return self.margin is not None or self.max_score_share is not None

    def allows(self, score: float | None, positive_score: float | None) -> bool:
        """Whether score <= positive - margin and score <= share * positive.

        Scores may be negative (sums of log-probabilities, logit margins). A share of a negative number is larger than
        it, so there the limit is positive / share: a share of 0.8 allows at most 8 for a positive of 10, and at most
        -12.5 for one of -10. Without a positive score nothing is allowed: a retriever that did not find the positive
        ranks it below all its results.
        """
        if not self:
            return True
        if score is None or positive_score is None:
            return False
        return score <= self.limit(positive_score)

    def limit(self, positive_score: float) -> float:
        """The highest score a negative may have; infinite without a rule."""
        limits = [math.inf]
        if self.margin is not None:
            limits.append(positive_score - self.margin)
        if (share := self.max_score_share) is not None:
            limits.append(positive_score * share if positive_score >= 0 else positive_score / share)
        return min(limits)


NO_RULE = MarginRule()


class RelevantDocuments:
    """Documents judged relevant, by the query's id and by its words."""

    def __init__(self) -> None:
        self._relevant: dict[str | int, tuple[str, ...]] = {}

    def add(self, queries: Mapping[str, str], qrels: Qrels) -> None:
        """Add the judgements of one split."""
        for query_id, grades in qrels.items():
            doc_ids = tuple(doc_id for doc_id, relevance in grades.items() if relevance > 0)
            keys = (query_id, *((query_key(queries[query_id]),) if query_id in queries else ()))
            for key in keys if doc_ids else ():
                self._relevant[key] = (*self._relevant.get(key, ()), *doc_ids)

    def relevant(self, query_id: str, text: str) -> frozenset[str]:
        """Documents judged relevant for a query with this id or the same words."""
        return frozenset((*self._relevant.get(query_id, ()), *self._relevant.get(query_key(text), ())))


@dataclass(frozen=True, slots=True)
class ExcludedDocuments:
    """Documents that cannot be negatives of one query, by id and by text."""

    doc_ids: frozenset[str]
    text_keys: frozenset[int]
    heading: str | None = None  # the query itself, if it is a heading: no passage below it may be drawn

    @classmethod
    def of(cls, corpus: Corpus, doc_ids: Iterable[str]) -> ExcludedDocuments:
        """Positives and relevant documents with their texts; ids may be missing from the corpus."""
        ids = frozenset(doc_ids)
        return cls(ids, frozenset(corpus.text_key(doc_id) for doc_id in ids if doc_id in corpus))


def rank_window(
    source: Source,
    scores: Mapping[str, float],
    excluded: ExcludedDocuments,
    corpus: Corpus,
    *,
    ranks: tuple[int, int],
    per_query: int,
) -> list[Negative]:
    """The candidates in a window of ranks, best first; the last `per_query` ones if the ranking ends before it."""
    ranked = [entry for entry in rank(scores) if entry[0] not in excluded.doc_ids]
    candidates = [Negative(doc_id, source, position, score) for position, (doc_id, score) in enumerate(ranked, start=1)]
    if window := candidates[ranks[0] - 1 : ranks[1]]:
        return window
    from_the_end = (one for one in reversed(candidates) if corpus.text_key(one.doc_id) not in excluded.text_keys)
    return list(islice(from_the_end, per_query))


def interleave_shuffled(windows: Iterable[Sequence[Negative]], key: int) -> Iterator[Negative]:
    """All candidates, each document once, drawn in turn from the windows; the key seeds the order."""
    generator = random.Random(key)
    orders = [generator.sample(candidates, len(candidates)) for candidates in windows]
    generator.shuffle(orders)
    seen: set[str] = set()
    for turn in zip_longest(*orders):
        for candidate in turn:
            if candidate is not None and candidate.doc_id not in seen:
                seen.add(candidate.doc_id)
                yield candidate


def random_documents(corpus: Corpus, key: int, count: int) -> Iterator[Negative]:
    """At most `RANDOM_TRIES` documents per negative, drawn uniformly without replacement."""
    tries = min(len(corpus), max(1, count) * RANDOM_TRIES)
    for position in random.Random(key).sample(range(len(corpus)), tries):
        yield Negative(corpus.at(position).doc_id, "random")


def select_negatives(
    candidates: Iterable[Negative],
    excluded: ExcludedDocuments,
    corpus: Corpus,
    *,
    count: int,
    skipped: Counter[str],
    rule: MarginRule = NO_RULE,
    positive_scores: Mapping[Source, float] = MappingProxyType({}),
) -> list[Negative]:
    """The first `count` allowed candidates, no two with the same text; counts the others by reason.

    `positive_scores` are the positive's scores by retriever.
    """
    selected: list[Negative] = []
    seen: set[int] = set()  # texts
    for drawn in candidates:
        candidate = replace(drawn, positive_score=positive_scores.get(drawn.source))
        reason = _skip_reason(candidate, excluded, corpus, rule, seen)
        if reason is not None:
            skipped[reason] += 1
            continue
        seen.add(corpus.text_key(candidate.doc_id))
        selected.append(candidate)
        if len(selected) == count:
            break
    return selected


def _skip_reason(
    candidate: Negative, excluded: ExcludedDocuments, corpus: Corpus, rule: MarginRule, seen: Collection[int]
) -> str | None:
    """Why a candidate cannot be a negative; `seen` are the texts selected before."""
    if candidate.doc_id in excluded.doc_ids:
        return "positive_or_relevant"
    if not rule.allows(candidate.score, candidate.positive_score):
        return "too_near_the_positive"
    key = corpus.text_key(candidate.doc_id)
    if key in excluded.text_keys:
        return "text_of_a_positive"
    if key in seen:
        return "text_drawn_already"
    return _unfit(candidate, excluded.heading, corpus)


def _unfit(candidate: Negative, heading: str | None, corpus: Corpus) -> str | None:
    """Why the document itself cannot be a negative; if the query is a heading, a title does not count as text."""
    if heading is None and candidate.source == "bm25":  # BM25 finds no empty documents
        return None
    document = corpus[candidate.doc_id]
    if heading is not None and heading in headings_of(document):
        return "below_the_same_heading"
    return None if (document.full_text if heading is None else document.text).strip() else "empty_text"
