"""Queries that are nearly the same, a million of them in bounded memory: MinHash over words and pairs of words.

A query's sketch is 64 minima of 16 bits (128 bytes); the share of equal ones estimates the Jaccard similarity. Queries
are compared only where four minima in a row agree. Broder, "On the resemblance and containment of documents", 1997;
short minima as in Li and König, "b-Bit Minwise Hashing", 2010. Sketches are made for whole blocks at once, which is why
this is not `near_duplicates.py`, whose word triples also suit documents and not short queries.
"""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Collection, Iterator, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from inpars.text.words import words, words_key

HASHES, BANDS = 64, 16  # similarity 0.8 shares one of 16 bands of four minima in 99.98% of all cases
MOST_COMPARED = 50  # queries of one band that a query is compared with, so that time stays linear
BLOCK = 4096
WORD_STEP = np.uint64(0x9E3779B97F4A7C15)  # odd, so that the order of a pair counts
FACTORS = np.random.default_rng(2010).integers(0, 2**63, (HASHES, 2), dtype=np.uint64) * np.uint64(2) + np.uint64(1)

Sketches: TypeAlias = npt.NDArray[np.uint16]
"""(queries, hashes)."""
Mask: TypeAlias = npt.NDArray[np.bool_]
Keys: TypeAlias = npt.NDArray[np.uint64]


def sketch(texts: Sequence[Sequence[str]]) -> Sketches:
    """The sketches of some queries, each given by its words."""
    result = np.empty((len(texts), HASHES), dtype=np.uint16)
    if not texts:
        return result
    lengths = np.array([max(1, len(text)) for text in texts])
    single = np.array(
        [zlib.crc32(word.encode()) for text in texts for word in (text or ("",))], dtype=np.uint64
    )  # (all words,)
    starts = np.concatenate(([0], np.cumsum(lengths)[:-1]))
    with np.errstate(over="ignore"):  # arithmetic modulo 2**64 is meant
        pairs = single * WORD_STEP + np.roll(single, -1) + np.uint64(1)
        last = starts + lengths - 1
        pairs[last] = single[last]  # the last word has no successor
        features = np.stack([single, pairs], axis=1).ravel()  # (2 * all words,)
        mixed = (features ^ (features >> np.uint64(29))) * WORD_STEP
        mixed ^= mixed >> np.uint64(32)
        for number, (factor, summand) in enumerate(FACTORS):
            hashed = (mixed * factor + summand) >> np.uint64(32)
            result[:, number] = np.minimum.reduceat(hashed, 2 * starts).astype(np.uint16)  # its low bits
    return result


def near_duplicates(sketches: Sketches, threshold: float) -> Mask:
    """Which queries resemble an earlier one that itself resembles none before it; the order is the caller's."""
    groups = _shared_bands(sketches)
    found, needed = np.zeros(len(sketches), dtype=bool), threshold * HASHES
    leaders: dict[int, list[int]] = {}
    for row in np.flatnonzero((groups >= 0).any(axis=1)).tolist():
        own = [group for group in groups[row].tolist() if group >= 0]
        near = {other for group in own for other in leaders.get(group, ())}
        if near and _any_alike(sketches[list(near)], sketches[row], needed):
            found[row] = True
            continue
        for group in own:
            known = leaders.setdefault(group, [])
            if len(known) < MOST_COMPARED:
                known.append(row)
    return found


class KnownQueries:
    """Queries that others are held against, those of a test set for instance."""

    def __init__(self, texts: Collection[str], threshold: float) -> None:
        """Keep a hash of each query and its sketch."""
        keys, sketches = array("Q"), [sketch(())]
        for block in _blocks(list(texts)):
            found = [words(text) for text in block]
            keys.extend(map(words_key, found))
            sketches.append(sketch(found))
        self._keys = np.unique(np.array(keys, dtype=np.uint64))
        self._sketches = np.concatenate(sketches)
        self._needed = threshold * HASHES
        bands = self._sketches.view(np.uint64)  # (queries, bands)
        self._orders = np.argsort(bands, axis=0, kind="stable")
        self._sorted = np.take_along_axis(bands, self._orders, axis=0)

    def resembled(self, keys: Keys, sketches: Sketches) -> Mask:
        """Which queries have the same words as a known one, or nearly."""
        found = np.isin(keys, self._keys)
        if not len(self._keys):
            return found
        bands = sketches.view(np.uint64)
        for band in range(BANDS):
            known = self._sorted[:, band]
            first = np.searchsorted(known, bands[:, band])
            hits = known[np.minimum(first, len(known) - 1)] == bands[:, band]
            for row in np.flatnonzero(hits & ~found).tolist():
                end = np.searchsorted(known, bands[row, band], side="right")
                others = self._orders[first[row] : min(int(end), int(first[row]) + MOST_COMPARED), band]
                found[row] = _any_alike(self._sketches[others], sketches[row], self._needed)
        return found


def _shared_bands(sketches: Sketches) -> npt.NDArray[np.int32]:
    """For each query and band the number of the group whose band it shares, -1 where it is alone, (queries, bands)."""
    bands = sketches.view(np.uint64)
    groups = np.full(bands.shape, -1, dtype=np.int32)
    count = 0
    for band in range(BANDS):
        _, inverse, sizes = np.unique(bands[:, band], return_inverse=True, return_counts=True)
        numbers = np.full(len(sizes), -1, dtype=np.int32)
        several = np.flatnonzero(sizes > 1)
        numbers[several] = np.arange(count, count + len(several), dtype=np.int32)
        groups[:, band] = numbers[inverse]
        count += len(several)
    return groups


def _any_alike(others: Sketches, own: Sketches, needed: float) -> bool:
    return bool(((others == own).sum(axis=1) >= needed).any())


def _blocks(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(texts), BLOCK):
        yield texts[start : start + BLOCK]
