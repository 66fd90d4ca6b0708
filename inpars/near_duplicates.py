"""Texts that are nearly the same, found by MinHash over runs of words.

The share of equal minima of two texts estimates the Jaccard similarity of their word triples; a text is compared with
those alone that share a whole band of minima. Broder, "On the resemblance and containment of documents", 1997.
"""

from __future__ import annotations

import zlib

import numpy as np
import numpy.typing as npt

from inpars.filtering import words

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
