"""What Elasticsearch and OpenSearch share: an index with one passage per document, searched exactly.

Both score an inner product p as p + 1 if p >= 0, else as 1 / (1 - p); `nearest` returns p.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from inpars.contrib.stores.push import Row, check_fields, check_width, fields_of
from inpars.errors import ConfigError

PAGE = 1000
KEYWORD, TEXT = {"type": "keyword"}, {"type": "text"}
Bulk = Callable[[Any, Iterable[Mapping[str, Any]]], Any]


class LuceneSearch:
    """An index of doc_id, title, text, metadata (stored, not searched), digest and vector."""

    def __init__(
        self,
        client: Any,  # noqa: ANN401 - either SDK's
        name: str,
        *,
        bulk: Bulk,
        body_arguments: Callable[[dict[str, Any]], dict[str, Any]],
        index: Callable[[int], tuple[dict[str, Any], dict[str, Any]]],
        query: Callable[[list[float], int], dict[str, Any]],
    ) -> None:
        """`body_arguments` maps a request body to the SDK's keywords, `index` a width to vector field and settings."""
        self._client, self._name, self._bulk, self._body_arguments = client, name, bulk, body_arguments
        self._index, self._query = index, query

    def prepare(self, width: int) -> None:
        """Create the index unless it exists. Raises ConfigError for a name with capitals."""
        if self._name != self._name.lower():
            raise ConfigError(f"--collection {self._name!r}: index names must be lower case")
        vector, settings = self._index(width)
        if not self._client.indices.exists(index=self._name):
            fields = {"doc_id": KEYWORD, "digest": KEYWORD, "title": TEXT, "text": TEXT, "vector": vector}
            stored = {"metadata": {"type": "object", "enabled": False}}
            body = {"mappings": {"dynamic": "strict", "properties": fields | stored}, "settings": settings}
            self._client.indices.create(index=self._name, **self._body_arguments(body))
        (description,) = self._client.indices.get_mapping(index=self._name).values()
        properties = description["mappings"].get("properties", {})
        check_fields(properties, self._name)
        check_width(properties["vector"].get("dims", properties["vector"].get("dimension")), width, self._name)

    def contents(self) -> Mapping[str, str]:
        self._client.indices.refresh(index=self._name)
        digests: dict[str, str] = {}
        body: dict[str, Any] = {"size": PAGE, "sort": [{"doc_id": "asc"}], "_source": ["doc_id", "digest"]}
        while hits := self._search(body):
            digests |= {hit["_source"]["doc_id"]: hit["_source"]["digest"] for hit in hits}
            body["search_after"] = hits[-1]["sort"]
        return digests

    def put(self, rows: Sequence[Row]) -> None:
        """Index the rows under hashes of their ids, because the engine limits the length of an id."""
        actions = [self._action("index", row.document.doc_id) | {"_source": fields_of(row)} for row in rows]
        self._bulk(self._client, actions)

    def delete(self, doc_ids: Sequence[str]) -> None:
        self._bulk(self._client, [self._action("delete", doc_id) for doc_id in doc_ids])

    def nearest(self, vector: npt.NDArray[np.float32], k: int) -> list[tuple[str, float]]:
        hits = self._search({"size": k, "_source": ["doc_id"], **self._query(vector.tolist(), k)})
        return [(hit["_source"]["doc_id"], _product(hit["_score"])) for hit in hits]

    def close(self) -> None:
        self._client.close()

    def _search(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        hits: list[dict[str, Any]] = self._client.search(index=self._name, **self._body_arguments(body))["hits"]["hits"]
        return hits

    def _action(self, operation: str, doc_id: str) -> dict[str, Any]:
        id_ = hashlib.sha256(doc_id.encode()).hexdigest()
        return {"_op_type": operation, "_index": self._name, "_id": id_}


def _product(score: float) -> float:
    return score - 1 if score >= 1 else 1 - 1 / score
