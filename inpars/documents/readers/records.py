"""Read records from JSON lines, csv and parquet files with named columns.

Offsets are characters of the record's text.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
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
    encoding = encoding_of(path, options.encoding, notes.remarks.append)
    yield from record_blocks(json_records(path, encoding, notes), path, notes, options)


def read_csv(path: Path, notes: FileNotes, options: ReadOptions) -> Iterator[Block]:
    """Rows below a header, separated by commas, semicolons, tabs or bars, whichever is most frequent in the header."""
    csv.field_size_limit(MAX_FIELD_CHARACTERS)
    encoding = encoding_of(path, options.encoding, notes.remarks.append)
    with open_text(path, encoding) as stream:
        lines = (line for line in stream if line.strip())
        header = next(lines, "")
        separator = named_separator(header)
        if separator is not None:
            header = next(lines, "")
        separator = separator or separator_of(header)
        quotes = _quotes(path, encoding) if separator == "\t" else csv.QUOTE_MINIMAL
        rows = csv.DictReader(chain([header], stream), delimiter=separator, quoting=quotes)
        try:
            rows.fieldnames = [name.strip() for name in rows.fieldnames or ()]
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
    number = without = 0
    first: Mapping[str, Any] = {}
    named = [name for name in (options.id_column, options.title_column) if name not in (None, ReadOptions.title_column)]
    present: Counter[str | None] = Counter()
    for number, record in enumerate(records, start=1):
        first = first or record
        present.update(name for name in named if _as_line(record.get(name)))
        columns = text_columns(record, options)
        if not columns:
            without += 1
            continue
        title, key = record.get(options.title_column), record.get(options.id_column or "")
        fields: dict[str, Any] = {
            "record": number,
            "title": _as_line(title),
            "key": _as_line(int(key) if isinstance(key, float) and key.is_integer() else key),
        }
        start, has_text = 0, False
        for name in columns:
            for text, begin in _paragraphs(record[name]):
                has_text = True
                yield Block(text, start + begin, **fields)
            start += len(_joined(record[name])) + 2
        notes.dropped["record_without_text"] += not has_text
    if without == number:
        raise UnreadableFileError(_no_column(first, options.text_column) if number else _no_records(notes), path=path)
    notes.dropped["record_without_text"] += without
    for name in named:
        if present[name] < number:
            notes.remarks.append(f"{number - present[name]} of {number} records have nothing in column {name!r}")


def text_columns(record: Mapping[str, Any], options: ReadOptions) -> Sequence[str]:
    """The columns to read: those named, if the record has all, else the first known one with a text."""
    if options.text_column:
        return options.text_column if all(_is_text(record.get(name, {})) for name in options.text_column) else ()
    known = [name for name in TEXT_COLUMNS if isinstance(record.get(name), str | list) and _is_text(record[name])]
    return [name for name in known if _joined(record[name]).strip()][:1] or known[:1]


def _is_text(value: Any) -> bool:  # noqa: ANN401 - a JSON value
    """Whether a value can be written as text: not an object, nor a list of lists or objects."""
    return not any(isinstance(part, dict | list | bytes) for part in (value if isinstance(value, list) else [value]))


def are_json_lines(path: Path, encoding: str) -> bool:
    """Whether the first of several lines is a JSON object of its own."""
    with open_text(path, encoding) as stream:
        lines = filter(str.strip, iter(partial(stream.readline, MAX_FIELD_CHARACTERS), ""))
        try:
            return isinstance(parse_json(next(lines, "")), dict) and any(lines)
        except JsonError:
            return False


def json_records(path: Path, encoding: str, notes: FileNotes) -> Iterator[dict[str, Any]]:
    """The JSON objects of a file with one per line; other lines are counted."""
    with open_text(path, encoding) as stream:
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


def _no_records(notes: FileNotes) -> str:
    if lines := notes.dropped["broken_record"]:
        return f"none of its {lines} lines is a JSON object; name it .json if it is one list"
    return "no records in it"


def _no_column(record: Mapping[str, Any], columns: Sequence[str] | None) -> str:
    names = ", ".join(map(str, [*record][:MAX_LISTED_COLUMNS])) or "none"
    wanted = f"{' and '.join(map(repr, columns))} of text" if columns else "that is known to be text"
    return f"no column {wanted}; its columns: {names} (--text-column NAME)"


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
