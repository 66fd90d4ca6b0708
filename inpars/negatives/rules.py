"""Which documents may be a query's negatives. Pure functions over rankings.

Never drawn: the positive, a document of the same text, a document judged relevant for the query or for one with the
same words, or one of the same text as that; for a query that is a heading, a passage below the same heading. Rules on
scores keep what is probably relevant away: TopK-MarginPos and TopK-PercPos of NV-Retriever (arXiv 2407.15831).
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from inpars.errors import ConfigError
from inpars.io.corpus import Corpus
from inpars.io.runs import rank
from inpars.pairs.headings import headings_of
from inpars.records import Qrels
from inpars.text.words import words, words_key

Source: TypeAlias = Literal["bm25", "dense", "random"]
RANDOM_TRIES = 100  # documents drawn per random negative, at most


@dataclass(frozen=True, slots=True)
class Negative:
    """A document that may be a negative, and where it comes from.

    `rank` counts from 1 as `--ranks` does: without the positive and what is judged relevant. Random ones have no rank
    and no score; `positive_score` is None where the same retriever did not find the positive.
    """

    doc_id: str
    source: Source
    rank: int | None = None
    score: float | None = None
    positive_score: float | None = None
    reranker_score: float | None = None
    positive_reranker_score: float | None = None

    def record(self, query_id: str, positive_doc_id: str, positive_grade: int | None = None) -> dict[str, Any]:
        """The JSON form; the reranker's scores and the positive's grade only where there are any."""
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
    """How far below the positive a negative must score; both limits hold where both are given."""

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

        Scores may be negative (sums of log-probabilities, logit margins). A share of a negative number lies above it,
        so there the limit is positive / share: a share of 0.8 allows at most 8 for a positive of 10, and at most -12.5
        for one of -10. Without a score of the positive nothing is allowed: a retriever that did not find the positive
        ranks it below everything that it found.
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
    """Documents that some judgements call relevant, by the query's id and by its words."""

    def __init__(self) -> None:
        self._relevant: dict[str | int, tuple[str, ...]] = {}

    def add(self, queries: Mapping[str, str], qrels: Qrels) -> None:
        """Take in the judgements of one split."""
        for query_id, grades in qrels.items():
            doc_ids = tuple(doc_id for doc_id, relevance in grades.items() if relevance > 0)
            keys = (query_id, *((_words_key(queries[query_id]),) if query_id in queries else ()))
            for key in keys if doc_ids else ():
                self._relevant[key] = (*self._relevant.get(key, ()), *doc_ids)

    def relevant(self, query_id: str, text: str) -> frozenset[str]:
        """Documents judged relevant for a query of this id, or of the same words."""
        return frozenset((*self._relevant.get(query_id, ()), *self._relevant.get(_words_key(text), ())))


def _words_key(text: str) -> int:
    return words_key(words(text) or text.split())


@dataclass(frozen=True, slots=True)
class ExcludedDocuments:
    """Documents that cannot be negatives of one query, by id and by text."""

    doc_ids: frozenset[str]
    text_keys: frozenset[int]
    heading: str | None = None  # which the query is; no passage below it may be drawn

    @classmethod
    def of(cls, corpus: Corpus, doc_ids: Iterable[str]) -> ExcludedDocuments:
        """Positives and relevant documents with their texts; judged ids that the corpus lacks count too."""
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
    """The candidates of a window of ranks, best first; a window beyond a short ranking's end moves up to its end."""
    ranked = [entry for entry in rank(scores) if entry[0] not in excluded.doc_ids]
    numbered = list(enumerate(ranked, start=1))
    in_window = numbered[ranks[0] - 1 : ranks[1]] or list(_last(numbered, excluded, corpus, per_query))
    return [Negative(doc_id, source, position, score) for position, (doc_id, score) in in_window]


_Numbered: TypeAlias = tuple[int, tuple[str, float]]


def _last(
    numbered: Sequence[_Numbered], excluded: ExcludedDocuments, corpus: Corpus, count: int
) -> Iterator[_Numbered]:
    """The last `count` whose text is allowed."""
    for entry in reversed(numbered):
        if count and corpus.text_key(entry[1][0]) not in excluded.text_keys:
            count -= 1
            yield entry


def interleave_shuffled(windows: Iterable[Sequence[Negative]], key: int) -> Iterator[Negative]:
    """All candidates, drawn alternately from the windows in an order that depends on the key, each document once."""
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
    """Documents drawn uniformly without replacement; a bounded number of them."""
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
    """The first `count` candidates that are allowed, no two of the same text; counts why others are skipped.

    `positive_scores` are the positive's with each retriever that has one.
    """
    refuse = _refusal(excluded, corpus, rule)
    selected: list[Negative] = []
    for drawn in candidates:
        candidate = replace(drawn, positive_score=positive_scores.get(drawn.source))
        reason = refuse(candidate)
        if reason is not None:
            skipped[reason] += 1
            continue
        selected.append(candidate)
        if len(selected) == count:
            break
    return selected


def _refusal(excluded: ExcludedDocuments, corpus: Corpus, rule: MarginRule) -> Callable[[Negative], str | None]:
    seen: set[int] = set()

    def refuse(candidate: Negative) -> str | None:
        if candidate.doc_id in excluded.doc_ids:
            return "positive_or_relevant"
        if not rule.allows(candidate.score, candidate.positive_score):
            return "too_near_the_positive"
        key = corpus.text_key(candidate.doc_id)
        if key in excluded.text_keys:
            return "text_of_a_positive"
        if key in seen:
            return "text_drawn_already"
        reason = _unfit(candidate, excluded.heading, corpus)
        if reason is None:
            seen.add(key)
        return reason

    return refuse


def _unfit(candidate: Negative, heading: str | None, corpus: Corpus) -> str | None:
    """Why the document itself cannot be a negative; where the query is a heading, the title does not count as text."""
    if heading is None and candidate.source == "bm25":  # BM25 finds no empty documents
        return None
    document = corpus[candidate.doc_id]
    if heading is not None and heading in headings_of(document):
        return "below_the_same_heading"
    return None if (document.full_text if heading is None else document.text).strip() else "empty_text"
