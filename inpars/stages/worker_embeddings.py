"""Embeddings by several workers: each has the bi-encoder, reads documents from disk and writes blocks' files.

The blocks are those of one process, and so are the embeddings; a block whose file is there is not made again.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inpars.progress import Progress
from inpars.retrieval.blocks import Rows
from inpars.stages.shard_folder import ShardFolder, remove_leftovers
from inpars.stages.workers import Workers, do_shards

if TYPE_CHECKING:
    from inpars.retrieval.retrievers import Retriever


@dataclass(frozen=True, slots=True)
class EncodeByWorkers:
    """`retrieval.blocks.FillBlocks` of workers; `make` loads the encoder in each, and is pickled."""

    workers: Workers
    make: Callable[[], Retriever]

    def __call__(self, rows: Rows, blocks: Sequence[Path], size: int, count: int, progress: Progress) -> None:
        """Write the embeddings of `count` rows, `size` to a file."""
        output, files = blocks[0].absolute().with_name("blocks"), tuple(block.absolute() for block in blocks)
        folder = ShardFolder.open(output, f"{size}", size, count, progress)
        make = functools.partial(EncodeWorker, rows, files, size, self.make)
        do_shards(make, folder, folder.items, self.workers, description="encode", unit="documents", progress=progress)
        remove_leftovers(output)


class EncodeWorker:
    """A bi-encoder in a worker's process."""

    device = ""

    def __init__(self, rows: Rows, blocks: Sequence[Path], size: int, make: Callable[[], Retriever]) -> None:
        self._blocks, self._size, self._save, self._encoder = blocks, size, rows.open(), make()

    def write(self, shard: range, partial: Path, output: Path) -> Mapping[str, Any]:
        """The embeddings of one block's rows."""
        block = self._blocks[shard.start // self._size]
        if not block.exists():
            self._save(self._encoder, shard, block)
        return {}
