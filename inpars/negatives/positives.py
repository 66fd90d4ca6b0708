"""Positives chosen anew: a query's best document need not be the one it was written for (Gecko, arXiv 2403.20327).

Among what a retriever finds for the query and its own document the reranker's favourite becomes the positive, where it
scores above the own one. Pure functions over rankings; what a model scores depends on the query alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from inpars.negatives.rules import Documents, Source
from inpars.protocols import PairScorer
from inpars.runs import rank

if TYPE_CHECKING:
    from inpars.negatives.miner import QueryWithPositives, SearchBeside


def best_document(own: str, scores: Mapping[str, float]) -> str:
    """The document with the highest score; the own one where none scores above it, of equals the lower id."""
    found = min(scores, key=lambda doc_id: (-scores[doc_id], doc_id != own, doc_id))
    return found if scores[found] > scores[own] else own


class PositiveChooser:
    """Gives the generated queries of a block their best documents, and counts how many are others than before."""

    def __init__(
        self, corpus: Documents, searches: Mapping[Source, SearchBeside], scorer: PairScorer, candidates: int
    ) -> None:
        """`candidates` of each retriever are scored."""
        self._corpus, self._searches, self._scorer, self._candidates = corpus, searches, scorer, candidates
        self.replaced = 0

    def choose(self, block: Sequence[QueryWithPositives]) -> list[QueryWithPositives]:
        """The same queries; where the positive was replaced, `own` is the one that they were written for."""
        open_ones = [asked for asked in block if asked.is_generated and asked.query.text.strip()]
        found = self._found(open_ones)
        pairs = [(asked.query.text, doc_id) for asked in open_ones for doc_id in found[asked.query.query_id]]
        texts = dict.fromkeys(pairs)
        scored = self._scorer.score([(text, self._corpus[doc_id].full_text) for text, doc_id in texts]) if texts else []
        scores = dict(zip(texts, scored, strict=True))
        best = {
            asked.query.query_id: best_document(
                asked.positives[0], {d: scores[asked.query.text, d] for d in found[asked.query.query_id]}
            )
            for asked in open_ones
        }
        return [self._with(asked, best.get(asked.query.query_id)) for asked in block]

    def _found(self, block: Sequence[QueryWithPositives]) -> dict[str, list[str]]:
        """The own document of each query and what the retrievers find, each once."""
        found = {asked.query.query_id: [asked.positives[0]] for asked in block}
        for search in self._searches.values():
            run, _ = search([asked.query for asked in block], self._candidates, []) if block else ({}, {})
            for query_id, known in found.items():
                known += [doc_id for doc_id, _ in rank(run.get(query_id, {}), self._candidates) if doc_id not in known]
        return found

    def _with(self, asked: QueryWithPositives, best: str | None) -> QueryWithPositives:
        own = asked.positives[0] if asked.positives else None
        if best is None or own is None or best == own or self._corpus.text_key(best) == self._corpus.text_key(own):
            return asked
        self.replaced += 1
        return replace(asked, positives=(best,), own=own)
