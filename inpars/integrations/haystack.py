"""Haystack 2: a retriever and a ranker, which pipelines serialize by the run's folder."""

from dataclasses import replace
from typing import Any

from haystack import Document, component

from inpars.api import System
from inpars.integrations import hit_metadata, reranked


class _RunComponent:
    """A component that opens the system of a run's folder once, in `warm_up` or on first use."""

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
class InparsRetriever(_RunComponent):
    """Retrieves the top_k documents with the measured system; flags as in `System.load`."""

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
class InparsRanker(_RunComponent):
    """Reranks documents with the system's reranker and returns the top_k with its scores."""

    @component.output_types(documents=list[Document])
    def run(self, query: str, documents: list[Document], top_k: int | None = None) -> dict[str, list[Document]]:
        """The reranked documents. Raises ConfigError for a system without a reranker."""
        pairs = [(document.content, document.meta) for document in documents]
        order = reranked(self._opened(), query, pairs, top_k or self.top_k)
        return {"documents": [replace(documents[index], score=score) for index, score in order]}
