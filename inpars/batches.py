"""Sequences and streams cut into batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")


def slices(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """Parts of a sequence, `size` items each, the last one shorter."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """As `slices` for what can be read only once; no more than one chunk is in memory."""
    stream = iter(items)
    while chunk := list(islice(stream, size)):
        yield chunk
