"""Embeddings by the workers of a cluster: each has the bi-encoder, reads documents from disk and writes blocks' files.

The blocks are those of one process, and so are the embeddings; a block whose file is there is not made again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from inpars.cluster.generating import open_corpus
from inpars.cluster.options import ClusterOptions
from inpars.cluster.shard_folder import ShardFolder, remove_shards
from inpars.cluster.work import do_shards
from inpars.corpus import Corpus
from inpars.progress import Progress
from inpars.retrieval.segments import read_texts_at

if TYPE_CHECKING:
    from inpars.retrieval.dense import Encoder


Save: TypeAlias = Callable[["Encoder", range, Path], None]
"""Writes the embeddings of some rows to a block's file."""


@dataclass(frozen=True, slots=True)
class CorpusRows:
    """The documents of a corpus by their places in its file; travels by path."""

    path: Path
    sha256: str

    @classmethod
    def of(cls, corpus: Corpus) -> CorpusRows:
        """Of this one."""
        return cls(corpus.path.absolute(), corpus.sha256)

    def open(self) -> Save:
        """What embeds some of them, in the worker."""
        from inpars.retrieval.dense import save_embeddings

        documents = open_corpus(self.path, self.sha256).in_file_order()
        return lambda encoder, rows, block: save_embeddings(block, [documents[row] for row in rows], encoder)


@dataclass(frozen=True, slots=True)
class SegmentRows:
    """The rows of an index's segment; travels by path."""

    folder: Path

    def open(self) -> Save:
        """What embeds some of them, in the worker."""
        from inpars.retrieval.index_writing import save_embeddings

        return lambda encoder, rows, block: save_embeddings(block, read_texts_at(self.folder, rows), encoder)


@dataclass(frozen=True, slots=True)
class ClusterEncoding:
    """How files of embeddings are filled by several workers; `make` loads the encoder in each, and is pickled."""

    options: ClusterOptions
    make: Callable[[], Encoder]

    def fill(
        self, rows: CorpusRows | SegmentRows, blocks: Sequence[Path], size: int, count: int, progress: Progress
    ) -> None:
        """Write the embeddings of `count` rows, `size` to a file."""
        output, files = blocks[0].absolute().with_name("blocks"), tuple(block.absolute() for block in blocks)
        folder = ShardFolder.open(output, f"{size}", size, count, progress)
        job = EncodeJob(rows, files, size, self.make)
        do_shards(job, folder, folder.items, self.options, description="encode", unit="documents", progress=progress)
        remove_shards(output)


@dataclass(frozen=True, slots=True)
class EncodeJob:
    """What each worker is told."""

    rows: CorpusRows | SegmentRows
    blocks: tuple[Path, ...]
    size: int
    make: Callable[[], Encoder]

    def open(self) -> EncodeWorker:
        """Load the encoder."""
        return EncodeWorker(self)


class EncodeWorker:
    """A bi-encoder in a worker's process."""

    device = ""

    def __init__(self, job: EncodeJob) -> None:
        self._job, self._save, self._encoder = job, job.rows.open(), job.make()

    def write(self, shard: range, partial: Path, output: Path) -> Mapping[str, Any]:
        """The embeddings of one block's rows."""
        block = self._job.blocks[shard.start // self._job.size]
        if not block.exists():
            self._save(self._encoder, shard, block)
        return {}
