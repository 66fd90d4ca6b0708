"""Detect text at the start or end of many files: menus, copyright lines, banners.

Only short blocks at both ends of each file are compared. Page numbers and years of copyright lines may differ; other
numbers, such as prices, may not. The first file keeps the text. The PDF reader handles page headers and footers.
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
_PAGE = re.compile(r"(?:\b(?:page|seite|p\.)\s*|^\W*)\d+(?:\s*(?:/|of|von|de)\s*\d+)?\W*$")
_COPYRIGHT = re.compile(r"©|\bcopyright\b|\(c\)\s*(?:19|20)\d\d\b")
_YEAR = re.compile(r"\b(?:19|20)\d\d\b")


class Edges:
    """Records the keys of the first and last blocks of a stream, in constant memory."""

    def __init__(self) -> None:
        self.count = 0
        self._first: list[int | None] = []
        self._last: deque[int | None] = deque(maxlen=EDGE_BLOCKS)

    def watch(self, blocks: Iterable[Block]) -> Iterator[Block]:
        """Pass the blocks on unchanged."""
        for block in blocks:
            key = _key(block)
            if len(self._first) < EDGE_BLOCKS:
                self._first.append(key)
            self._last.append(key)
            self.count += 1
            yield block

    @property
    def keys(self) -> list[int]:
        """The sorted keys of the blocks at both ends."""
        return sorted({key for key in (*self._first, *self._last) if key is not None})


def repeated(edges: Iterable[Collection[int]]) -> dict[int, int]:
    """The keys of boilerplate, shared by enough files, each with the number of its first file."""
    files: dict[int, list[int]] = {}  # key -> number of the first file, count
    number = -1
    for number, keys in enumerate(edges):
        for key in keys:
            files.setdefault(key, [number, 0])[1] += 1
    minimum = max(MIN_FILES, math.ceil(MIN_SHARE * (number + 1)))
    return {key: first for key, (first, count) in files.items() if count >= minimum}


def without(blocks: Iterable[Block], count: int, unwanted: Collection[int]) -> Iterator[Block]:
    """Drop the unwanted blocks at both ends of a file of `count` blocks."""
    for position, block in enumerate(blocks):
        at_edge = position < EDGE_BLOCKS or position >= count - EDGE_BLOCKS
        if not (at_edge and _key(block) in unwanted):
            yield block


def _key(block: Block) -> int | None:
    """A hash of a short block's words, None for long blocks and records."""
    if block.record is not None or len(block.text) > MAX_CHARACTERS:
        return None
    shape = " ".join(block.text.split()).casefold()
    shape = _YEAR.sub("0", shape) if _COPYRIGHT.search(shape) else _PAGE.sub("0", shape)
    return int.from_bytes(hashlib.blake2b(shape.encode("utf-8", "replace"), digest_size=6).digest(), "little")
