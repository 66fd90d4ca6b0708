"""Near-duplicate detection with MinHash, for millions of texts in bounded memory.

A sketch is 64 minima of 16 bits (128 bytes). The share of equal minima estimates the Jaccard similarity of the texts'
features: word trigrams for documents; words and word pairs for queries, which are too short for trigrams. Two texts
are compared only if a band of four minima agrees. Broder, "On the resemblance and containment of documents", 1997;
short minima as in Li and König, "b-Bit Minwise Hashing", 2010.
"""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from inpars.text.words import words

SHINGLE_WORDS = 3
HASHES, BANDS = 64, 16  # four minima per band: texts of similarity 0.8 share a band with probability 99.98%
THRESHOLD = 0.8
WORD_STEP = np.uint64(0x9E3779B97F4A7C15)  # odd; makes the hash depend on word order
VALUES_AT_ONCE = 1 << 16

Sketches: TypeAlias = npt.NDArray[np.uint16]
"""(texts, hashes)."""
Mask: TypeAlias = npt.NDArray[np.bool_]
Features: TypeAlias = npt.NDArray[np.uint64]


def _factors(seed: int) -> npt.NDArray[np.uint64]:
    drawn = np.random.default_rng(seed).integers(0, 2**63, (HASHES, 2), dtype=np.uint64)
    return drawn * np.uint64(2) + np.uint64(1)


OF_DOCUMENTS, OF_QUERIES = _factors(1997), _factors(2010)  # (hashes, factor and summand)


def sketch_document(text: Sequence[str]) -> Sketches:
    """The sketch of a document's word trigrams, (hashes,); a text of fewer words is one feature."""
    single = _word_hashes(text)
    count = max(1, len(single) - SHINGLE_WORDS + 1)
    runs = np.zeros(count, dtype=np.uint64)
    with np.errstate(over="ignore"):  # arithmetic is modulo 2**64
        for offset in range(min(SHINGLE_WORDS, len(single))):
            runs = runs * WORD_STEP + single[offset : offset + count] + np.uint64(1)
    sketch: Sketches = _minima(_mixed(runs), np.zeros(1, dtype=np.int64), OF_DOCUMENTS)[0]
    return sketch


def sketch_queries(texts: Sequence[Sequence[str]]) -> Sketches:
    """The sketches of queries' words and word pairs, (queries, hashes)."""
    if not texts:
        return np.empty((0, HASHES), dtype=np.uint16)
    lengths = np.array([max(1, len(text)) for text in texts])
    single = _word_hashes(word for text in texts for word in (text or ("",)))  # (all words,)
    starts = np.concatenate(([0], np.cumsum(lengths)[:-1]))
    with np.errstate(over="ignore"):
        pairs = single * WORD_STEP + np.roll(single, -1) + np.uint64(1)
    last = starts + lengths - 1
    pairs[last] = single[last]  # the last word has no successor
    mixed = _mixed(np.stack([single, pairs], axis=1).ravel())
    return _minima(mixed ^ (mixed >> np.uint64(32)), 2 * starts, OF_QUERIES)


def _word_hashes(words: Iterable[str]) -> Features:
    return np.array([zlib.crc32(word.encode()) for word in words], dtype=np.uint64)


def _mixed(features: Features) -> Features:
    with np.errstate(over="ignore"):
        return (features ^ (features >> np.uint64(29))) * WORD_STEP


def _minima(features: Features, starts: npt.NDArray[np.int64], functions: npt.NDArray[np.uint64]) -> Sketches:
    """The smallest hash of each text's features per hash function, (texts, hashes); texts begin at `starts`."""
    result = np.empty((len(starts), HASHES), dtype=np.uint16)
    step = max(1, VALUES_AT_ONCE // len(features))
    with np.errstate(over="ignore"):
        for first in range(0, HASHES, step):
            factors = functions[first : first + step]
            hashed = (features * factors[:, :1] + factors[:, 1:]) >> np.uint64(32)  # (step, features)
            result[:, first : first + step] = np.minimum.reduceat(hashed, starts, axis=1).T.astype(np.uint16)
    return result  # the low bits of the minima


def near_duplicates(sketches: Sketches, threshold: float, most_compared: int | None = None) -> Mask:
    """Mask of texts that resemble an earlier text that is not itself a near-duplicate, (texts,).

    A text is compared with at most `most_compared` texts per band, which keeps the time linear.
    """
    groups = np.full((len(sketches), BANDS), -1, dtype=np.int64)
    for number, (band, rows) in enumerate(_buckets(sketches)):
        groups[rows, band] = number
    repeats = np.zeros(len(sketches), dtype=np.bool_)
    leaders: dict[int, list[int]] = {}
    for row in np.flatnonzero((groups >= 0).any(axis=1)).tolist():
        buckets = [group for group in groups[row].tolist() if group >= 0]
        near = {other for group in buckets for other in leaders.get(group, ())}
        if near and resembles_any(sketches[list(near)], sketches[row], threshold):
            repeats[row] = True
            continue
        for group in buckets:
            kept = leaders.setdefault(group, [])
            if most_compared is None or len(kept) < most_compared:
                kept.append(row)
    return repeats


def resembles_any(others: Sketches, sketch: Sketches, threshold: float) -> bool:
    """Whether a sketch is at least `threshold` similar to any of the others."""
    return bool(((others == sketch).mean(axis=1) >= threshold).any())


class NearDuplicates:
    """Detects near-duplicates in a stream of texts."""

    def __init__(self) -> None:
        self._sketches: list[Sketches] = []
        self._bands: dict[tuple[int, int], list[int]] = {}

    def add(self, text: str) -> bool:
        """Keep the text unless it resembles an earlier one; returns whether it was kept.

        A text without words resembles nothing.
        """
        text_words = words(text)
        if not text_words:
            return True
        sketch = sketch_document(text_words)
        bands = list(enumerate(sketch.view(np.uint64).tolist()))
        near = {number for band in bands for number in self._bands.get(band, ())}
        if near and resembles_any(np.stack([self._sketches[number] for number in near]), sketch, THRESHOLD):
            return False
        for band in bands:
            self._bands.setdefault(band, []).append(len(self._sketches))
        self._sketches.append(sketch)
        return True


class NearDuplicateClusters:
    """Finds near-duplicates among many texts, and clusters of them that do not depend on the order of the texts."""

    def __init__(self, threshold: float = THRESHOLD) -> None:
        self._threshold = threshold
        self._minima, self._has_words = array("H"), array("B")

    def add(self, text: str) -> None:
        """Add the next text; a text without words resembles nothing."""
        text_words = words(text)
        self._has_words.append(bool(text_words))
        if text_words:
            self._minima.frombytes(sketch_document(text_words).tobytes())

    def repeats(self) -> Mask:
        """Mask of the texts that `NearDuplicates` would not keep, (texts,)."""
        repeats = np.zeros(len(self._has_words), dtype=np.bool_)
        repeats[self._rows_with_words()] = near_duplicates(self._sketches(), self._threshold)
        return repeats

    def labels(self) -> npt.NDArray[np.int64]:
        """The position of the first text of each text's cluster, (texts,)."""
        rows = self._rows_with_words()
        labels = np.arange(len(self._has_words), dtype=np.int64)
        labels[rows] = rows[clusters(self._sketches(), self._threshold)]
        return labels

    def _rows_with_words(self) -> npt.NDArray[np.int64]:
        return np.flatnonzero(np.frombuffer(self._has_words, dtype=np.uint8))

    def _sketches(self) -> Sketches:
        return np.frombuffer(self._minima, dtype=np.uint16).reshape(-1, HASHES)


def clusters(sketches: Sketches, threshold: float) -> npt.NDArray[np.int64]:
    """The first text of each text's connected component of near-duplicates, (texts,)."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    links = [np.zeros((0, 2), dtype=np.int64), *(_links(sketches, rows, threshold) for _, rows in _buckets(sketches))]
    one, other = np.concatenate(links).T
    shape = (len(sketches), len(sketches))
    graph = coo_array((np.ones(len(one), dtype=np.bool_), (one, other)), shape=shape)
    labels = connected_components(graph, directed=False)[1]
    firsts: npt.NDArray[np.int64] = np.unique(labels, return_index=True)[1][labels]
    return firsts


def _links(sketches: Sketches, rows: npt.NDArray[np.int64], threshold: float) -> npt.NDArray[np.int64]:
    """Pairs of near-duplicates in a bucket, (pairs, 2); texts with equal sketches are linked to the first of them."""
    _, first, same = np.unique(sketches[rows], axis=0, return_index=True, return_inverse=True)
    links = [np.stack([rows, rows[first[same.reshape(-1)]]], axis=1)]
    distinct = rows[first]
    for position, text in enumerate(distinct[:-1]):
        others = distinct[position + 1 :]
        near = others[(sketches[others] == sketches[text]).mean(axis=1) >= threshold]
        links.append(np.stack([np.full(len(near), text), near], axis=1))
    return np.concatenate(links)


def _buckets(sketches: Sketches) -> Iterator[tuple[int, npt.NDArray[np.int64]]]:
    """Each band with each group of at least two texts that agree in it."""
    for band, keys in enumerate(np.ascontiguousarray(sketches).view(np.uint64).T):
        _, numbers, sizes = np.unique(keys, return_inverse=True, return_counts=True)
        order = np.argsort(numbers, kind="stable")
        ends = np.cumsum(sizes)
        for shared in np.flatnonzero(sizes > 1).tolist():
            yield band, order[ends[shared] - sizes[shared] : ends[shared]]
