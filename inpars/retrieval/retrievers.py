"""A retriever of any kind by its name: what it was saved as says which module searches with it.

Importing this loads no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from inpars.io.corpus import Documents
from inpars.models.retrievers import RETRIEVERS, retriever_kind
from inpars.progress import SILENT, Progress
from inpars.records import Document, Query, Run
from inpars.retrieval.blocks import FillBlocks


class Index(Protocol):
    """A corpus that a retriever searches."""

    def search(self, queries: Sequence[Query], k: int, *, progress: Progress = SILENT) -> Run:
        """The k best documents of each query."""
        ...

    def search_with_scores(
        self, queries: Sequence[Query], k: int, pairs: Iterable[tuple[str, str]], *, progress: Progress = SILENT
    ) -> tuple[Run, dict[tuple[str, str], float]]:
        """The same, and the score of each (query_id, doc_id) pair."""
        ...


class Retriever(Protocol):
    """A loaded retriever."""

    name: str
    fingerprint: str  # of what decides its embeddings

    def reading(self, window_tokens: int | None) -> Any:  # noqa: ANN401 - of its own kind
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
