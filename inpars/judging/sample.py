"""Which pairs are judged: the top documents per query of any run (pooling, Spärck Jones 1975).

A person judges a sample of them, stratified by the model's grade.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice, zip_longest

from inpars.errors import ConfigError
from inpars.io.runs import rank
from inpars.records import Qrels, Run
from inpars.text.hashing import sampling_key

Pair = tuple[str, str]  # query_id, doc_id


def pooled(runs: Iterable[Run], depth: int) -> dict[str, list[str]]:
    """Top `depth` documents per query over all runs; sorted by id, which hides runs and ranks."""
    pool: dict[str, set[str]] = {}
    for run in runs:
        for query_id, scores in run.items():
            pool.setdefault(query_id, set()).update(doc_id for doc_id, _ in rank(scores, depth))
    return {query_id: sorted(doc_ids) for query_id, doc_ids in sorted(pool.items()) if doc_ids}


def chosen_pairs(pool: Mapping[str, Sequence[str]], limit: int | None, maximum: int | None, seed: int) -> list[Pair]:
    """Pairs of the first `limit` queries, at most `maximum` of them drawn uniformly, in the pool's order."""
    pairs = [(query_id, doc_id) for query_id, doc_ids in islice(pool.items(), limit) for doc_id in doc_ids]
    if not pairs:
        raise ConfigError("the runs hold no documents; there is nothing to judge")
    if maximum is None or maximum >= len(pairs):
        return pairs
    drawn = set(sorted(pairs, key=lambda pair: (sampling_key(seed, "\n".join(pair)), pair))[:maximum])
    return [pair for pair in pairs if pair in drawn]


def drawn(grades: Mapping[Pair, int], count: int, seed: int) -> list[Pair]:
    """`count` pairs, as equally from all grades as possible, in an order that does not reveal the grade.

    Deterministic in grades and seed; a smaller count gives a subset.
    """
    strata = [
        sorted((pair for pair in grades if grades[pair] == grade), key=lambda pair: _key(seed, pair))
        for grade in sorted(set(grades.values()))
    ]
    alternating = [pair for one_of_each in zip_longest(*strata) for pair in one_of_each if pair is not None]
    return sorted(alternating[:count], key=lambda pair: _key(seed, (*pair, "shown")))


def weights(grades: Mapping[Pair, int], answered: Sequence[Pair]) -> list[float]:
    """Inverse sampling rate of each answered pair: pairs of its grade in the pool per answered pair of that grade.

    Weighted agreement over the stratified sample thus estimates agreement over the whole pool.
    """
    pooled_counts, answered_counts = Counter(grades.values()), Counter(grades[pair] for pair in answered)
    return [pooled_counts[grades[pair]] / answered_counts[grades[pair]] for pair in answered]


def pairs_of(qrels: Qrels) -> dict[Pair, int]:
    """Grade per (query_id, doc_id)."""
    return {(query_id, doc_id): grade for query_id, judged in qrels.items() for doc_id, grade in judged.items()}


def _key(seed: int, parts: Sequence[str]) -> tuple[int, Sequence[str]]:
    return sampling_key(seed, "\n".join(parts)), parts
