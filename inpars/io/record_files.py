"""Files of records in all their forms: JSON lines, a JSON list, csv, tab-separated tables, parquet; packed or not.

A record is a mapping by field names; what its fields mean `formats.py` knows. The form follows from the file's name and
its first bytes, and where a reader is needed for it, the whole file is streamed.
"""

from __future__ import annotations

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

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
BLANKS = b" \t\r\n"
FORM_NAMES = {"list": "JSON list", "parquet": "parquet file"}
PYARROW = "pyarrow>=15.0"


@dataclass(frozen=True, slots=True)
class RecordsForm:
    """How the records of a file are written."""

    kind: Literal["lines", "list", "table", "parquet"]
    table: Table | None = None

    @property
    def is_plain_table(self) -> bool:
        """Whether each line is a record whose columns are known by their position."""
        return self.table is not None and not self.table.has_header

    @property
    def has_line_per_record(self) -> bool:
        """Whether a record can be read from its line alone."""
        return self.kind == "lines" or self.is_plain_table

    @property
    def remarks(self) -> tuple[str, ...]:
        """What was guessed, for people."""
        return self.table.remarks if self.table else ()


def records_form(path: Path, schema: RecordSchema) -> RecordsForm:
    """The form of a file. Raises DataFormatError for what is none, or whose columns are not clear."""
    is_table = is_tsv(path) or is_csv(path)
    if path.exists() and not path.is_file() and not path.is_dir():  # a pipe, which can be read once
        if is_table:
            raise DataFormatError("a pipe, a file is needed: its columns are told from its first lines", path=path)
        return RecordsForm("lines")
    if path.is_file() and is_parquet(path):
        return RecordsForm("parquet")
    if is_table:
        return RecordsForm("table", table_of(path, schema))
    return RecordsForm("list" if first_sign(path) == b"[" else "lines")


def read_records(path: Path, form: RecordsForm, schema: RecordSchema) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The records, each with its line (of parquet, its row). Raises DataFormatError for what is no record."""
    if form.table is not None:
        return read_rows(path, form.table)
    if form.kind == "lines":
        return read_jsonl(path)
    records = read_parquet(path) if form.kind == "parquet" else _list_of_objects(path)
    return _with_known_fields(records, path, form, schema)


def _with_known_fields(
    records: Iterator[tuple[int, Mapping[str, Any]]], path: Path, form: RecordsForm, schema: RecordSchema
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The records. Raises DataFormatError where the first one has neither a field for an id nor one for a text."""
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


def first_sign(path: Path) -> bytes:
    """The first byte of the unpacked file that is neither blank nor of a byte order mark; empty where there is none."""
    with open_lines(path) as stream:
        for line in stream:
            if text := line.removeprefix(BYTE_ORDER_MARK).strip(BLANKS):
                return text[:1]
    return b""


def read_parquet(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The rows of a parquet file with their numbers. Raises MissingDependencyError without pyarrow."""
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
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:  # the last two of single values
        problem = f"damaged, or not parquet ({reason_of(error)}); fetch or write it again"
        raise DataFormatError(problem, path=path) from None


class IdChoices:
    """Which field of records is their id where several could be; each choice is said once.

    `seen` tells files apart whose ids an earlier release would have read otherwise.
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        """`names` are the fields that can be an id, the likeliest first."""
        self._names = names
        self.seen: set[tuple[str, ...]] = set()

    def new(self, record: Mapping[str, Any]) -> str | None:
        """What is chosen in this record, where it is unclear and was not said before."""
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
