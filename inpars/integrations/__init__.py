"""The system of an `inpars run` inside other frameworks: one module each, loaded by whoever uses that framework.

`langchain`, `llama_index`, `haystack` and `pyterrier` have a retriever and a reranker; `mteb` measures a system there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from inpars.api import System
from inpars.apps.qa.records import Hit
from inpars.records import Document, FullText


def hit_metadata(hit: Hit) -> dict[str, Any]:
    """The document's metadata, with its id and title under these names."""
    return {**hit.metadata, "doc_id": hit.document.doc_id, "title": hit.document.title}


def reranked(
    system: System, query: str, documents: Sequence[tuple[str | None, Mapping[str, Any]]], k: int | None = None
) -> list[tuple[int, float]]:
    """Position and score of the k best of (text, metadata), read with the `title` of their metadata, best first."""
    texts = [FullText.of(Document("", text or "", str(metadata.get("title") or ""))) for text, metadata in documents]
    return system.rerank(query, texts)[:k] if texts else []
