"""Haystack 2: a retriever and a ranker, which pipelines can save and load again by the run's folder."""

from dataclasses import replace
from typing import Any

from haystack import Document, component

from inpars.api import System
from inpars.integrations import hit_metadata, reranked


class _OfRun:
    """A component of a run's folder; the system is opened once, by `warm_up`."""

    def __init__(self, folder: str, top_k: int = 10, flags: dict[str, Any] | None = None) -> None:
        self.folder, self.top_k, self.flags = str(folder), top_k, dict(flags or {})
        self._system: System | None = None

    def warm_up(self) -> None:
        """Open the system with all its models."""
        self._opened()

    def _opened(self) -> System:
        if self._system is None:
            self._system = System.load(self.folder, **self.flags)
        return self._system


@component
class InparsRetriever(_OfRun):
    """The top_k best documents by the measured system; flags are those of `System.load`."""

    @component.output_types(documents=list[Document])
    def run(self, query: str, top_k: int | None = None) -> dict[str, list[Document]]:
        """The documents; their meta has doc_id and title."""
        hits = self._opened().search(query, top_k or self.top_k)
        return {
            "documents": [
                Document(id=hit.document.doc_id, content=hit.document.text, meta=hit_metadata(hit), score=hit.score)
                for hit in hits
            ]
        }


@component
class InparsRanker(_OfRun):
    """Documents in the order of the system's reranker, the first top_k, with its scores."""

    @component.output_types(documents=list[Document])
    def run(self, query: str, documents: list[Document], top_k: int | None = None) -> dict[str, list[Document]]:
        """The reranked documents. Raises ConfigError for a system without a reranker."""
        pairs = [(document.content, document.meta) for document in documents]
        order = reranked(self._opened(), query, pairs, top_k or self.top_k)
        return {"documents": [replace(documents[index], score=score) for index, score in order]}
