"""Sequences and streams cut into batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")


def slices(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """Consecutive slices of `size` items; the last may be shorter."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """As `slices`, for any iterable; holds one chunk in memory."""
    stream = iter(items)
    while chunk := list(islice(stream, size)):
        yield chunk
