"""Weaviate: a server at a URL or a cluster of Weaviate Cloud; the API key comes from WEAVIATE_API_KEY.

Objects go through gRPC: port 50051 of the same host, or that of WEAVIATE_GRPC_PORT.
"""

from __future__ import annotations

import json
import os
import re
import uuid
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt
import weaviate
from weaviate.classes.config import Configure, DataType, Property, Tokenization, VectorDistances
from weaviate.classes.data import DataObject
from weaviate.classes.init import AdditionalConfig, Auth
from weaviate.classes.query import Filter, MetadataQuery
from weaviate.exceptions import WeaviateBaseError

from inpars.contrib.stores.push import Row, check_fields, check_width, fields_of
from inpars.errors import BackendError, ConfigError

ERRORS = (WeaviateBaseError, ValueError)  # ValueError: a port that is no number
NAMESPACE = uuid.UUID("0d1f6e62-5a0e-5f43-8f0b-2b7a1c9d4e35")  # Weaviate's ids are UUIDs
GRPC_PORT = "50051"
CLOUD = (".weaviate.cloud", ".weaviate.network")
NAME = re.compile(r"[A-Za-z]\w{0,200}", re.ASCII)


def open_collection(target: str, collection: str) -> Weaviate:
    """The collection at a URL."""
    parts = urlsplit(target)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"{target}: give a server's address, http://localhost:8080 for instance")
    if not NAME.fullmatch(collection):
        raise ConfigError(f"--collection {collection!r}: Weaviate's names are letters, digits and _ after a letter")
    key = os.environ.get("WEAVIATE_API_KEY")
    credentials = Auth.api_key(key) if key else None
    if parts.hostname.endswith(CLOUD):
        client = weaviate.connect_to_weaviate_cloud(target, credentials)
    else:
        secure = parts.scheme == "https"
        client = weaviate.connect_to_custom(
            http_host=parts.hostname,
            http_port=parts.port or (443 if secure else 80),
            http_secure=secure,
            grpc_host=parts.hostname,
            grpc_port=int(os.environ.get("WEAVIATE_GRPC_PORT", GRPC_PORT)),
            grpc_secure=secure,
            auth_credentials=credentials,
            additional_config=AdditionalConfig(trust_env=True),
        )
    return Weaviate(client, collection[0].upper() + collection[1:])  # as Weaviate spells it


class Weaviate:
    """A collection of doc_id, title, text, metadata (JSON), digest and each object's vector; searched exactly."""

    def __init__(self, client: weaviate.WeaviateClient, name: str) -> None:
        self._client, self._name = client, name
        self._collection = client.collections.use(name)

    def prepare(self, width: int) -> None:
        if not self._client.collections.exists(self._name):
            exact = Configure.VectorIndex.flat(distance_metric=VectorDistances.DOT)
            self._client.collections.create(
                self._name,
                properties=[
                    Property(name="doc_id", data_type=DataType.TEXT, tokenization=Tokenization.FIELD),
                    Property(name="title", data_type=DataType.TEXT),
                    Property(name="text", data_type=DataType.TEXT),
                    Property(name="metadata", data_type=DataType.TEXT, index_searchable=False),
                    Property(name="digest", data_type=DataType.TEXT, tokenization=Tokenization.FIELD),
                ],
                vector_config=Configure.Vectors.self_provided(vector_index_config=exact),
            )
        check_fields({*(field.name for field in self._collection.config.get().properties), "vector"}, self._name)
        for found in self._collection.query.fetch_objects(limit=1, include_vector=True).objects:
            check_width(len(found.vector.get("default", ())), width, self._name)

    def contents(self) -> Mapping[str, str]:
        objects = self._collection.iterator(return_properties=["doc_id", "digest"])
        return {str(found.properties["doc_id"]): str(found.properties["digest"]) for found in objects}

    def put(self, rows: Sequence[Row]) -> None:
        objects: list[Any] = []
        for row in rows:
            fields = fields_of(row)
            vector, metadata = fields.pop("vector"), json.dumps(fields.pop("metadata"), ensure_ascii=False)
            identity = uuid.uuid5(NAMESPACE, row.document.doc_id)
            objects.append(DataObject(properties={**fields, "metadata": metadata}, vector=vector, uuid=identity))
        refused = self._collection.data.insert_many(objects).errors
        for error in refused.values():
            raise BackendError(f"weaviate: {len(refused)} of {len(rows)} passages refused: {error.message}")

    def delete(self, doc_ids: Sequence[str]) -> None:
        ids = [uuid.uuid5(NAMESPACE, doc_id) for doc_id in doc_ids]
        self._collection.data.delete_many(where=Filter.by_id().contains_any(ids))

    def nearest(self, vector: npt.NDArray[np.float32], k: int) -> list[tuple[str, float]]:
        results = self._collection.query.near_vector(
            vector.tolist(), limit=k, return_properties=["doc_id"], return_metadata=MetadataQuery(distance=True)
        )
        return [(str(found.properties["doc_id"]), -float(found.metadata.distance or 0)) for found in results.objects]

    def close(self) -> None:
        self._client.close()
