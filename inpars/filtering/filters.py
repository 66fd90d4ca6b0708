"""Filters synthetic queries: drops unusable ones, then selects by score.

Dropped queries are counted by reason. InPars (arXiv 2202.05144) keeps the highest mean log-probabilities, InPars-v2
(arXiv 2301.01820) the highest reranker scores; the checks for copies and duplicates are ours. `filter_queries` takes
records, `choose` a table of any number of queries.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from inpars.filtering.checks import OPENING, FilterContext, FilterOptions
from inpars.filtering.known_queries import MAX_COMPARED
from inpars.filtering.query_table import QueryTable, QueryTableBuilder
from inpars.filtering.selections import (
    Mask,
    Positions,
    Scores,
    best_first,
    parse_selection,
    select,
    spread_top_k,
    top_k,
)
from inpars.records import SyntheticQuery
from inpars.text.minhash import near_duplicates


@dataclass(frozen=True, slots=True)
class FilterOutcome:
    """A query with its score and, if dropped, the reason."""

    query: SyntheticQuery
    score: float
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Filtered:
    """The kept queries, best first, and the outcome of every query in input order."""

    kept: list[FilterOutcome]
    verdicts: list[FilterOutcome]
    dropped: Counter[str] = field(default_factory=Counter)


NO_CONTEXT = FilterContext()


def filter_queries(
    queries: Sequence[SyntheticQuery],
    options: FilterOptions,
    context: FilterContext = NO_CONTEXT,
    scores: Mapping[str, Sequence[float]] | None = None,
) -> Filtered:
    """The queries that pass every check and selection; `scores` are further columns, NaN where unknown.

    Raises ConfigError for unusable settings, UnknownNameError for unknown scores.
    """
    builder = QueryTableBuilder(options, context)
    for query in queries:
        builder.add(query)
    pool = builder.pool()
    pool.scores |= {name: np.asarray(values, dtype=np.float64) for name, values in (scores or {}).items()}
    positions = choose(pool, options)
    ranking = pool.column(options.ranking).tolist()
    outcomes = [
        FilterOutcome(query, ranking[position], pool.reason(position)) for position, query in enumerate(queries)
    ]
    return Filtered([outcomes[position] for position in positions], outcomes, pool.dropped())


def choose(pool: QueryTable, options: FilterOptions) -> Positions:
    """The positions of the kept queries, best first; marks the others in the pool as dropped."""
    drop_unusable(pool, options)
    for selection in map(parse_selection, options.select):
        alive = pool.alive
        mask = select(selection, pool.column(selection.name)[alive], pool.ids[alive])
        pool.drop(alive[~mask], selection.name)
    alive, goodness = pool.alive, pool.goodness(options.ranking)
    if options.limit is not None:
        ranked = alive[~pool.by_people[alive]]  # a model's likelihood is no measure of people's queries
        mask = cut(pool, ranked, goodness[ranked], options.limit, options.spread_over)
        pool.drop(ranked[~mask], "below_top_k")
    alive = pool.alive
    return alive[best_first(goodness[alive], pool.ids[alive])]


def drop_unusable(pool: QueryTable, options: FilterOptions) -> None:
    """Drop queries that lack a score, and all duplicates but the best."""
    if options.spread_over not in (None, OPENING):
        pool.column(str(options.spread_over))  # raise early
    goodness = pool.goodness(options.ranking)
    used = [options.ranking, *(parse_selection(text).name for text in options.select)]
    known = np.logical_and.reduce([pool.known(name) for name in used])
    alive = pool.alive
    pool.drop(alive[~known[alive]], "no_score")
    alive = pool.alive
    ordered = alive[best_first(goodness[alive], pool.ids[alive])]
    if options.drop_duplicates:
        _, first = np.unique(pool.keys[ordered], return_index=True)
        repeated = np.ones(len(ordered), dtype=bool)
        repeated[first] = False
        pool.drop(ordered[repeated], "duplicate")
        ordered = ordered[~repeated]
    if options.drop_near_duplicates and pool.sketches is not None:
        similar = near_duplicates(pool.sketches[ordered], options.near_duplicates_at, MAX_COMPARED)
        pool.drop(ordered[similar], "near_duplicate")


def cut(pool: QueryTable, positions: Positions, goodness: Scores, k: int, spread_over: str | None) -> Mask:
    """A mask of the k best of these positions, taken in turn from the groups of `spread_over` if given."""
    if spread_over is None:
        return top_k(goodness, pool.ids[positions], k)
    if spread_over == OPENING:
        groups = pool.openings
    else:  # unknown values (NaN) form one group
        groups = np.unique(pool.column(spread_over), return_inverse=True)[1].astype(np.uint64)
    return spread_top_k(goodness, pool.ids[positions], groups[positions], k)
