"""Milvus: a server at a URL (token from MILVUS_TOKEN), or Milvus Lite in a file that ends in .db."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from pymilvus import DataType, MilvusClient, MilvusException

from inpars.contrib.stores.push import Row, check_fields, check_width, fields_of
from inpars.errors import ConfigError

PAGE = 1000
ERRORS = (MilvusException,)
MAX_BYTES = 65_535  # per text field


def open_collection(target: str, collection: str) -> Milvus:
    """The collection at a URL or in a file."""
    if "://" not in target and not target.endswith(".db"):
        raise ConfigError(f"{target}: give the URL of a Milvus server, or a file that ends in .db for Milvus Lite")
    return Milvus(MilvusClient(uri=target, token=os.environ.get("MILVUS_TOKEN", "")), collection)


class Milvus:
    """A collection of doc_id (the primary key), title, text, metadata, digest and vector."""

    def __init__(self, client: MilvusClient, name: str) -> None:
        self._client, self._name = client, name

    def prepare(self, width: int) -> None:
        """Create the collection with an exact inner-product index unless it exists."""
        if not self._client.has_collection(self._name):
            schema = self._client.create_schema(auto_id=False, enable_dynamic_field=False)
            schema.add_field("doc_id", DataType.VARCHAR, is_primary=True, max_length=MAX_BYTES)
            for name in ("title", "text", "digest"):
                schema.add_field(name, DataType.VARCHAR, max_length=MAX_BYTES)
            schema.add_field("metadata", DataType.JSON)
            schema.add_field("vector", DataType.FLOAT_VECTOR, dim=width)
            params = self._client.prepare_index_params()
            params.add_index("vector", index_type="FLAT", metric_type="IP")
            self._client.create_collection(self._name, schema=schema, index_params=params, consistency_level="Strong")
        fields = {field["name"]: field for field in self._client.describe_collection(self._name)["fields"]}
        check_fields(fields, self._name)
        check_width(int(fields["vector"]["params"]["dim"]), width, self._name)
        self._client.load_collection(self._name)

    def contents(self) -> Mapping[str, str]:
        digests: dict[str, str] = {}
        pages = self._client.query_iterator(self._name, filter="", output_fields=["doc_id", "digest"], batch_size=PAGE)
        try:
            while rows := pages.next():
                digests |= {row["doc_id"]: row["digest"] for row in rows}
        finally:
            pages.close()
        return digests

    def put(self, rows: Sequence[Row]) -> None:
        """Upsert. Raises ConfigError for a text of more than `MAX_BYTES`."""
        data: list[dict[str, Any]] = []
        for row in rows:
            fields = fields_of(row)
            if (length := max(len(fields[name].encode()) for name in ("doc_id", "title", "text"))) > MAX_BYTES:
                raise ConfigError(
                    f"document {row.document.doc_id!r} has a text of {length} bytes; Milvus takes at most {MAX_BYTES}; "
                    "cut documents into passages with `inpars ingest`"
                )
            data.append(fields)
        self._client.upsert(self._name, data)
        self._client.flush(self._name)

    def delete(self, doc_ids: Sequence[str]) -> None:
        self._client.delete(self._name, filter=f"doc_id in {json.dumps(list(doc_ids), ensure_ascii=False)}")
        self._client.flush(self._name)

    def nearest(self, vector: npt.NDArray[np.float32], k: int) -> list[tuple[str, float]]:
        self._client.load_collection(self._name)
        [results] = self._client.search(self._name, data=[vector.tolist()], limit=k, output_fields=["doc_id"])
        return [(row["entity"]["doc_id"], row["distance"]) for row in results]

    def close(self) -> None:
        self._client.close()
