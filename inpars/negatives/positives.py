"""Replaced positives: a query's best document need not be the one it was written for (Gecko, arXiv 2403.20327).

A reranker scores the original positive and what the retrievers find; the best document becomes the positive if it
scores above the original. Pure functions over rankings; what is scored depends on the query alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from inpars.io.runs import rank
from inpars.negatives.rules import Documents, Source
from inpars.protocols import PairScorer

if TYPE_CHECKING:
    from inpars.negatives.miner import QueryWithPositives, SearchWithScores


def best_document(original: str, scores: Mapping[str, float]) -> str:
    """The document with the highest score; the original where none scores above it, the lower id of equals."""
    best = min(scores, key=lambda doc_id: (-scores[doc_id], doc_id != original, doc_id))
    return best if scores[best] > scores[original] else original


class PositiveChooser:
    """Gives the generated queries of a block their best documents and counts the replaced ones."""

    def __init__(
        self, corpus: Documents, searches: Mapping[Source, SearchWithScores], scorer: PairScorer, candidates: int
    ) -> None:
        """`candidates` documents of each retriever are scored."""
        self._corpus, self._searches, self._scorer, self._depth = corpus, searches, scorer, candidates
        self.replaced = 0

    def choose(self, block: Sequence[QueryWithPositives]) -> list[QueryWithPositives]:
        """The same queries; `original_positive` is the document they were written for where another replaced it."""
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
        """Per query its original positive and what the retrievers find, without duplicates."""
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
