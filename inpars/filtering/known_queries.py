"""Finds queries that equal or nearly equal known ones, such as those of a test set."""

from __future__ import annotations

from array import array
from collections.abc import Collection

import numpy as np
import numpy.typing as npt

from inpars.batches import slices
from inpars.text.minhash import BANDS, Mask, Sketches, resembles_any, sketch_queries
from inpars.text.words import words, words_key

MAX_COMPARED = 50  # candidates per band that a query is compared with, which keeps the time linear
BLOCK = 4096


class KnownQueries:
    """A set of queries, as hashes of their words and MinHash sketches."""

    def __init__(self, texts: Collection[str], threshold: float) -> None:
        keys, sketches = array("Q"), [sketch_queries(())]
        for block in slices(list(texts), BLOCK):
            block_words = [words(text) for text in block]
            keys.extend(map(words_key, block_words))
            sketches.append(sketch_queries(block_words))
        self._keys = np.unique(np.array(keys, dtype=np.uint64))
        self._sketches = np.concatenate(sketches)
        self._threshold = threshold
        bands = self._sketches.view(np.uint64)  # (queries, bands)
        self._orders = np.argsort(bands, axis=0, kind="stable")
        self._sorted = np.take_along_axis(bands, self._orders, axis=0)

    def resembled(self, keys: npt.NDArray[np.uint64], sketches: Sketches) -> Mask:
        """A mask of the queries with the same, or nearly the same, words as a known one."""
        matches = np.isin(keys, self._keys)
        if not len(self._keys):
            return matches
        bands = sketches.view(np.uint64)
        for band in range(BANDS):
            known = self._sorted[:, band]
            first = np.searchsorted(known, bands[:, band])
            hits = known[np.minimum(first, len(known) - 1)] == bands[:, band]
            for row in np.flatnonzero(hits & ~matches).tolist():
                end = np.searchsorted(known, bands[row, band], side="right")
                others = self._orders[first[row] : min(int(end), int(first[row]) + MAX_COMPARED), band]
                matches[row] = resembles_any(self._sketches[others], sketches[row], self._threshold)
        return matches
