"""Find the retriever class for a saved model. Does not import torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from inpars.batches import slices
from inpars.errors import ConfigError, DataFormatError
from inpars.io.corpus import Documents
from inpars.io.runs import by_query
from inpars.models.retrievers import RETRIEVERS, retriever_kind
from inpars.progress import SILENT, Progress
from inpars.records import Document, Query, Run
from inpars.retrieval.blocks import FillBlocks

ScoreOf: TypeAlias = Callable[[int, str], float]
"""The score of a query, by its position, and any document. Raises DataFormatError for an unknown id."""
Find: TypeAlias = Callable[[Sequence[str], int], tuple[Sequence[dict[str, float]], ScoreOf]]
"""From query texts and k to the k best documents per query, best first, and a function for other scores."""


@dataclass(frozen=True, slots=True)
class Index:
    """A retriever's index of a corpus, searched in blocks of queries."""

    find: Find
    retriever: str
    queries_per_block: int

    def search(self, queries: Sequence[Query], k: int, *, progress: Progress = SILENT) -> Run:
        """The k best documents per query."""
        return self.search_with_scores(queries, k, (), progress=progress)[0]

    def search_with_scores(
        self, queries: Sequence[Query], k: int, pairs: Iterable[tuple[str, str]], *, progress: Progress = SILENT
    ) -> tuple[Run, dict[tuple[str, str], float]]:
        """Like `search`, with the scores of the given (query_id, doc_id) pairs, whether retrieved or not.

        Raises DataFormatError for an unknown document.
        """
        if k < 1:
            raise ConfigError(f"k is {k}; it must be at least 1")
        positives = by_query(pairs)
        run: Run = {}
        scores: dict[tuple[str, str], float] = {}
        blocks, description = list(slices(queries, self.queries_per_block)), f"search {self.retriever}"
        for block in progress.track(blocks, total=len(queries), description=description, unit="queries"):
            results, score_of = self.find([query.text for query in block], k)
            for number, query in enumerate(block):
                run[query.query_id] = results[number]
                for doc_id in positives.get(query.query_id, ()):
                    scores[query.query_id, doc_id] = score_of(number, doc_id)
            progress.advance(len(block))
        return run, scores


class DocumentRows:
    """Row numbers by document id, in 16 bytes per document, computed on first use."""

    def __init__(self, doc_ids: Sequence[str], kind: str) -> None:
        self._doc_ids, self._kind = doc_ids, kind

    @cached_property
    def _table(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.intp]]:
        """Sorted hashes of the ids, and their rows."""
        hashes = np.array([hash(doc_id) for doc_id in self._doc_ids], dtype=np.int64)
        rows = np.argsort(hashes)
        return hashes[rows], rows

    def __getitem__(self, doc_id: str) -> int:
        hashes, rows = self._table
        index = int(np.searchsorted(hashes, hash(doc_id)))
        while index < len(hashes) and hashes[index] == hash(doc_id):
            row = int(rows[index])
            if self._doc_ids[row] == doc_id:
                return row
            index += 1
        raise DataFormatError(f"no document {doc_id!r} in the {self._kind} index; its ids belong to another corpus")


class Retriever(Protocol):
    """A loaded retriever."""

    name: str
    fingerprint: str  # identifies its embeddings

    def reading(self, window_tokens: int | None) -> Any:
        """The same retriever for whole documents or windows; shares the network."""
        ...

    def save_documents(self, shard: Path, documents: Sequence[Document], progress: Progress = SILENT) -> None:
        """Write a shard of an index."""
        ...

    def index(self, corpus: Documents, *, fill: FillBlocks | None = None, progress: Progress = SILENT) -> Index:
        """The index of a corpus, built in the cache if necessary; `fill` encodes with other processes."""
        ...


def retriever_class(name: str) -> Callable[..., Retriever]:
    """The class of a model, with the constructor arguments of `dense.Encoder`."""
    encoder: Callable[..., Retriever] = import_module(RETRIEVERS[retriever_kind(name)].module("retrieval")).Encoder
    return encoder
