"""LangChain: a retriever, and a document compressor that reranks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from langchain_core.callbacks import CallbackManagerForRetrieverRun, Callbacks
from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.retrievers import BaseRetriever
from pydantic import ConfigDict

from inpars.api import System
from inpars.integrations import hit_metadata, reranked


class InparsRetriever(BaseRetriever):
    """Retrieves the k best documents with the measured system; their metadata has doc_id, title and score."""

    system: System
    k: int = 10

    @classmethod
    def from_run(cls, folder: str | Path, *, k: int = 10, **flags: Any) -> InparsRetriever:
        """Open a run's folder; flags as in `System.load`."""
        return cls(system=System.load(folder, **flags), k=k)

    def _get_relevant_documents(self, query: str, *, run_manager: CallbackManagerForRetrieverRun) -> list[Document]:
        return [
            Document(
                id=hit.document.doc_id,
                page_content=hit.document.text,
                metadata={**hit_metadata(hit), "score": hit.score},
            )
            for hit in self.system.search(query, self.k)
        ]


class InparsReranker(BaseDocumentCompressor):
    """Reranks documents with the system's reranker and returns the top_n; their metadata has its score."""

    system: System
    top_n: int | None = None
    model_config = ConfigDict(arbitrary_types_allowed=True)

    @classmethod
    def from_run(cls, folder: str | Path, *, top_n: int | None = None, **flags: Any) -> InparsReranker:
        """Open a run's folder; flags as in `System.load`."""
        return cls(system=System.load(folder, **flags), top_n=top_n)

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """The reranked documents. Raises ConfigError for a system without a reranker."""
        pairs = [(document.page_content, document.metadata) for document in documents]
        return [
            documents[index].model_copy(update={"metadata": {**documents[index].metadata, "score": score}})
            for index, score in reranked(self.system, query, pairs, self.top_n)
        ]
