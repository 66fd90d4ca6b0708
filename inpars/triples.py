"""Hard negatives: for each query some documents that BM25 ranks high and that are not its positive.

Pure functions over a run. What is drawn for a query depends on (seed, query_id) alone. Never drawn are the positive and
documents of identical text.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from inpars.errors import ConfigError
from inpars.records import Run, Triple
from inpars.runs import rank
from inpars.selection import sampling_key


@dataclass(frozen=True, slots=True)
class MinedTriples:
    """The triples in the order of the queries, and how many queries were left out or noticed, by reason."""

    triples: list[Triple]
    dropped: Counter[str] = field(default_factory=Counter)


def parse_ranks(text: str) -> tuple[int, int]:
    """`10-100` as (10, 100): first and last rank, counted from 1. Raises ConfigError."""
    first, _, last = text.partition("-")
    if not (first.isdigit() and last.isdigit() and 1 <= int(first) <= int(last)):
        raise ConfigError(f"--ranks is {text!r}; write the first and the last rank, 1-100 for instance")
    return int(first), int(last)


def mine_triples(
    positives: Mapping[str, str],
    run: Run,
    text: Callable[[str], str],
    *,
    ranks: tuple[int, int] = (1, 100),
    per_query: int = 1,
    positive_within: int | None = None,
    seed: int = 0,
) -> MinedTriples:
    """Up to `per_query` negatives for each query of `positives` (query_id -> positive doc_id), from a rank window.

    A window that lies beyond a short ranking is moved up to its end. Queries that BM25 finds nothing else for are left
    out and counted as `no_negatives`; with `positive_within` also those whose positive is not among so many first
    documents (`positive_not_retrieved`), a round-trip check as in Promptagator (arXiv 2209.11755).
    """
    if per_query < 1:
        raise ConfigError(f"--per-query is {per_query}; it must be at least 1")
    triples: list[Triple] = []
    dropped: Counter[str] = Counter()
    for query_id, positive in positives.items():
        if positive_within is not None and positive not in dict(rank(run.get(query_id, {}), positive_within)):
            dropped["positive_not_retrieved"] += 1
            continue
        candidates = _candidates(run.get(query_id, {}), positive, text)
        first, last = ranks
        window = candidates[first - 1 : last] or candidates[-per_query:]
        if not window:
            dropped["no_negatives"] += 1
            continue
        generator = random.Random(sampling_key(seed, query_id))
        drawn = generator.sample(window, min(per_query, len(window)))
        triples += [Triple(query_id, positive, negative) for negative in drawn]
    return MinedTriples(triples, dropped)


def _candidates(scores: Mapping[str, float], positive: str, text: Callable[[str], str]) -> list[str]:
    """The ranked documents but the positive and its twins."""
    same = " ".join(text(positive).split())
    return [doc_id for doc_id, _ in rank(scores) if doc_id != positive and " ".join(text(doc_id).split()) != same]
