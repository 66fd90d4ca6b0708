"""Embeddings saved block by block, by this process or by others, which make the same files from the same rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias, TypeVar

from inpars.progress import Progress

T = TypeVar("T")
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


def fill_here(
    blocks: Sequence[Path],
    parts: Iterable[Sequence[T]],
    save: Callable[[Path, Sequence[T]], None],
    size: int,
    count: int,
    encoder: str,
    progress: Progress,
) -> Iterator[Sequence[T]]:
    """Save the parts whose blocks an interrupted run, or another process, has not; each part when it is on disk.

    `count` documents in all, `size` to a block; `save` advances the progress.
    """
    done = min(sum(block.exists() for block in blocks) * size, count)
    pairs = zip(blocks, parts, strict=True)
    description = f"encode with {encoder}"
    for block, part in progress.track(pairs, total=count, description=description, unit="documents", done=done):
        if not block.exists():
            save(block, part)
        yield part
