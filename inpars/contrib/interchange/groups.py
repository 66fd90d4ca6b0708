"""Rows that belong together, brought together whatever order they come in.

They go through a temporary file in the cache and are read again query by query; in memory are some 50 bytes per row.
"""

from __future__ import annotations

import pickle
import tempfile
from array import array
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import Generic, TypeVar

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
    """A set of many strings in eight bytes each, for telling what was seen before in a file of any size.

    Strings are told apart by 64-bit hashes: among ten million the chance that any two are taken for one is about 3 in
    a million.
    """

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
        index = int(self._sorted.searchsorted(np.uint64(key)))
        return index < len(self._sorted) and int(self._sorted[index]) == key

    def _merge(self) -> None:
        fresh = np.fromiter(self._recent, dtype=np.uint64, count=len(self._recent))
        self._sorted = np.sort(np.concatenate([self._sorted, fresh]), kind="stable")
        self._recent.clear()


class NotTogetherError(DataFormatError):
    """The rows of a query are not neighbours: whoever reads them may begin again, with `together` before the rows."""

    def __init__(self, query_id: str, *, path: Path) -> None:
        self.query_id = query_id
        super().__init__(f"the lines of query {query_id!r} are not together; sort the file by query", path=path)


def are_together(keys: Iterable[str]) -> bool:
    """Whether equal keys are neighbours."""
    seen = SeenKeys()
    return all(seen.add(key) for key, _ in groupby(keys))


def regrouped(rows: Iterable[Row], key: Callable[[Row], str]) -> Iterator[Row]:
    """The rows key by key, in the order in which the keys first come; those of one key keep their order."""
    with _Spill[Row]() as spill:
        for row in rows:
            spill.add(key(row), row)
        yield from spill.rows()


def together(items: Iterable[Item]) -> Iterator[Item]:
    """All items; ranked and labelled documents come last, query by query."""
    with _Spill[ScoredDocument | Labelled]() as spill:
        for item in items:
            if isinstance(item, ScoredDocument):
                spill.add(item.query_id, item)
            elif isinstance(item, Labelled):
                spill.add(item.query.query_id, item)
            else:
                yield item
        yield from spill.rows()


class _Spill(Generic[Row]):
    """Rows in a temporary file, with a hash of each one's key and where it begins."""

    def __init__(self) -> None:
        folder = cache_folder()
        with storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._stream = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by __exit__
        self._keys, self._starts = array("Q"), array("q")

    def add(self, key: str, row: Row) -> None:
        with storage_errors(cache_folder()):
            self._keys.append(key64(key))
            self._starts.append(self._stream.tell())
            pickle.dump(row, self._stream)

    def rows(self) -> Iterator[Row]:
        """All rows, those of equal keys as neighbours."""
        for number in _order(np.array(self._keys, dtype=np.uint64)):
            self._stream.seek(self._starts[number])
            yield pickle.load(self._stream)  # noqa: S301, RUF100 - what `add` wrote

    def __enter__(self) -> _Spill[Row]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()


def _order(keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.intp]:
    """Row numbers such that equal keys are neighbours, ordered by each key's first row."""
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    return np.argsort(first[inverse], kind="stable")
