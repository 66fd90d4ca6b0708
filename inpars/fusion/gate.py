"""How much bi-encoders count beside BM25, decided query by query from what both found for it.

BM25 is trusted where its first document holds the query's rare terms, the bi-encoder where it finds something similar.
The coefficients were learned on judged public collections by `scripts/reproduce/gate.py`; what a collection adds by its
own queries is the offset.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

from inpars.io.runs import rank
from inpars.records import Run

Coverage: TypeAlias = Callable[[str, str], float]
"""Share of a query that stands in a text, by `inpars.retrieval.bm25.TermCoverage`."""

LIMIT = 6.0  # of the logarithm of the odds, either way


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryFeatures:
    """What the first stages found for one query, in three numbers."""

    lexical_coverage: float  # share of the query in BM25's first document
    dense_coverage: float  # in the bi-encoder's
    similarity: float  # of the bi-encoder's first document


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """The logarithm of the odds of the bi-encoders as a linear function of the findings."""

    intercept: float
    lexical_coverage: float
    dense_coverage: float
    similarity: float
    offset: float = 0.0  # the collection's own

    def share(self, features: QueryFeatures) -> float:
        """What the bi-encoders count for; BM25 counts for the rest."""
        odds = (
            self.intercept
            + self.offset
            + self.lexical_coverage * features.lexical_coverage
            + self.dense_coverage * features.dense_coverage
            + self.similarity * features.similarity
        )
        return 1 / (1 + math.exp(-max(-LIMIT, min(LIMIT, odds))))

    def moved(self, offset: float) -> Gate:
        """The same with another offset."""
        return replace(self, offset=offset)


PRIOR = Gate(intercept=0.16, lexical_coverage=-2.36, dense_coverage=-0.25, similarity=3.36)


# Odds of a reranker's weight against the mix's, as (constant, factor of 1 - share). Like BM25, a query likelihood goes
# by words and counts less where the gate trusts the bi-encoders; MaxSim keeps a fifth even there. Both were chosen on
# development queries: EXPERIMENTS.md.
LIKELIHOOD_ODDS = (0.0, 1.5)
LATE_INTERACTION_ODDS = (0.25, 2.0)


def reranker_weight(odds: tuple[float, float], share: float) -> float:
    """The reranker's weight, the mix having the rest, for a query where the bi-encoders have this share of the mix."""
    constant, factor = odds
    value = constant + factor * (1 - share)
    return value / (1 + value)


def findings(
    queries: Mapping[str, str], lexical: Run, dense: Run, coverage: Coverage, text_of: Callable[[str], str]
) -> dict[str, QueryFeatures]:
    """The findings of each query, from the runs of BM25 and of a bi-encoder."""

    def first(run: Run, query_id: str) -> tuple[str, float]:
        best = rank(run.get(query_id, {}), 1)
        return best[0] if best else ("", 0.0)

    def covered(text: str, doc_id: str) -> float:
        return coverage(text, text_of(doc_id)) if doc_id else 0.0

    features = {}
    for query_id, text in queries.items():
        (lexical_first, _), (dense_first, similarity) = first(lexical, query_id), first(dense, query_id)
        features[query_id] = QueryFeatures(
            lexical_coverage=covered(text, lexical_first),
            dense_coverage=covered(text, dense_first),
            similarity=similarity,
        )
    return features
