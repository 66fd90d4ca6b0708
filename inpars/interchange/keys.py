"""A set of many strings in eight bytes each, for telling what was seen before in a file of any size.

Strings are told apart by 64-bit hashes: among ten million the chance that any two are taken for one is about 3 in a
million.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from inpars.text.hashing import key64

RECENT = 1 << 18  # keys held in a plain set before they are merged into the sorted array
KEY_BYTES = 8


class SeenKeys:
    """Remembers keys."""

    def __init__(self, recent: int = RECENT) -> None:
        """Merge into the compact array every `recent` keys."""
        self._limit = recent
        self._recent: set[int] = set()
        self._sorted: npt.NDArray[np.uint64] = np.empty(0, dtype=np.uint64)

    def __len__(self) -> int:
        return len(self._recent) + len(self._sorted)

    def __contains__(self, parts: tuple[str, ...]) -> bool:
        key = key64(*parts)
        return key in self._recent or self._merged(key)

    def add(self, *parts: str) -> bool:
        """Remember a key of one or more strings; whether it is new."""
        key = key64(*parts)
        if key in self._recent or self._merged(key):
            return False
        self._recent.add(key)
        if len(self._recent) >= self._limit:
            self._merge()
        return True

    def _merged(self, key: int) -> bool:
        place = int(self._sorted.searchsorted(np.uint64(key)))
        return place < len(self._sorted) and int(self._sorted[place]) == key

    def _merge(self) -> None:
        fresh = np.fromiter(self._recent, dtype=np.uint64, count=len(self._recent))
        self._sorted = np.sort(np.concatenate([self._sorted, fresh]), kind="stable")
        self._recent.clear()
