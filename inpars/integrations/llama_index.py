"""LlamaIndex: a retriever, and a node postprocessor that reranks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llama_index.core.bridge.pydantic import ConfigDict
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode

from inpars.api import System
from inpars.errors import ConfigError
from inpars.integrations import hit_metadata, reranked


class InparsRetriever(BaseRetriever):
    """Retrieves the k best documents with the measured system, as nodes with the documents' ids."""

    def __init__(self, system: System, k: int = 10, **settings: Any) -> None:
        self.system, self.k = system, k
        super().__init__(**settings)

    @classmethod
    def from_run(cls, folder: str | Path, *, k: int = 10, **flags: Any) -> InparsRetriever:
        """Open a run's folder; flags as in `System.load`."""
        return cls(System.load(folder, **flags), k)

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return [
            NodeWithScore(
                node=TextNode(id_=hit.document.doc_id, text=hit.document.text, metadata=hit_metadata(hit)),
                score=hit.score,
            )
            for hit in self.system.search(query_bundle.query_str, self.k)
        ]


class InparsReranker(BaseNodePostprocessor):
    """Reranks nodes with the system's reranker and returns the top_n with its scores."""

    system: System
    top_n: int | None = None
    model_config = ConfigDict(arbitrary_types_allowed=True)

    @classmethod
    def class_name(cls) -> str:
        """The name in LlamaIndex."""
        return cls.__name__

    @classmethod
    def from_run(cls, folder: str | Path, *, top_n: int | None = None, **flags: Any) -> InparsReranker:
        """Open a run's folder; flags as in `System.load`."""
        return cls(system=System.load(folder, **flags), top_n=top_n)

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        """The reranked nodes. Raises ConfigError for a system without a reranker, and without a query."""
        if query_bundle is None:
            raise ConfigError("a reranker needs the query: give query_bundle or query_str")
        pairs = [(node.get_content(), node.node.metadata) for node in nodes]
        order = reranked(self.system, query_bundle.query_str, pairs, self.top_n)
        return [NodeWithScore(node=nodes[index].node, score=score) for index, score in order]
