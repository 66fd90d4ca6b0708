"""Read records from JSON lines, a JSON list, csv, tab-separated tables or parquet, compressed or not.

A record maps field names to values; `formats.py` interprets them. The format is detected from the file's name and first
bytes. All readers stream.
"""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from inpars.errors import DataFormatError, MissingDependencyError, reason_of
from inpars.io.fields import is_tsv
from inpars.io.json_stream import read_json_list
from inpars.io.packing import is_parquet
from inpars.io.storage import open_lines, read_jsonl
from inpars.io.tables import RecordSchema, Table, is_csv, read_rows, table_of

BLANKS = b" \t\r\n"
FORM_NAMES = {"list": "JSON list", "parquet": "parquet file"}
PYARROW = "pyarrow>=15.0"


@dataclass(frozen=True, slots=True)
class RecordsForm:
    """The format of a file of records."""

    kind: Literal["lines", "list", "table", "parquet"]
    table: Table | None = None

    @property
    def is_plain_table(self) -> bool:
        """Whether it is a table without a header, whose columns are identified by position."""
        return self.table is not None and not self.table.has_header

    @property
    def has_line_per_record(self) -> bool:
        """Whether each record can be read from one line alone."""
        return self.kind == "lines" or self.is_plain_table

    @property
    def remarks(self) -> tuple[str, ...]:
        """Notes on what was guessed."""
        return self.table.remarks if self.table else ()


def records_form(path: Path, schema: RecordSchema) -> RecordsForm:
    """The format of a file. Raises DataFormatError if it cannot be determined."""
    is_table = is_tsv(path) or is_csv(path)
    if path.exists() and not path.is_file() and not path.is_dir():  # a pipe, which can be read only once
        if is_table:
            raise DataFormatError("a pipe; use a file, whose first lines can be read twice to find columns", path=path)
        return RecordsForm("lines")
    if path.is_file() and is_parquet(path):
        return RecordsForm("parquet")
    if is_table:
        return RecordsForm("table", table_of(path, schema))
    return RecordsForm("list" if _first_byte(path) == b"[" else "lines")


def read_records(path: Path, form: RecordsForm, schema: RecordSchema) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The records, each with its line (parquet: row) number. Raises DataFormatError for anything else."""
    if form.table is not None:
        return read_rows(path, form.table)
    if form.kind == "lines":
        return read_jsonl(path)
    records = read_parquet(path) if form.kind == "parquet" else _list_of_objects(path)
    return _with_known_fields(records, path, form, schema)


def _with_known_fields(
    records: Iterator[tuple[int, Mapping[str, Any]]], path: Path, form: RecordsForm, schema: RecordSchema
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The records. Raises DataFormatError if the first one has no field for the id or the text."""
    for index, (number, record) in enumerate(records):
        if not index and not all(any(name in record for name in names) for names in (schema.ids, schema.texts)):
            raise DataFormatError(
                f"a {FORM_NAMES[form.kind]} of records without fields for id and text ({schema.ids[0]}, "
                f"{schema.texts[0]}); rename them, or for documents take inpars ingest --documents, which has "
                "--id-column and --text-column",
                path=path,
                excerpt=", ".join(record),
            )
        yield number, record


def _first_byte(path: Path) -> bytes:
    """The first byte of the unpacked file after blanks and a byte order mark; empty if there is none."""
    with open_lines(path) as stream:
        for line in stream:
            if text := line.removeprefix(BOM_UTF8).strip(BLANKS):
                return text[:1]
    return b""


def read_parquet(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The numbered rows of a parquet file. Raises MissingDependencyError without pyarrow."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise MissingDependencyError("pyarrow", f"to read {path}", f"pip install {PYARROW!r}") from None
    number = 0
    try:
        with parquet.ParquetFile(path) as table:
            for batch in table.iter_batches(batch_size=1000):
                for record in batch.to_pylist():
                    number += 1
                    yield number, record
    except FileNotFoundError:
        raise DataFormatError("no such file; check the path", path=path) from None
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:  # the last two for single values
        problem = f"damaged, or not parquet ({reason_of(error)}); fetch or write it again"
        raise DataFormatError(problem, path=path) from None


class IdChoices:
    """Reports each choice among several possible id fields once.

    `seen` identifies files whose ids earlier releases would have read differently.
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        """`names` are the possible id fields, most likely first."""
        self._names = names
        self.seen: set[tuple[str, ...]] = set()

    def new(self, record: Mapping[str, Any]) -> str | None:
        """A note on the choice made for this record; None if it is clear or was reported before."""
        if (explicit := record.get("_id")) is not None:
            if isinstance(explicit, float):
                self.seen.add(("_id",))
            return None
        present = [name for name in self._names if record.get(name) is not None]
        names = tuple(name for name in present if record[name] != record[present[0]])
        if not names or (present[0], *names) in self.seen:
            return None
        self.seen.add((present[0], *names))
        return (
            f"field {present[0]!r} is taken as the id, not {' or '.join(map(repr, names))}; "
            "name the right one '_id' if that is wrong"
        )


def _list_of_objects(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, record in read_json_list(path):
        if not isinstance(record, dict):
            raise DataFormatError("not a JSON object", path=path, line=number, excerpt=repr(record))
        yield number, record
