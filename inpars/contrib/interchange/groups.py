"""Group the rows of a stream by query, through a temporary file in the cache and about 50 bytes of memory per row."""

from __future__ import annotations

import pickle
import tempfile
from array import array
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from inpars.cache import cache_folder
from inpars.contrib.interchange.items import Item, Labelled
from inpars.errors import DataFormatError
from inpars.io.storage import storage_errors
from inpars.records import ScoredDocument
from inpars.text.hashing import key64

Row = TypeVar("Row")
RECENT = 1 << 18  # keys held in a plain set before they are merged into the sorted array


class SeenKeys:
    """A set of keys in eight bytes each, for finding repetitions in files of any size.

    Keys are compared by 64-bit hashes: among ten million keys the chance of any collision is about 3 in a million.
    """

    def __init__(self, recent: int = RECENT) -> None:
        """Keys are merged into the compact array `recent` at a time."""
        self._limit = recent
        self._recent: set[int] = set()
        self._sorted: npt.NDArray[np.uint64] = np.empty(0, dtype=np.uint64)

    def __contains__(self, parts: tuple[str, ...]) -> bool:
        key = key64(*parts)
        return key in self._recent or self._merged(key)

    def add(self, *parts: str) -> bool:
        """Add a key of one or more strings; whether it is new."""
        key = key64(*parts)
        if key in self._recent or self._merged(key):
            return False
        self._recent.add(key)
        if len(self._recent) >= self._limit:
            self._merge()
        return True

    def _merged(self, key: int) -> bool:
        index = int(self._sorted.searchsorted(np.uint64(key)))
        return index < len(self._sorted) and int(self._sorted[index]) == key

    def _merge(self) -> None:
        fresh = np.fromiter(self._recent, dtype=np.uint64, count=len(self._recent))
        self._sorted = np.sort(np.concatenate([self._sorted, fresh]), kind="stable")
        self._recent.clear()


class NotTogetherError(DataFormatError):
    """The rows of a query are not neighbours; the reader can start again through `together`."""

    def __init__(self, query_id: str, *, path: Path) -> None:
        self.query_id = query_id
        super().__init__(f"the lines of query {query_id!r} are not together; sort the file by query", path=path)


def are_together(keys: Iterable[str]) -> bool:
    """Whether equal keys are neighbours."""
    seen = SeenKeys()
    return all(seen.add(key) for key, _ in groupby(keys))


def regrouped(rows: Iterable[Row], key: Callable[[Row], str | None]) -> Iterator[Row]:
    """The rows key by key, keys by first appearance; rows without a key come first. Otherwise keeps the order."""
    folder = cache_folder()
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        stream = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by the `with` below
    keys, starts = array("Q"), array("q")
    with stream:
        for row in rows:
            row_key = key(row)
            if row_key is None:
                yield row
                continue
            with storage_errors(folder):
                keys.append(key64(row_key))
                starts.append(stream.tell())
                pickle.dump(row, stream)
        for number in _order(np.array(keys, dtype=np.uint64)):
            stream.seek(starts[number])
            yield pickle.load(stream)  # noqa: S301, RUF100 - written above


def together(items: Iterable[Item]) -> Iterator[Item]:
    """All items; ranked and labelled documents come last, query by query."""
    return regrouped(items, _query_id)


def _query_id(item: Item) -> str | None:
    if isinstance(item, ScoredDocument):
        return item.query_id
    return item.query.query_id if isinstance(item, Labelled) else None


def _order(keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.intp]:
    """Row numbers with equal keys as neighbours, keys by their first row."""
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    return np.argsort(first[inverse], kind="stable")
