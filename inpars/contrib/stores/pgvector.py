"""PostgreSQL with the pgvector extension: a table of passages, written in one transaction per batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import psycopg
from pgvector.psycopg import register_vector
from psycopg import sql
from psycopg.types.json import Jsonb

from inpars.contrib.stores.push import Row, check_fields, check_width
from inpars.errors import ConfigError

CREATE = """CREATE TABLE IF NOT EXISTS {table} (doc_id text PRIMARY KEY, title text NOT NULL, text text NOT NULL,
metadata jsonb NOT NULL, digest text NOT NULL, vector vector({width}) NOT NULL)"""
COLUMNS = """SELECT attname, atttypmod FROM pg_attribute
WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped"""
UPSERT = """INSERT INTO {table} (doc_id, title, text, metadata, digest, vector) VALUES (%s, %s, %s, %s, %s, %s)
ON CONFLICT (doc_id) DO UPDATE SET (title, text, metadata, digest, vector)
= (EXCLUDED.title, EXCLUDED.text, EXCLUDED.metadata, EXCLUDED.digest, EXCLUDED.vector)"""
NEAREST = "SELECT doc_id, -(vector <#> %s) FROM {table} ORDER BY vector <#> %s LIMIT %s"  # <#>: negative inner product

ERRORS = (psycopg.Error,)


def open_collection(target: str, collection: str) -> PgVector:
    """The table at a PostgreSQL URL. Raises ConfigError if the connection fails or pgvector is missing."""
    try:
        # poolers share a session among connections, where the names of prepared statements would clash
        connection = psycopg.connect(target, autocommit=True, prepare_threshold=None)
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        register_vector(connection)
    except psycopg.Error as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"pgvector at {target.rpartition('@')[2]}: {reason}") from None
    return PgVector(connection, collection)


class PgVector:
    """A table of doc_id, title, text, metadata (jsonb), digest and vector."""

    def __init__(self, connection: psycopg.Connection, name: str) -> None:
        self._connection, self._name, self._table = connection, name, sql.Identifier(name)

    def prepare(self, width: int) -> None:
        self._connection.execute(sql.SQL(CREATE).format(table=self._table, width=sql.Literal(width)))
        columns = dict(self._connection.execute(COLUMNS, (self._table.as_string(self._connection),)).fetchall())
        check_fields(columns, self._name)
        check_width(columns["vector"], width, self._name)

    def contents(self) -> Mapping[str, str]:
        query = sql.SQL("SELECT doc_id, digest FROM {table}").format(table=self._table)
        return dict(self._connection.execute(query).fetchall())

    def put(self, rows: Sequence[Row]) -> None:
        """Upsert in one transaction. Raises ConfigError for NUL characters, which PostgreSQL cannot store in text."""
        values = []
        for row in rows:
            doc = row.document
            if "\0" in doc.text + doc.title + doc.doc_id:
                raise ConfigError(f"document {doc.doc_id!r} has a NUL character, which PostgreSQL cannot store")
            values.append((doc.doc_id, doc.title, doc.text, Jsonb(dict(doc.metadata)), row.digest, row.vector))
        with self._connection.transaction(), self._connection.cursor() as cursor:
            cursor.executemany(sql.SQL(UPSERT).format(table=self._table), values)

    def delete(self, doc_ids: Sequence[str]) -> None:
        query = sql.SQL("DELETE FROM {table} WHERE doc_id = ANY(%s)").format(table=self._table)
        self._connection.execute(query, (list(doc_ids),))

    def nearest(self, vector: npt.NDArray[np.float32], k: int) -> list[tuple[str, float]]:
        query = sql.SQL(NEAREST).format(table=self._table)
        rows: list[tuple[str, float]] = self._connection.execute(query, (vector, vector, k)).fetchall()
        return rows

    def close(self) -> None:
        self._connection.close()
