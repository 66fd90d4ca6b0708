"""Weighs bi-encoders against BM25 per query, by features of their top documents.

BM25 is trusted if its top document contains the query's rare terms, the bi-encoder if its top document is similar.
`scripts/reproduce/gate.py` learned the coefficients on judged public collections; the offset adapts them to one
collection.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

from inpars.io.runs import rank
from inpars.records import Run

Coverage: TypeAlias = Callable[[str, str], float]
"""Share of a query's terms in a text, from `inpars.retrieval.bm25.TermCoverage`."""

LIMIT = 6.0  # of the log-odds, both ways


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryFeatures:
    """The gate's input for one query."""

    lexical_coverage: float  # share of the query's terms in BM25's top document
    dense_coverage: float  # share of the query's terms in the bi-encoder's top document
    similarity: float  # score of the bi-encoder's top document


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """Logistic regression of the bi-encoders' share on the query features."""

    intercept: float
    lexical_coverage: float
    dense_coverage: float
    similarity: float
    offset: float = 0.0  # per collection

    def share(self, features: QueryFeatures) -> float:
        """The bi-encoders' weight; BM25 has the rest to 1."""
        log_odds = (
            self.intercept
            + self.offset
            + self.lexical_coverage * features.lexical_coverage
            + self.dense_coverage * features.dense_coverage
            + self.similarity * features.similarity
        )
        return 1 / (1 + math.exp(-max(-LIMIT, min(LIMIT, log_odds))))

    def moved(self, offset: float) -> Gate:
        """This gate with another offset."""
        return replace(self, offset=offset)


PRIOR = Gate(intercept=0.16, lexical_coverage=-2.36, dense_coverage=-0.25, similarity=3.36)

# Odds of a reranker's weight against the mix's, as (constant, factor of 1 - share). Like BM25, query likelihood relies
# on words and counts less if the gate trusts the bi-encoders; MaxSim keeps at least a fifth. Both were chosen on dev
# queries: EXPERIMENTS.md.
LIKELIHOOD_ODDS = (0.0, 1.5)
LATE_INTERACTION_ODDS = (0.25, 2.0)


def reranker_weight(odds: tuple[float, float], share: float) -> float:
    """The reranker's weight for a query with this share of the bi-encoders; the mix has the rest to 1."""
    constant, factor = odds
    ratio = constant + factor * (1 - share)
    return ratio / (1 + ratio)


def findings(
    queries: Mapping[str, str], lexical: Run, dense: Run, coverage: Coverage, text_of: Callable[[str], str]
) -> dict[str, QueryFeatures]:
    """Features per query, from the runs of BM25 and a bi-encoder."""

    def top(run: Run, query_id: str) -> tuple[str, float]:
        ranked = rank(run.get(query_id, {}), 1)
        return ranked[0] if ranked else ("", 0.0)

    def covered(text: str, doc_id: str) -> float:
        return coverage(text, text_of(doc_id)) if doc_id else 0.0

    features = {}
    for query_id, text in queries.items():
        (lexical_top, _), (dense_top, similarity) = top(lexical, query_id), top(dense, query_id)
        features[query_id] = QueryFeatures(
            lexical_coverage=covered(text, lexical_top),
            dense_coverage=covered(text, dense_top),
            similarity=similarity,
        )
    return features
