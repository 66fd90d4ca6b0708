"""Which triples make a batch when every other query's documents are negatives: none that would be false ones.

No text stands twice in a batch, and no document of a batch is a known positive of another query in it. Order and
batches of a pass depend on seed and pass alone, so that an interrupted training resumes exactly. Loads no torch.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from functools import lru_cache

from inpars.training.examples import TripleTexts


class BatchPlan:
    """The batches of every pass over some triples, as positions; every pass has the same number of them."""

    def __init__(self, rows: Sequence[TripleTexts], batch_size: int, *, seed: int, negatives: bool = True) -> None:
        """`negatives` says whether the triples' own negatives are used at all."""
        numbers: dict[str, int] = {}
        self._rows = [tuple(numbers.setdefault(text, len(numbers)) for text in _texts(row, negatives)) for row in rows]
        self._positives: dict[int, set[int]] = {}
        for query, positive, *_ in self._rows:
            self._positives.setdefault(query, set()).add(positive)
        self._size, self._seed = batch_size, seed
        self._pass = lru_cache(maxsize=1)(lambda number: _exactly(self._filled(self._shuffled(number)), self.batches))
        self.batches = len(self._filled(self._shuffled(0)))

    def batch(self, number: int) -> list[int]:
        """Positions of the triples of a batch; numbers go on from pass to pass."""
        number_of_pass, inside = divmod(number, self.batches)
        return self._pass(number_of_pass)[inside]

    def _shuffled(self, number: int) -> list[int]:
        order = list(range(len(self._rows)))
        random.Random(f"{self._seed}\0{number}").shuffle(order)
        return order

    def _filled(self, order: Iterable[int]) -> list[list[int]]:
        """Each triple in the first batch that has room and nothing against it; those put off come first in the next."""
        fresh, put_off = iter(order), list[int]()
        batches: list[list[int]] = []
        while True:
            batch, waiting = _Batch(self._positives), list[int]()
            for row in put_off:
                if len(batch.rows) == self._size or not batch.take(row, self._rows[row]):
                    waiting.append(row)
            while len(batch.rows) < self._size and (row := next(fresh, -1)) >= 0:
                if not batch.take(row, self._rows[row]):
                    waiting.append(row)
            if not batch.rows:
                return batches
            batches.append(batch.rows)
            put_off = waiting


class _Batch:
    def __init__(self, positives: dict[int, set[int]]) -> None:
        self.rows: list[int] = []
        self._positives = positives
        self._texts: set[int] = set()
        self._answers: set[int] = set()  # known positives of the queries taken

    def take(self, row: int, texts: Sequence[int]) -> bool:
        """Add a triple unless one of its texts is there or it would make a false negative."""
        query, *documents = texts
        answers = self._positives[query]
        if not self._texts.isdisjoint(texts) or not self._answers.isdisjoint(documents):
            return False
        if not self._texts.isdisjoint(answers):
            return False
        self.rows.append(row)
        self._texts.update(texts)
        self._answers |= answers
        return True


def _texts(row: TripleTexts, negatives: bool) -> tuple[str, ...]:
    return (row.query, row.positive, row.negative) if negatives else (row.query, row.positive)


def _exactly(batches: list[list[int]], count: int) -> list[list[int]]:
    """As many batches as pass 0 had: the last are left out of this pass, or the largest are halved."""
    batches = batches[:count]
    while len(batches) < count:
        largest = max(range(len(batches)), key=lambda index: len(batches[index]))
        half = len(batches[largest]) // 2
        batches[largest : largest + 1] = [batches[largest][:half], batches[largest][half:]]
    return batches
