"""Parquet files row by row, a batch at a time in memory. Knows nothing of what the columns mean."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import parquet

from inpars.errors import DataFormatError
from inpars.io.record_files import read_parquet
from inpars.io.storage import atomic_file

BATCH_ROWS = 1024
TEXT, TEXTS = pyarrow.string(), pyarrow.list_(pyarrow.string())
WHOLE, WHOLES, NUMBER = pyarrow.int64(), pyarrow.list_(pyarrow.int64()), pyarrow.float64()


def read_rows(path: Path) -> Iterator[tuple[Path, int, Mapping[str, Any]]]:
    """File, row number from 1, and columns by name in their order; of one file, or of all in a folder."""
    files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    if not files:
        raise DataFormatError("no .parquet files here", path=path)
    for file in files:
        for number, row in read_parquet(file):
            yield file, number, row


def write_rows(path: Path, columns: dict[str, pyarrow.DataType], rows: Iterable[dict[str, Any]]) -> int:
    """Write atomically, in row groups of a batch each, and return the number of rows."""
    schema = pyarrow.schema(list(columns.items()))
    count, remaining = 0, iter(rows)
    with atomic_file(path) as working, parquet.ParquetWriter(working, schema) as target:
        while batch := list(islice(remaining, BATCH_ROWS)):
            target.write_batch(pyarrow.RecordBatch.from_pylist(batch, schema=schema))
            count += len(batch)
    return count
