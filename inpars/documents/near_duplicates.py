"""Texts that are nearly the same, found by MinHash over runs of words.

The share of equal minima of two texts estimates the Jaccard similarity of their word triples; a text is compared with
those alone that share a whole band of minima. Broder, "On the resemblance and containment of documents", 1997.
"""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from inpars.text.words import words

SHINGLE_WORDS = 3
HASHES, BANDS = 64, 16  # four minima a band: texts of similarity 0.8 share one of 16 bands in 99.98% of all cases
THRESHOLD = 0.8
MULTIPLIERS = np.random.default_rng(1997).integers(0, 2**63, (HASHES, 2), dtype=np.uint64) * 2 + 1
WORD_STEP = np.uint64(0x9E3779B97F4A7C15)  # odd, so that the order of words counts

Signature = npt.NDArray[np.uint64]


class NearDuplicates:
    """The texts seen so far that resembled none before them."""

    def __init__(self, threshold: float = THRESHOLD) -> None:
        self._threshold = threshold
        self._signatures: list[Signature] = []
        self._bands: dict[tuple[int, bytes], list[int]] = {}

    def add(self, text: str) -> bool:
        """Remember the text unless it resembles an earlier one; whether it was remembered.

        A text without words resembles nothing.
        """
        found = words(text)
        if not found:
            return True
        own = signature(found)
        bands = [(n, band.tobytes()) for n, band in enumerate(own.reshape(BANDS, -1))]
        candidates = {number for band in bands for number in self._bands.get(band, ())}
        if any(float((self._signatures[number] == own).mean()) >= self._threshold for number in candidates):
            return False
        for band in bands:
            self._bands.setdefault(band, []).append(len(self._signatures))
        self._signatures.append(own)
        return True


def signature(text: tuple[str, ...]) -> Signature:
    """The smallest hash of the word triples under each of the hash functions, (hashes,)."""
    each = np.array([zlib.crc32(word.encode()) for word in text], dtype=np.uint64)
    count = max(1, len(each) - SHINGLE_WORDS + 1)
    with np.errstate(over="ignore"):  # arithmetic modulo 2**64 is meant
        shingles = np.zeros(count, dtype=np.uint64)
        for offset in range(min(SHINGLE_WORDS, len(each))):
            shingles = shingles * WORD_STEP + each[offset : offset + count] + np.uint64(1)
        mixed = (shingles ^ (shingles >> np.uint64(29))) * WORD_STEP
        hashed = mixed[None] * MULTIPLIERS[:, :1] + MULTIPLIERS[:, 1:]
    found: Signature = (hashed >> np.uint64(32)).min(axis=1)
    return found


class NearDuplicateClusters:
    """Clusters of texts that are linked by near-duplicates: 256 bytes a text, whatever its length.

    Unlike `NearDuplicates` the outcome does not depend on the order of the texts.
    """

    def __init__(self, threshold: float = THRESHOLD) -> None:
        self._threshold = threshold
        self._minima = array("I")
        self._lonely: list[int] = []  # texts without words, which resemble nothing
        self._count = 0

    def add(self, text: str) -> None:
        """Take in the next text."""
        found = words(text)
        if not found:
            self._lonely.append(self._count)
        minima = signature(found).astype(np.uint32) if found else np.zeros(HASHES, dtype=np.uint32)
        self._minima.frombytes(minima.tobytes())
        self._count += 1

    def repeats(self) -> npt.NDArray[np.bool_]:
        """Which texts resemble an earlier one that is none of these, (texts,): what `NearDuplicates` would not add."""
        minima, labels = self._all_minima(), self.labels()
        found = np.zeros(self._count, dtype=np.bool_)
        order = np.argsort(labels, kind="stable")
        for members in np.split(order, np.flatnonzero(np.diff(labels[order])) + 1) if self._count else ():
            kept = [int(members[0])]
            for text in members[1:].tolist():
                found[text] = bool(((minima[kept] == minima[text]).mean(axis=1) >= self._threshold).any())
                if not found[text]:
                    kept.append(text)
        return found

    def _all_minima(self) -> npt.NDArray[np.uint32]:
        return np.frombuffer(self._minima, dtype=np.uint32).reshape(-1, HASHES)

    def labels(self) -> npt.NDArray[np.int64]:
        """For each text the number of the first text of its cluster, (texts,)."""
        minima = self._all_minima()
        parents = np.arange(self._count)
        lonely = np.zeros(self._count, dtype=np.bool_)
        lonely[self._lonely] = True
        for bucket in _buckets(minima, np.flatnonzero(~lonely)):
            _link_resembling(minima, bucket, parents, self._threshold)
        return np.array([_root(parents, text) for text in range(self._count)], dtype=np.int64)


def _buckets(minima: npt.NDArray[np.uint32], texts: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[np.int64]]:
    """Groups of two and more texts that share a whole band of minima."""
    for start in range(0, HASHES, HASHES // BANDS):
        band = np.ascontiguousarray(minima[texts, start : start + HASHES // BANDS])
        keys = band.view(np.dtype((np.void, band.dtype.itemsize * band.shape[1])))[:, 0]
        _, numbers, sizes = np.unique(keys, return_inverse=True, return_counts=True)
        order = np.argsort(numbers, kind="stable")
        ends = np.cumsum(sizes)
        for shared in np.flatnonzero(sizes > 1):
            yield texts[order[ends[shared] - sizes[shared] : ends[shared]]]


def _link_resembling(
    minima: npt.NDArray[np.uint32], bucket: npt.NDArray[np.int64], parents: npt.NDArray[np.int64], threshold: float
) -> None:
    """Link all pairs of a bucket that resemble each other. Texts of one signature stand for each other."""
    _, first, same = np.unique(minima[bucket], axis=0, return_index=True, return_inverse=True)
    for text, number in zip(bucket, same.reshape(-1), strict=True):
        _link(parents, int(text), int(bucket[first[number]]))
    apart = bucket[first]
    for position, text in enumerate(apart[:-1]):
        others = apart[position + 1 :]
        similar = (minima[others] == minima[text]).mean(axis=1) >= threshold
        for other in others[similar]:
            _link(parents, int(text), int(other))


def _link(parents: npt.NDArray[np.int64], one: int, other: int) -> None:
    one, other = sorted((_root(parents, one), _root(parents, other)))
    parents[other] = one


def _root(parents: npt.NDArray[np.int64], text: int) -> int:
    while (parent := int(parents[text])) != text:
        parents[text] = parents[parent]
        text = parent
    return text
