"""Save embeddings block by block, in this process or in others, which write identical files.

A corpus's embeddings are in the cache under a hash of its documents and the encoder. Interrupted encoding resumes after
the last complete file; the file of ids next to them is written when all are complete. Does not import torch.
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
"""Writes an encoder's embeddings of a range of rows to a block's file."""


def counts_path(block: Path) -> Path:
    """The file of the numbers of vectors per document, next to a block with several per document."""
    return block.with_suffix(".counts.npy")


def damaged(block: Path, error: Exception) -> DataFormatError:
    """The error for a damaged file in the cache."""
    return DataFormatError(f"damaged ({error}); remove {block.parent} and run the same command again", path=block)


class Rows(Protocol):
    """Numbered documents that are pickled as the path of their file."""

    def open(self) -> SaveBlock:
        """Open the documents in the worker process and return what embeds a range of them."""
        ...


class FillBlocks(Protocol):
    """Embeds with other processes."""

    def __call__(self, rows: Rows, blocks: Sequence[Path], size: int, count: int, progress: Progress) -> None:
        """Write the missing blocks of the embeddings of `count` rows, `size` rows per block."""
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
    """Save the parts whose blocks do not exist yet, and yield each part once its block is on disk.

    There are `count` documents, `size` per block; `save` advances the progress.
    """
    done = min(sum(block.exists() for block in blocks) * size, count)
    pairs = zip(blocks, parts, strict=True)
    description = f"encode with {encoder}"
    for block, part in progress.track(pairs, total=count, description=description, unit="documents", done=done):
        if not block.exists():
            save(block, part)
        yield part


IDS = "doc_ids.json"


@dataclass(frozen=True, slots=True)
class ShardFolder:
    """A folder of shards with `size` documents each."""

    folder: Path
    suffix: str
    size: int

    @classmethod
    def of(cls, kind: str, key: str, suffix: str, size: int) -> ShardFolder:
        """A folder in the cache; `key` identifies its content."""
        return cls(cache_folder() / kind / hex_key(key), suffix, size)

    def shards(self, count: int) -> list[Path]:
        return [self.folder / f"{number:05}{self.suffix}" for number in range(-(-count // self.size))]

    def doc_ids(self, count: int) -> list[str] | None:
        """The ids of all documents; None if missing or damaged."""
        try:
            ids = parse_json((self.folder / IDS).read_bytes())
        except (FileNotFoundError, JsonError):
            return None
        return ids if isinstance(ids, list) and len(ids) == count else None

    def fill(
        self,
        corpus: Documents,
        encoder: str,
        save: Callable[[Path, Sequence[Document]], None],
        *,
        fill: FillBlocks | None,
        progress: Progress,
    ) -> tuple[list[Path], list[str]]:
        """The shards and the ids of their rows, written if necessary: by other processes with `fill`, else by `save`.

        `save` advances the progress by documents; `encoder` is the name to show.
        """
        shards, doc_ids = self.shards(len(corpus)), self.doc_ids(len(corpus))
        if doc_ids is None:
            with storage_errors(self.folder):
                self.folder.mkdir(parents=True, exist_ok=True)
                if fill is not None and isinstance(corpus, Corpus):
                    rows = CorpusRows(corpus.path.absolute(), corpus.sha256)
                    fill(rows, shards, self.size, len(corpus), progress)
                parts = chunks(corpus, self.size)
                filled = fill_here(shards, parts, save, self.size, len(corpus), encoder, progress)
                doc_ids = [document.doc_id for documents in filled for document in documents]
                with atomic_writer(self.folder / IDS) as stream:
                    json.dump(doc_ids, stream)
        return shards, doc_ids


@dataclass(frozen=True, slots=True)
class CorpusRows:
    """The documents of a corpus in file order; pickled as its path."""

    path: Path
    sha256: str

    def open(self) -> SaveBlock:
        documents = open_corpus(self.path, self.sha256).in_file_order()
        return lambda encoder, rows, block: encoder.save_documents(block, [documents[row] for row in rows])
