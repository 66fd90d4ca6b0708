"""Read records from JSON lines, csv and parquet files with named columns.

Offsets are characters of the record's text.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from inpars.documents.blocks import Block, FileNotes
from inpars.documents.readers import ReadOptions
from inpars.documents.text_files import encoding_of, open_text
from inpars.errors import DataFormatError, UnreadableFileError
from inpars.io.fields import is_gap
from inpars.io.json_text import JsonError, parse_json, replace_surrogates
from inpars.io.record_files import read_parquet as parquet_rows
from inpars.io.tables import DOCUMENT_TEXT_FIELDS, MAX_FIELD_CHARACTERS, named_separator, quoting, separator_of

TEXT_COLUMNS = (*DOCUMENT_TEXT_FIELDS, "paragraphs", "context", "abstract", "document")
MAX_LISTED_COLUMNS = 8
_PARAGRAPH = re.compile(r"\n[^\S\n]*\n\s*")


def read_json_lines(path: Path, notes: FileNotes, options: ReadOptions) -> Iterator[Block]:
    """One JSON object per line; invalid lines are dropped and counted."""
    yield from record_blocks(_json_records(path, notes, options), path, notes, options)


def read_csv(path: Path, notes: FileNotes, options: ReadOptions) -> Iterator[Block]:
    """Rows below a header, separated by commas, semicolons, tabs or bars, whichever is most frequent in the header."""
    csv.field_size_limit(MAX_FIELD_CHARACTERS)
    encoding = encoding_of(path, options.encoding)
    with open_text(path, encoding) as stream:
        header = stream.readline()
        separator = named_separator(header)
        if separator is not None:
            header = stream.readline()
        separator = separator or separator_of(header)
        quotes = _quotes(path, encoding) if separator == "\t" else csv.QUOTE_MINIMAL
        names = next(csv.reader([header], delimiter=separator, quoting=quotes), [])
        rows = csv.DictReader(stream, names, delimiter=separator, quoting=quotes)
        try:
            yield from record_blocks(_counted_cells(rows, notes), path, notes, options)
        except csv.Error as error:
            raise UnreadableFileError(f"not a table ({error})", path=path) from None


def read_parquet(path: Path, notes: FileNotes, options: ReadOptions) -> Iterator[Block]:
    """One record per row."""
    try:
        yield from record_blocks((record for _, record in parquet_rows(path)), path, notes, options)
    except UnreadableFileError:
        raise
    except DataFormatError:
        raise UnreadableFileError("damaged, or not parquet", path=path) from None


def _quotes(path: Path, encoding: str) -> Literal[0, 3]:
    """The csv module's quoting; in tab-separated files such as MS MARCO's, quotes may be ordinary characters."""
    with open_text(path, encoding) as stream:
        lines = (line.rstrip("\r\n") for line in stream if '"' in line)
        return csv.QUOTE_NONE if quoting(lines) == "plain" else csv.QUOTE_MINIMAL


def _counted_cells(rows: Iterable[dict[Any, Any]], notes: FileNotes) -> Iterator[dict[str, Any]]:
    """The rows without cells beyond the header, which are counted in a remark."""
    count = 0
    for row in rows:
        count += row.pop(None, None) is not None
        yield row
    if count:
        notes.remarks.append(f"{count} rows have more cells than the header, which are left out")


def record_blocks(
    records: Iterable[Mapping[str, Any]], path: Path, notes: FileNotes, options: ReadOptions
) -> Iterator[Block]:
    """The paragraphs of each record. Raises UnreadableFileError if no record has the text columns."""
    columns: Sequence[str] | None = options.text_column or None
    number = without = 0
    first: Mapping[str, Any] = {}
    for number, record in enumerate(records, start=1):
        first = first or record
        text_columns = columns or [n for n in TEXT_COLUMNS if isinstance(record.get(n), str | list)][:1]
        if not text_columns or any(name not in record for name in text_columns):
            without += 1
            continue
        title, key = record.get(options.title_column), record.get(options.id_column or "")
        fields: dict[str, Any] = {
            "record": number,
            "title": _as_line(title),
            "key": _as_line(int(key) if isinstance(key, float) and key.is_integer() else key),
        }
        start = 0
        for name in text_columns:
            for text, begin in _paragraphs(record[name]):
                yield Block(text, start + begin, **fields)
            start += len(_joined(record[name])) + 2
    if without == number:
        raise UnreadableFileError(_no_column(first, columns) if number else "no records in it", path=path)
    notes.dropped["record_without_text"] += without


def _json_records(path: Path, notes: FileNotes, options: ReadOptions) -> Iterator[dict[str, Any]]:
    with open_text(path, encoding_of(path, options.encoding)) as stream:
        for line in stream:
            if not line.strip():
                continue
            try:
                record = parse_json(line)
            except JsonError:
                record = None
            if isinstance(record, dict):
                yield record
            else:
                notes.dropped["broken_record"] += 1


def _no_column(record: Mapping[str, Any], columns: Sequence[str] | None) -> str:
    names = ", ".join(map(str, [*record][:MAX_LISTED_COLUMNS])) or "none"
    problem = f"no column {' and '.join(map(repr, columns))}" if columns else "no column that is known to be text"
    return f"{problem}; its columns: {names} (--text-column NAME)"


def _as_line(value: Any) -> str:  # noqa: ANN401 - a JSON value
    return "" if is_gap(value) else replace_surrogates(" ".join(str(value).split()))


def _joined(value: Any) -> str:  # noqa: ANN401
    parts = value if isinstance(value, list) else [value]
    return replace_surrogates("\n\n".join(str(part) for part in parts if not is_gap(part)))


def _paragraphs(value: Any) -> Iterator[tuple[str, int]]:  # noqa: ANN401
    """Paragraphs of a text or list of texts, with their offsets in the joined text."""
    text, start = _joined(value), 0
    for gap in [*_PARAGRAPH.finditer(text), None]:
        end = gap.start() if gap else len(text)
        if text[start:end].strip():
            yield text[start:end], start
        start = gap.end() if gap else end
