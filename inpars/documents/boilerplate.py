"""Text at the head or foot of many files: menus, copyright lines, banners.

Looked at are the short blocks at both ends of each file; page numbers and the years of copyright lines may differ.
Prices, weights and periods that differ are no boilerplate. The first file that has one keeps it, so that nothing is
lost altogether. Headers and footers of the pages of one PDF are its reader's.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import deque
from collections.abc import Collection, Iterable, Iterator

from inpars.documents.blocks import Block

EDGE_BLOCKS = 20
MAX_CHARACTERS = 300
MIN_FILES, MIN_SHARE = 3, 0.2  # of the files of one kind
_PAGE = re.compile(r"(?:\b(?:page|seite|p\.)\s*|^\W*)\d+(?:\s*(?:/|of|von|de)\s*\d+)?\W*$")  # at the end of a block
_COPYRIGHT = re.compile(r"©|\bcopyright\b|\(c\)\s*(?:19|20)\d\d\b")
_YEAR = re.compile(r"\b(?:19|20)\d\d\b")


class Edges:
    """Passes blocks on and keeps the first and last ones; memory does not grow with their number."""

    def __init__(self) -> None:
        self.count = 0
        self._first: list[int | None] = []
        self._last: deque[int | None] = deque(maxlen=EDGE_BLOCKS)

    def watch(self, blocks: Iterable[Block]) -> Iterator[Block]:
        """The same blocks."""
        for block in blocks:
            key = _key(block)
            if len(self._first) < EDGE_BLOCKS:
                self._first.append(key)
            self._last.append(key)
            self.count += 1
            yield block

    @property
    def keys(self) -> list[int]:
        """What identifies the blocks at the ends, in ascending order."""
        return sorted({key for key in (*self._first, *self._last) if key is not None})


def repeated(edges: Iterable[Collection[int]]) -> dict[int, int]:
    """Keys shared by so many files that they are boilerplate, each with the number of its first file."""
    files: dict[int, list[int]] = {}
    number = -1
    for number, keys in enumerate(edges):
        for key in keys:
            first_and_count = files.setdefault(key, [number, 0])
            first_and_count[1] += 1
    least = max(MIN_FILES, math.ceil(MIN_SHARE * (number + 1)))
    return {key: first for key, (first, count) in files.items() if count >= least}


def without(blocks: Iterable[Block], count: int, unwanted: Collection[int]) -> Iterator[Block]:
    """The blocks of a file but those at its ends that are unwanted; `count` is the number of its blocks."""
    for position, block in enumerate(blocks):
        at_edge = position < EDGE_BLOCKS or position >= count - EDGE_BLOCKS
        if not (at_edge and _key(block) in unwanted):
            yield block


def _key(block: Block) -> int | None:
    """A hash of a short block's words, None for long ones and for records."""
    if block.record is not None or len(block.text) > MAX_CHARACTERS:
        return None
    shape = " ".join(block.text.split()).casefold()
    shape = _YEAR.sub("0", shape) if _COPYRIGHT.search(shape) else _PAGE.sub("0", shape)
    return int.from_bytes(hashlib.blake2b(shape.encode("utf-8", "replace"), digest_size=6).digest(), "little")
