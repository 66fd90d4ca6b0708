"""Embeddings saved block by block, by this process or by others, which make the same files from the same rows.

Those of a corpus lie in the cache under the hash of the documents and of what decides embeddings. An interrupted
encoding goes on after its last whole file; the ids beside the files say that all are there. Loads no torch.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias, TypeVar

from inpars.batches import chunks
from inpars.cache import cache_folder
from inpars.errors import DataFormatError
from inpars.io.corpus import Corpus, Documents, open_corpus
from inpars.io.json_text import JsonError, parse_json
from inpars.io.storage import atomic_writer, storage_errors
from inpars.progress import Progress
from inpars.records import Document
from inpars.text.hashing import hex_key

T = TypeVar("T")
SaveBlock: TypeAlias = Callable[[Any, range, Path], None]
"""Writes an encoder's embeddings of some rows to a block's file."""


def counts_path(block: Path) -> Path:
    """Beside a block of several vectors a document: how many each has."""
    return block.with_suffix(".counts.npy")


def damaged(block: Path, error: Exception) -> DataFormatError:
    """What is said of a torn file in the cache."""
    return DataFormatError(f"damaged ({error}); remove {block.parent} and run the same command again", path=block)


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


IDS = "doc_ids.json"


class ShardEncoder(Protocol):
    """Writes what an index keeps of some documents."""

    name: str

    def save_documents(self, shard: Path, documents: Sequence[Document], progress: Progress = ...) -> None:
        """Write one file, which appears when it is whole; advances the progress by documents."""
        ...


@dataclass(frozen=True, slots=True)
class ShardFolder:
    """The folder, the file suffix, and the documents per file."""

    folder: Path
    suffix: str
    size: int

    @classmethod
    def of(cls, kind: str, key: str, suffix: str, size: int) -> ShardFolder:
        """In the cache, under a key that says what is in the files."""
        return cls(cache_folder() / kind / hex_key(key), suffix, size)

    def shards(self, count: int) -> list[Path]:
        return [self.folder / f"{number:05}{self.suffix}" for number in range(-(-count // self.size))]

    def doc_ids(self, count: int) -> list[str] | None:
        """The ids next to the files; None if missing or torn."""
        try:
            ids = parse_json((self.folder / IDS).read_bytes())
        except (FileNotFoundError, JsonError):
            return None
        return ids if isinstance(ids, list) and len(ids) == count else None

    def fill(
        self,
        corpus: Documents,
        encoder: ShardEncoder,
        *,
        fill: FillBlocks | None,
        progress: Progress,
        save: Callable[[Path, Sequence[Document]], None] | None = None,
    ) -> tuple[list[Path], list[str]]:
        """The files and the ids of their rows, made where they are not there yet.

        `fill` has others write files; `save` writes one here, in place of the encoder's own way.
        """
        shards, doc_ids = self.shards(len(corpus)), self.doc_ids(len(corpus))
        if doc_ids is None:
            with storage_errors(self.folder):
                self.folder.mkdir(parents=True, exist_ok=True)
                if fill is not None and isinstance(corpus, Corpus):
                    rows = CorpusRows(corpus.path.absolute(), corpus.sha256)
                    fill(rows, shards, self.size, len(corpus), progress)
                save = save or (lambda shard, documents: encoder.save_documents(shard, documents, progress))
                parts = chunks(corpus, self.size)
                filled = fill_here(shards, parts, save, self.size, len(corpus), encoder.name, progress)
                doc_ids = [document.doc_id for documents in filled for document in documents]
                with atomic_writer(self.folder / IDS) as stream:
                    json.dump(doc_ids, stream)
        return shards, doc_ids


@dataclass(frozen=True, slots=True)
class CorpusRows:
    """The documents of a corpus by their places in its file; travels by path."""

    path: Path
    sha256: str

    def open(self) -> SaveBlock:
        documents = open_corpus(self.path, self.sha256).in_file_order()
        return lambda encoder, rows, block: encoder.save_documents(block, [documents[row] for row in rows])
