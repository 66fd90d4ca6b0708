"""Elasticsearch at a URL; the API key comes from ELASTICSEARCH_API_KEY."""

from __future__ import annotations

import os
from typing import Any

from elasticsearch import ApiError, Elasticsearch, TransportError
from elasticsearch.helpers import BulkIndexError, bulk

from inpars.contrib.stores.lucene_search import LuceneSearch

ERRORS = (ApiError, TransportError, BulkIndexError, ValueError)  # ValueError: malformed URL


def open_collection(target: str, collection: str) -> LuceneSearch:
    """The index at a URL."""
    client = Elasticsearch(target, api_key=os.environ.get("ELASTICSEARCH_API_KEY"))
    return LuceneSearch(client, collection, bulk=bulk, body_arguments=dict, index=_index, query=_query)


def _index(width: int) -> tuple[dict[str, Any], dict[str, Any]]:
    exact = {"index": True, "similarity": "max_inner_product", "index_options": {"type": "flat"}}
    return {"type": "dense_vector", "dims": width, **exact}, {}


def _query(vector: list[float], k: int) -> dict[str, Any]:
    return {"knn": {"field": "vector", "query_vector": vector, "k": k, "num_candidates": k}}
