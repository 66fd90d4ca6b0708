"""The system of an `inpars run` inside other frameworks, one module per framework.

`langchain`, `llama_index`, `haystack` and `pyterrier` have a retriever and a reranker; `mteb` measures a system there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from inpars.api import System
from inpars.apps.qa.records import Hit
from inpars.records import Document, FullText


def hit_metadata(hit: Hit) -> dict[str, Any]:
    """The document's metadata with its `doc_id` and `title`."""
    return {**hit.metadata, "doc_id": hit.document.doc_id, "title": hit.document.title}


def reranked(
    system: System, query: str, documents: Sequence[tuple[str | None, Mapping[str, Any]]], k: int | None = None
) -> list[tuple[int, float]]:
    """Index and score of the k best (text, metadata), best first; the reranker also reads the metadata's `title`."""
    texts = [FullText.of(Document("", text or "", str(metadata.get("title") or ""))) for text, metadata in documents]
    return system.rerank(query, texts)[:k] if texts else []
