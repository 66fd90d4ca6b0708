"""Parquet files row by row, a batch at a time in memory. Knows nothing of what the columns mean."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import parquet

from inpars.errors import DataFormatError
from inpars.storage import atomic_file

BATCH_ROWS = 1024
TEXT, TEXTS = pyarrow.string(), pyarrow.list_(pyarrow.string())
WHOLE, WHOLES, NUMBER = pyarrow.int64(), pyarrow.list_(pyarrow.int64()), pyarrow.float64()


def read_rows(path: Path) -> Iterator[tuple[Path, int, dict[str, Any]]]:
    """File, row number from 1, and columns by name in their order; of one file, or of all in a folder."""
    for file in _files(path):
        try:
            with parquet.ParquetFile(file) as source:
                number = 0
                for batch in source.iter_batches(batch_size=BATCH_ROWS):
                    for row in batch.to_pylist():
                        number += 1
                        yield file, number, row
        except FileNotFoundError:
            raise DataFormatError("no such file; check the path", path=file) from None
        except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:  # the last two of single values
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise DataFormatError(f"not a parquet file ({reason}); fetch or write it again", path=file) from None


def write_rows(path: Path, columns: dict[str, pyarrow.DataType], rows: Iterable[dict[str, Any]]) -> int:
    """Write atomically, in row groups of a batch each, and return the number of rows."""
    schema = pyarrow.schema(list(columns.items()))
    count, remaining = 0, iter(rows)
    with atomic_file(path) as working, parquet.ParquetWriter(working, schema) as target:
        while batch := list(islice(remaining, BATCH_ROWS)):
            target.write_batch(pyarrow.RecordBatch.from_pylist(batch, schema=schema))
            count += len(batch)
    return count


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(path.rglob("*.parquet"))
    if not found:
        raise DataFormatError("no .parquet files here", path=path)
    return found
