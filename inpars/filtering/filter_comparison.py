"""Compares filters on one pool of queries: what each would keep alone, how much they overlap, where each one cuts.

A filter is written as one or more selections joined by `+`, the name of a score, `random`, or `spread:GROUPS`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from inpars.filtering.checks import OPENING, FilterOptions
from inpars.filtering.filters import cut, drop_unusable
from inpars.filtering.query_table import SCORES, QueryTable
from inpars.filtering.selections import Positions, Scores, Selection, best_first, parse_selection, select
from inpars.text.hashing import sampling_key

RANDOM, SPREAD = "random", "spread:"
CLUSTER = "cluster"  # a column of labels, not of scores
BM25_RANK = "bm25_rank"
SAMPLES = 5
CURVE_POINTS = 200


@dataclass(frozen=True, slots=True)
class FilterSpec:
    """One filter: its selections, then the k best by `ranking`."""

    name: str
    ranking: str
    selections: tuple[Selection, ...] = ()
    spread_over: str | None = None


@dataclass(frozen=True, slots=True)
class Measures:
    """Statistics of a set of queries."""

    queries: int
    mean_words: float | None
    openings: int  # distinct first two words
    bm25_finds: float | None  # share of queries whose source document BM25 retrieves
    threshold: float | None = None  # lowest kept score


@dataclass(frozen=True, slots=True)
class Kept:
    """What one filter keeps."""

    spec: FilterSpec
    positions: Positions  # best first
    measures: Measures
    curve: tuple[list[float], list[float]]  # ranks and scores of the pool, ordered by this filter's score
    above: list[tuple[int, float]]  # positions and scores just above the cut
    below: list[tuple[int, float]]  # just below


@dataclass(frozen=True, slots=True)
class Comparison:
    """The results of all filters on one pool."""

    k: int
    pool: Measures
    dropped: Mapping[str, int]  # by the checks, before any filter
    kept: Sequence[Kept]
    overlap: list[list[float]]  # Jaccard, (filters, filters)


def compare(pool: QueryTable, options: FilterOptions, names: Sequence[str], k: int, seed: int = 0) -> Comparison:
    """Apply each filter to the queries that pass the checks, keeping at most k; without names, the default filters."""
    drop_unusable(pool, options)
    alive, dropped = pool.alive, pool.dropped()
    pool.scores[RANDOM] = np.array([sampling_key(seed, query_id) / 2**64 for query_id in pool.query_ids])
    specs = [parse_filter_spec(name, options.ranking) for name in names] or default_filter_specs(pool, options)
    selections = [_keep(pool, alive, spec, k) for spec in specs]
    overlap = [[_jaccard(one.positions, other.positions) for other in selections] for one in selections]
    return Comparison(k, measure(pool, alive), dropped, selections, overlap)


def parse_filter_spec(text: str, ranking: str) -> FilterSpec:
    """Read a filter: `reranker`, `bm25_rank:max=20+mean_log_probs`, `random`, `spread:opening`. Raises ConfigError."""
    if text.startswith(SPREAD):
        return FilterSpec(text, ranking, spread_over=text.removeprefix(SPREAD))
    *cuts, last = text.split("+")
    selections = tuple(map(parse_selection, cuts))
    if ":" not in last:
        return FilterSpec(text, last, selections)
    selections = (*selections, parse_selection(last))
    return FilterSpec(text, selections[-1].name, selections)


def default_filter_specs(pool: QueryTable, options: FilterOptions) -> list[FilterSpec]:
    """Each score alone, random, and the ranking score spread over openings and clusters."""
    names = [name for name in pool.scores if name not in (CLUSTER, RANDOM)]
    if pool.absent_log_probs:
        names = [name for name in names if name not in SCORES]
    groups = [OPENING, *([CLUSTER] if CLUSTER in pool.scores else [])]
    return [
        parse_filter_spec(name, options.ranking) for name in [*names, RANDOM, *(SPREAD + group for group in groups)]
    ]


def measure(pool: QueryTable, positions: Positions, threshold: float | None = None) -> Measures:
    """Statistics of the queries at these positions."""
    bm25_finds = None
    if BM25_RANK in pool.scores:
        ranks = pool.scores[BM25_RANK][positions]
        known = ranks[~np.isnan(ranks)]
        bm25_finds = float(np.isfinite(known).mean()) if len(known) else None
    return Measures(
        queries=len(positions),
        mean_words=float(pool.word_counts[positions].mean()) if len(positions) else None,
        openings=len(np.unique(pool.openings[positions])),
        bm25_finds=bm25_finds,
        threshold=threshold,
    )


def _keep(pool: QueryTable, alive: Positions, spec: FilterSpec, k: int) -> Kept:
    raw, goodness = pool.column(spec.ranking), pool.goodness(spec.ranking)
    candidates = alive
    for selection in spec.selections:
        candidates = candidates[pool.known(selection.name)[candidates]]
        scores = pool.column(selection.name)[candidates]
        candidates = candidates[select(selection, scores, pool.ids[candidates])]
    candidates = candidates[pool.known(spec.ranking)[candidates]]
    mask = cut(pool, candidates, goodness[candidates], k, spec.spread_over)
    inside = _ordered(candidates[mask], goodness, pool)
    outside = _ordered(np.setdiff1d(alive[pool.known(spec.ranking)[alive]], inside), goodness, pool)
    threshold = float(raw[inside[-1]]) if len(inside) else None
    return Kept(
        spec,
        inside,
        measure(pool, inside, threshold),
        _curve(raw[_ordered(candidates, goodness, pool)]),
        [(int(position), float(raw[position])) for position in inside[-SAMPLES:]],
        [(int(position), float(raw[position])) for position in outside[:SAMPLES]],
    )


def _ordered(positions: Positions, goodness: Scores, pool: QueryTable) -> Positions:
    return positions[best_first(goodness[positions], pool.ids[positions])]


def _curve(scores: Scores) -> tuple[list[float], list[float]]:
    """At most `CURVE_POINTS` ranks and finite scores, from the best down."""
    finite = scores[np.isfinite(scores)]
    ranks = np.unique(np.linspace(0, len(finite) - 1, CURVE_POINTS).astype(np.int64)) if len(finite) else np.arange(0)
    return (ranks + 1).astype(float).tolist(), finite[ranks].tolist()


def _jaccard(one: Positions, other: Positions) -> float:
    both = len(np.intersect1d(one, other))
    union = len(one) + len(other) - both
    return both / union if union else 1.0
