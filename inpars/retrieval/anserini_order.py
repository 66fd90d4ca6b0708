"""The order and the scores that Anserini, and so pyserini, gives to Lucene's hits: ties by id, then lowered a little.

Pure functions on the hits of many queries at once. Knows nothing of Java.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float32]

_DECIMALS = 1e4  # scores are rounded to so much
_TIE = np.float32(1e-4)  # no larger a gap to the hit before counts as a tie
_STEP = np.float32(1e-6)  # by which each further hit of a tie is lowered


@dataclass(frozen=True, slots=True)
class Hits:
    """The best documents of some queries by Lucene's numbers, shape `(queries, depth)`; the first `counts` are filled.

    Best first; of equal scores the lower number first.
    """

    documents: Numbers
    scores: Scores
    counts: Numbers

    @property
    def filled(self) -> npt.NDArray[np.bool_]:
        """Where there is a hit."""
        return np.arange(self.scores.shape[1]) < self.counts[:, None]


def cut_inside_tie(hits: Hits, k: int) -> list[int]:
    """The queries whose k-th and last hit are equal, so that there may be more of them and ids decide which come in."""
    depth = hits.scores.shape[1]
    return [int(row) for row in np.flatnonzero((hits.counts == depth) & (hits.scores[:, k - 1] == hits.scores[:, -1]))]


def ids_in_order(hits: Hits, names: Sequence[str], k: int) -> list[list[str]]:
    """The ids of the k best of each query, equal scores in ascending order of ids; `names` are those of all hits."""
    remaining, ids = iter(names), []
    for scores, count in zip((-hits.scores).tolist(), hits.counts.tolist(), strict=True):
        best = sorted(zip(scores[:count], remaining, strict=False))[:k]
        ids.append([name for _, name in best])
    return ids


def unequal_scores(hits: Hits) -> npt.NDArray[np.float64]:
    """Anserini's tie-breaking: scores are rounded to four decimals, each later tied one lowered a little (float32).

    Where that precision leaves two of them equal, the later one is the next smaller double, so that scores alone give
    the order; as single precision numbers they are Anserini's to the last bit.
    """
    scores = np.where(hits.filled, hits.scores, np.float32(0)).astype(np.float64)
    rounded = (np.floor(scores * _DECIMALS + 0.5) / _DECIMALS).astype(np.float32)
    rank_in_tie = np.zeros(len(rounded), dtype=np.float32)
    for column in range(1, rounded.shape[1]):
        apart = rounded[:, column - 1] - rounded[:, column] > _TIE
        rank_in_tie = np.where(apart, np.float32(0), rank_in_tie + np.float32(1))
        rounded[:, column] -= _STEP * rank_in_tie
    return decreasing(rounded)


def decreasing(scores: Scores) -> npt.NDArray[np.float64]:
    """The scores of rows, none equal to the one before it in its row: the next smaller number in its place."""
    lowered = scores.astype(np.float64)
    for column in range(1, lowered.shape[1]):
        lowered[:, column] = np.minimum(lowered[:, column], np.nextafter(lowered[:, column - 1], -np.inf))
    return lowered
