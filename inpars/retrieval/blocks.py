"""Embeddings saved block by block, by this process or by others, which make the same files from the same rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from inpars.progress import Progress

SaveBlock: TypeAlias = Callable[[Any, range, Path], None]
"""Writes an encoder's embeddings of some rows to a block's file."""


class Rows(Protocol):
    """Documents by number, pickled as the path they are read from."""

    def open(self) -> SaveBlock:
        """What embeds some of them, in the process that does it."""
        ...


class FillBlocks(Protocol):
    """Has other processes embed."""

    def __call__(self, rows: Rows, blocks: Sequence[Path], size: int, count: int, progress: Progress) -> None:
        """Write the embeddings of `count` rows, `size` to a block, where the block's file is not there yet."""
        ...
