"""Qdrant: a server at a URL (key from QDRANT_API_KEY), or its local mode in a folder."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import ApiException

from inpars.contrib.stores.push import Row, check_fields, check_width, fields_of
from inpars.errors import ConfigError

PAGE = 1000
EXACT = models.SearchParams(exact=True)
ERRORS = (ApiException, RuntimeError)  # RuntimeError: another process has the folder open
NAMESPACE = uuid.UUID("6f5b3a53-8a52-5c26-9d0c-4b5a3e0a7c11")  # Qdrant's ids are numbers or UUIDs


def open_collection(target: str, collection: str) -> Qdrant:
    """The collection at a URL or in a folder."""
    if target.startswith(("http://", "https://")):
        return Qdrant(QdrantClient(url=target, api_key=os.environ.get("QDRANT_API_KEY")), collection, EXACT)
    if "://" in target or re.fullmatch(r"[\w.-]+:\d+", target):
        raise ConfigError(f"{target}: give a server's address with http:// or https://, or a folder for the local mode")
    return Qdrant(QdrantClient(path=target), collection)


class Qdrant:
    """A collection with doc_id, title, text, metadata and digest in the payload."""

    def __init__(self, client: QdrantClient, name: str, exact: models.SearchParams | None = None) -> None:
        """`exact` makes a server search exactly; the local mode always does."""
        self._client, self._name, self._exact = client, name, exact

    def prepare(self, width: int) -> None:
        if not self._client.collection_exists(self._name):
            config = models.VectorParams(size=width, distance=models.Distance.DOT)
            self._client.create_collection(self._name, vectors_config=config)
        vectors = self._client.get_collection(self._name).config.params.vectors
        check_width(getattr(vectors, "size", "several vectors"), width, self._name)
        if (distance := getattr(vectors, "distance", None)) != models.Distance.DOT:
            raise ConfigError(f"collection {self._name!r} compares by {distance}, not Dot; give another --collection")
        for point in self._client.scroll(self._name, limit=1)[0]:
            check_fields({*(point.payload or {}), "vector"}, self._name)

    def contents(self) -> Mapping[str, str]:
        digests: dict[str, str] = {}
        offset: Any = None
        while True:
            points, offset = self._client.scroll(
                self._name, limit=PAGE, offset=offset, with_payload=["doc_id", "digest"], with_vectors=False
            )
            payloads = [point.payload or {} for point in points]
            digests |= {
                payload.get("doc_id", str(point.id)): payload.get("digest", "")
                for payload, point in zip(payloads, points, strict=True)
            }
            if offset is None:
                return digests

    def put(self, rows: Sequence[Row]) -> None:
        points = []
        for row in rows:
            payload = fields_of(row)
            vector = payload.pop("vector")
            points.append(models.PointStruct(id=_point_id(row.document.doc_id), vector=vector, payload=payload))
        self._client.upsert(self._name, points=points, wait=True)

    def delete(self, doc_ids: Sequence[str]) -> None:
        ids: list[Any] = [_point_id(doc_id) for doc_id in doc_ids]
        self._client.delete(self._name, points_selector=models.PointIdsList(points=ids), wait=True)

    def nearest(self, vector: npt.NDArray[np.float32], k: int) -> list[tuple[str, float]]:
        results = self._client.query_points(
            self._name, query=vector.tolist(), limit=k, with_payload=["doc_id"], search_params=self._exact
        )
        return [((point.payload or {})["doc_id"], point.score) for point in results.points]

    def close(self) -> None:
        self._client.close()


def _point_id(doc_id: str) -> str:
    return str(uuid.uuid5(NAMESPACE, doc_id))
