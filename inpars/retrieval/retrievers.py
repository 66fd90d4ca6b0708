"""A retriever of any kind by its name: what it was saved as says which module searches with it.

Importing this loads no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from inpars.batches import slices
from inpars.errors import ConfigError, DataFormatError
from inpars.io.corpus import Documents
from inpars.io.runs import by_query
from inpars.models.retrievers import RETRIEVERS, retriever_kind
from inpars.progress import SILENT, Progress
from inpars.records import Document, Query, Run
from inpars.retrieval.blocks import FillBlocks

ScoreOf: TypeAlias = Callable[[int, str], float]
"""The score of a query, by its place among those asked, and of any document. Raises DataFormatError for unknown ids."""
Find: TypeAlias = Callable[[Sequence[str], int], tuple[Sequence[dict[str, float]], ScoreOf]]
"""From query texts and k to the k best documents of each, best first, and the scores of others."""


@dataclass(frozen=True, slots=True)
class Index:
    """A corpus that a retriever searches, some queries at a time."""

    find: Find
    retriever: str
    queries_per_block: int

    def search(self, queries: Sequence[Query], k: int, *, progress: Progress = SILENT) -> Run:
        """The k best documents of each query, by the house's order of a run."""
        return self.search_with_scores(queries, k, (), progress=progress)[0]

    def search_with_scores(
        self, queries: Sequence[Query], k: int, pairs: Iterable[tuple[str, str]], *, progress: Progress = SILENT
    ) -> tuple[Run, dict[tuple[str, str], float]]:
        """As `search`, and the score of each (query_id, doc_id) pair, whether it is found or not.

        Raises DataFormatError for a document the index lacks.
        """
        if k < 1:
            raise ConfigError(f"k is {k}; it must be at least 1")
        positives = by_query(pairs)
        run: Run = {}
        scores: dict[tuple[str, str], float] = {}
        blocks, description = list(slices(queries, self.queries_per_block)), f"search {self.retriever}"
        for block in progress.track(blocks, total=len(queries), description=description, unit="queries"):
            found, score_of = self.find([query.text for query in block], k)
            for number, query in enumerate(block):
                run[query.query_id] = found[number]
                for doc_id in positives.get(query.query_id, ()):
                    scores[query.query_id, doc_id] = score_of(number, doc_id)
            progress.advance(len(block))
        return run, scores


class DocumentRows:
    """The rows of documents by id, counted when they are first asked for."""

    def __init__(self, doc_ids: Sequence[str], kind: str) -> None:
        self._doc_ids, self._kind = doc_ids, kind

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {doc_id: row for row, doc_id in enumerate(self._doc_ids)}

    def __getitem__(self, doc_id: str) -> int:
        if doc_id not in self._rows:
            raise DataFormatError(f"no document {doc_id!r} in the {self._kind} index; its ids belong to another corpus")
        return self._rows[doc_id]


class Retriever(Protocol):
    """A loaded retriever."""

    name: str
    fingerprint: str  # of what decides its embeddings

    def reading(self, window_tokens: int | None) -> Any:
        """The same network for whole documents or for windows; nothing is loaded again."""
        ...

    def save_documents(self, shard: Path, documents: Sequence[Document], progress: Progress = SILENT) -> None:
        """Write what an index keeps of some documents."""
        ...

    def index(self, corpus: Documents, *, fill: FillBlocks | None = None, progress: Progress = SILENT) -> Index:
        """The corpus's, made in the cache where it is not there yet; `fill` has others encode."""
        ...


def retriever_class(name: str) -> Callable[..., Retriever]:
    """What loads a model of that name; it takes the settings of `dense.Encoder`."""
    encoder: Callable[..., Retriever] = import_module(RETRIEVERS[retriever_kind(name)].module("retrieval")).Encoder
    return encoder
