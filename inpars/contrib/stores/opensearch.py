"""OpenSearch at a URL; USER:PASSWORD comes from OPENSEARCH_AUTH."""

from __future__ import annotations

import os
from typing import Any

from opensearchpy import OpenSearch
from opensearchpy.exceptions import OpenSearchException
from opensearchpy.helpers import bulk

from inpars.contrib.stores.lucene_search import LuceneSearch

ERRORS = (OpenSearchException, ValueError)  # ValueError: malformed URL


def open_collection(target: str, collection: str) -> LuceneSearch:
    """The index at a URL."""
    user, _, password = os.environ.get("OPENSEARCH_AUTH", "").partition(":")
    client = OpenSearch(target, http_auth=(user, password) if user else None)
    return LuceneSearch(
        client, collection, bulk=bulk, body_arguments=lambda body: {"body": body}, index=_index, query=_query
    )


def _index(width: int) -> tuple[dict[str, Any], dict[str, Any]]:
    method = {"name": "hnsw", "engine": "lucene", "space_type": "innerproduct"}
    return {"type": "knn_vector", "dimension": width, "method": method}, {"index": {"knn": True}}


def _query(vector: list[float], k: int) -> dict[str, Any]:
    """Exact search: scores every document."""
    params = {"field": "vector", "query_value": vector, "space_type": "innerproduct"}
    script = {"source": "knn_score", "lang": "knn", "params": params}
    return {"query": {"script_score": {"query": {"match_all": {}}, "script": script}}}
