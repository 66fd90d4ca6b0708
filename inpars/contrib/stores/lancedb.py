"""LanceDB: a table in a folder, in an object store or at LanceDB Cloud (key from LANCEDB_API_KEY)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import lancedb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from inpars.contrib.stores.push import FIELDS, Row, check_fields, check_width, fields_of

ERRORS = (RuntimeError, ValueError)


def open_collection(target: str, collection: str) -> LanceDB:
    """The table in a folder or at a URL."""
    return LanceDB(lancedb.connect(target), collection)


class LanceDB:
    """A table of doc_id, title, text, metadata (JSON), digest and vector."""

    def __init__(self, database: lancedb.DBConnection, name: str) -> None:
        self._database, self._name = database, name

    def prepare(self, width: int) -> None:
        fields = [pa.field(name, pa.string()) for name in FIELDS[:-1]]
        schema = pa.schema([*fields, pa.field("vector", pa.list_(pa.float32(), width))])
        try:
            stored = self._database.open_table(self._name).schema
        except ValueError:  # not found
            stored = self._database.create_table(self._name, schema=schema).schema
        check_fields(stored.names, self._name)
        check_width(getattr(stored.field("vector").type, "list_size", None), width, self._name)

    def contents(self) -> Mapping[str, str]:
        rows = self._table.search().select(["doc_id", "digest"]).limit(max(1, self._table.count_rows())).to_arrow()
        return dict(zip(rows["doc_id"].to_pylist(), rows["digest"].to_pylist(), strict=True))

    def put(self, rows: Sequence[Row]) -> None:
        """Upsert as one new version of the table."""
        records = [fields_of(row) for row in rows]
        for record in records:
            record["metadata"] = json.dumps(record["metadata"], ensure_ascii=False, sort_keys=True)
        data = pa.Table.from_pylist(records, schema=self._table.schema)
        merge = self._table.merge_insert("doc_id").when_matched_update_all().when_not_matched_insert_all()
        merge.execute(data)

    def delete(self, doc_ids: Sequence[str]) -> None:
        quoted = ", ".join("'" + doc_id.replace("'", "''") + "'" for doc_id in doc_ids)
        self._table.delete(f"doc_id IN ({quoted})")

    def nearest(self, vector: npt.NDArray[np.float32], k: int) -> list[tuple[str, float]]:
        """The nearest rows; LanceDB's distance is 1 - product."""
        query = self._table.search(vector, vector_column_name="vector").distance_type("dot")
        rows = query.bypass_vector_index().select(["doc_id", "_distance"]).limit(k).to_list()
        return [(row["doc_id"], 1 - row["_distance"]) for row in rows]

    @cached_property
    def _table(self) -> Any:  # noqa: ANN401 - the package is optional
        return self._database.open_table(self._name)

    def close(self) -> None:
        """Nothing to close."""
