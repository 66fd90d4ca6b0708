"""Pairs that a person judges too: as many of each grade as can be had, and what each then stands for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from inpars.records import Qrels
from inpars.text.hashing import sampling_key

Pair = tuple[str, str]


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
