"""Groups triples into batches without false in-batch negatives.

A batch contains no text twice and no document that is a known positive of another query in the batch. The batches of an
epoch depend only on the seed and the epoch, so an interrupted training resumes exactly. Loads no torch.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from functools import lru_cache

from inpars.training.examples import TripleTexts


class BatchPlan:
    """Batches of row positions; every epoch has the same number of batches."""

    def __init__(self, rows: Sequence[TripleTexts], batch_size: int, *, seed: int, negatives: bool = True) -> None:
        """`negatives`: whether the negatives of the triples are used."""
        numbers: dict[str, int] = {}
        self._rows = [tuple(numbers.setdefault(text, len(numbers)) for text in _texts(row, negatives)) for row in rows]
        self._positives: dict[int, set[int]] = {}
        for query, positive, *_ in self._rows:
            self._positives.setdefault(query, set()).add(positive)
        self._size, self._seed = batch_size, seed
        self._epoch = lru_cache(maxsize=1)(lambda epoch: _resized(self._filled(self._shuffled(epoch)), self.batches))
        self.batches = len(self._filled(self._shuffled(0)))

    def batch(self, number: int) -> list[int]:
        """Row positions of a batch; `number` keeps counting across epochs."""
        epoch, index = divmod(number, self.batches)
        return self._epoch(epoch)[index]

    def _shuffled(self, epoch: int) -> list[int]:
        order = list(range(len(self._rows)))
        random.Random(f"{self._seed}\0{epoch}").shuffle(order)
        return order

    def _filled(self, order: Iterable[int]) -> list[list[int]]:
        """Put each row into the first batch that has room and no conflict; deferred rows come first in the next."""
        fresh, deferred = iter(order), list[int]()
        batches: list[list[int]] = []
        while True:
            batch, waiting = _Batch(self._positives), list[int]()
            for row in deferred:
                if len(batch.rows) == self._size or not batch.take(row, self._rows[row]):
                    waiting.append(row)
            while len(batch.rows) < self._size and (row := next(fresh, -1)) >= 0:
                if not batch.take(row, self._rows[row]):
                    waiting.append(row)
            if not batch.rows:
                return batches
            batches.append(batch.rows)
            deferred = waiting


class _Batch:
    def __init__(self, positives: dict[int, set[int]]) -> None:
        self.rows: list[int] = []
        self._positives = positives
        self._texts: set[int] = set()
        self._answers: set[int] = set()  # known positives of the batch's queries

    def take(self, row: int, texts: Sequence[int]) -> bool:
        """Add a row, unless it would repeat a text or make a false negative."""
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


def _resized(batches: list[list[int]], count: int) -> list[list[int]]:
    """Match the number of batches of epoch 0: drop the last batches, or split the largest in half."""
    batches = batches[:count]
    while len(batches) < count:
        largest = max(range(len(batches)), key=lambda index: len(batches[index]))
        half = len(batches[largest]) // 2
        batches[largest : largest + 1] = [batches[largest][:half], batches[largest][half:]]
    return batches
