"""Which pairs are judged: the first documents that any of the runs found for a query (pooling, Spärck Jones 1975).

Of these a person judges a sample too: as many of each grade as can be had, each standing for others of its grade.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

from inpars.errors import ConfigError
from inpars.io.runs import rank
from inpars.records import Qrels, Run
from inpars.text.hashing import sampling_key

Pair = tuple[str, str]


def pooled(runs: Iterable[Run], depth: int) -> dict[str, list[str]]:
    """Documents per query, each once; sorted, so that neither the order of runs nor of ranks shows."""
    found: dict[str, set[str]] = {}
    for run in runs:
        for query_id, scores in run.items():
            found.setdefault(query_id, set()).update(doc_id for doc_id, _ in rank(scores, depth))
    return {query_id: sorted(doc_ids) for query_id, doc_ids in sorted(found.items()) if doc_ids}


def chosen_pairs(
    pool: Mapping[str, Sequence[str]], limit: int | None, maximum: int | None, seed: int
) -> list[tuple[str, str]]:
    """(query_id, doc_id) of the first `limit` queries, of which `maximum` are drawn uniformly; in the pool's order."""
    pairs = [(query_id, doc_id) for query_id, doc_ids in islice(pool.items(), limit) for doc_id in doc_ids]
    if not pairs:
        raise ConfigError("the runs hold no documents; there is nothing to judge")
    if maximum is None or maximum >= len(pairs):
        return pairs
    drawn = set(sorted(pairs, key=lambda pair: (sampling_key(seed, "\n".join(pair)), pair))[:maximum])
    return [pair for pair in pairs if pair in drawn]


def drawn(grades: Mapping[Pair, int], count: int, seed: int) -> list[Pair]:
    """`count` pairs, equally many of each grade as far as there are, in an order that does not show the grade.

    The same for the same grades and seed; those of a smaller count are among them.
    """
    strata = [
        sorted((pair for pair in grades if grades[pair] == grade), key=lambda pair: _key(seed, pair))
        for grade in sorted(set(grades.values()))
    ]
    turns = [
        pair for place in range(max(map(len, strata), default=0)) for one in strata for pair in one[place : place + 1]
    ]
    return sorted(turns[:count], key=lambda pair: _key(seed, (*pair, "shown")))


def weights(grades: Mapping[Pair, int], answered: Sequence[Pair]) -> list[float]:
    """How many pairs of the pool each answered one stands for: those of its grade, shared among the answered ones.

    So agreement over a sample of equal parts is an estimate of that over the whole pool.
    """
    there, known = Counter(grades.values()), Counter(grades[pair] for pair in answered)
    return [there[grades[pair]] / known[grades[pair]] for pair in answered]


def pairs_of(qrels: Qrels) -> dict[Pair, int]:
    """Grades by pair."""
    return {(query_id, doc_id): grade for query_id, judged in qrels.items() for doc_id, grade in judged.items()}


def _key(seed: int, parts: Sequence[str]) -> tuple[int, Sequence[str]]:
    return sampling_key(seed, "\n".join(parts)), parts
