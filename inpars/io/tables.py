"""Detect the columns of tables of documents and queries.

A first row that names an id and a text is a header; only files with a header may have csv quotes. Without a header,
columns are identified by position and quotes are ordinary characters, as in MS MARCO's collection.tsv. Detection
depends only on the file's content, so all readers agree.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal, TypeAlias

from inpars.errors import DataFormatError
from inpars.io.fields import split_tsv
from inpars.io.packing import plain_name
from inpars.io.storage import decode_line, open_lines, read_lines

DOC_ID_FIELDS = (  # a passage's id has precedence over its document's
    *("_id", "id", "passage_id", "pid", "chunk_id", "segment_id"),
    *("doc_id", "docid", "docno", "document_id", "corpus_id"),
)
QUERY_ID_FIELDS = ("_id", "query_id", "id", "qid", "question_id", "topic_id")
DOCUMENT_TEXT_FIELDS = ("text", "contents", "doc_text", "passage", "body", "content", "segment", "passage_text")
QUERY_TEXT_FIELDS = ("text", "query", "question", "query_text")
MSMARCO_DOCUMENTS = ("docid", "url", "title", "body")  # of msmarco-docs.tsv, which has no header
SAMPLE_LINES = 1000  # used to detect the columns of a table without a header
MAX_FIELD_CHARACTERS = 1 << 27
MAX_OPEN_CHARACTERS = 1 << 16  # of a quoted field that contains tabs or newlines

_URL = re.compile(r"https?://\S+")
_NAME = re.compile(r"[A-Za-z_][\w.-]{0,39}|")
_SEPARATOR_LINE = re.compile(r"sep=(.)\s*", re.IGNORECASE)  # the first line of a csv file for Excel

Evidence: TypeAlias = Literal["quoted", "plain", "unclear", "none"]
"""unclear: some fields are in quotes, but none shows whether csv wrote them."""


@dataclass(frozen=True, slots=True)
class RecordSchema:
    """Possible names of the id, text and other columns, most likely first, and the columns of headerless tables."""

    name: str
    ids: tuple[str, ...]
    texts: tuple[str, ...]
    others: tuple[str, ...]
    default_columns: tuple[str, ...]

    def is_known(self, name: str) -> bool:
        """Whether a column of this name is read."""
        return name in self.ids or name in self.texts or name in self.others


DOCUMENTS = RecordSchema("documents", DOC_ID_FIELDS, DOCUMENT_TEXT_FIELDS, ("title",), ("_id", "text", "title"))
QUERIES = RecordSchema("queries", QUERY_ID_FIELDS, QUERY_TEXT_FIELDS, (), ("_id", "text"))


@dataclass(frozen=True, slots=True)
class Table:
    """The columns of a file."""

    names: tuple[str, ...]
    has_header: bool = False
    is_quoted: bool = False
    separator: str = "\t"
    remarks: tuple[str, ...] = ()  # notes on what was guessed

    def row(self, cells: Sequence[str], path: Path, number: int) -> dict[str, str]:
        """The cells of one row by column name. Raises DataFormatError for more cells than columns."""
        if len(cells) > len(self.names):
            raise self.too_wide(cells, path, number)
        return dict(zip(self.names, cells, strict=False))

    def too_wide(self, cells: Sequence[str], path: Path, number: int) -> DataFormatError:
        """The error for a row with more cells than columns."""
        where = "the header row has" if self.has_header else f"the first {SAMPLE_LINES} lines have at most"
        problem = f"{len(cells)} columns, {where} {len(self.names)}; remove what separates the surplus"
        return DataFormatError(problem, path=path, line=number, excerpt=" | ".join(cells))


def is_csv(path: Path) -> bool:
    """Whether the file name says comma-separated, compressed or not."""
    return plain_name(path).lower().endswith(".csv")


def table_of(path: Path, schema: RecordSchema) -> Table:
    """The columns of a file. Raises DataFormatError if they cannot be determined."""
    first = next(read_lines(path), None)
    if first is None:
        return Table(schema.default_columns)
    if is_csv(path):
        return _csv_table(path, schema)
    number, line = first
    cells = [_bare(cell) for cell in line.split("\t")]
    names = header_names(cells, schema)
    if names is None:
        _refuse_half_header(cells, schema, path, number)
        return _table_without_header(path, schema)
    evidence = "quoted" if line.startswith('"') else quoting(_lines_with_quotes(path))
    return Table(names, True, evidence == "quoted", remarks=_header_remarks(names, schema, path, evidence))


def has_header(path: Path, schema: RecordSchema) -> bool:
    """Whether the first row of a tab-separated file names its columns."""
    first = next(read_lines(path), None)
    return first is not None and header_names(first[1].split("\t"), schema) is not None


def read_rows(path: Path, table: Table) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows below the header as mappings, each with the number of its (last) line."""
    if table.is_quoted:
        yield from _quoted_rows(path, table)
        return
    lines = read_lines(path)
    if table.has_header:
        next(lines, None)
    for number, line in lines:
        yield number, table.row(split_tsv(line, path, number, 2), path, number)


def column_name(cell: str) -> str:
    """The normalized name in a header's cell: `query_id` for `Query-ID`."""
    return _bare(cell).strip().lstrip("#").casefold().replace("-", "_").replace(" ", "_")


def header_names(cells: Sequence[str], schema: RecordSchema) -> tuple[str, ...] | None:
    """The names in a header row, None if they do not include both an id and a text."""
    names = tuple(map(column_name, cells))
    named = any(name in schema.ids for name in names) and any(name in schema.texts for name in names)
    return names if named else None


def quoting(lines: Iterable[str]) -> Evidence:
    """Whether lines have csv quotes, judged by the first conclusive field."""
    result: Evidence = "none"
    for field in _fields_with_quotes(lines):
        evidence = _evidence(field)
        if evidence in ("quoted", "plain"):
            return evidence
        result = evidence if result == "none" else result
    return result


def _fields_with_quotes(lines: Iterable[str]) -> Iterator[str]:
    """The fields that contain quotes; a quoted field may contain tabs and newlines."""
    open_field = ""
    for line in lines:
        for column, cell in enumerate(line.split("\t")):
            field = open_field + ("\t" if column else "\n") + cell if open_field else cell
            open_field = field if _is_open(field) and len(field) < MAX_OPEN_CHARACTERS else ""
            if '"' in field and not open_field:
                yield field


def _is_open(field: str) -> bool:
    """Whether a field starts with a quote that is not closed in it."""
    return field.startswith('"') and '"' not in field[1:].replace('""', "")


def _lines_with_quotes(path: Path) -> Iterator[str]:
    with open_lines(path) as stream:
        for number, raw in enumerate(stream, start=1):
            if b'"' in raw:
                yield decode_line(raw, path, number)


def separator_of(header: str) -> str:
    """The separator of a csv header: the most frequent candidate."""
    return max("\t;,|", key=header.count)


def named_separator(line: str) -> str | None:
    """The separator named by the first line of a csv file for Excel (`sep=;`), None for other lines."""
    match = _SEPARATOR_LINE.fullmatch(line)
    return match[1] if match else None


def _evidence(field: str) -> Evidence:
    """What a field with quotes shows: csv writers quote fields that contain quotes, and double those inside."""
    inner = field[1:-1]
    if not field.startswith('"') or '"' in inner.replace('""', ""):
        return "plain"
    if len(field) < 2 or not field.endswith('"'):
        return "none"
    return "quoted" if '""' in inner else "unclear"


def _bare(cell: str) -> str:
    return cell[1:-1] if len(cell) > 1 and cell[0] == cell[-1] == '"' else cell


def _header_remarks(names: Sequence[str], schema: RecordSchema, path: Path, evidence: Evidence) -> tuple[str, ...]:
    remarks = [f"{path}: the first row is a header ({', '.join(names)})"]
    if evidence == "quoted":
        remarks[0] += "; quotes are read as csv has them"
    elif evidence == "unclear":
        remarks[0] += "; quotes around fields are kept, as none of them shows that csv wrote it"
    if unread := [name or "without a name" for name in names if not schema.is_known(name)]:
        remarks.append(f"{path}: columns that are not read: {', '.join(unread)}")
    return tuple(remarks)


def _refuse_half_header(cells: Sequence[str], schema: RecordSchema, path: Path, number: int) -> None:
    """Raise DataFormatError for a header row in which only the id or only the text is known."""
    names = list(map(column_name, cells))
    has_id, has_text = (any(name in known for name in names) for known in (schema.ids, schema.texts))
    if len(names) > 1 and all(map(_NAME.fullmatch, cells)) and (has_id or has_text):
        missing, known = ("text", schema.texts) if has_id else ("id", schema.ids)
        problem = f"a header row in which no column is known to be the {missing}; name it {' or '.join(known[:3])}"
        raise DataFormatError(problem, path=path, line=number, excerpt=", ".join(cells))


def _table_without_header(path: Path, schema: RecordSchema) -> Table:
    rows = [(number, line.split("\t")) for number, line in islice(read_lines(path), SAMPLE_LINES)]
    number, widest = max(rows, key=lambda row: len(row[1]))
    _refuse_other_text(rows[0][1], schema, path, rows[0][0])
    second = [cells[1].strip() for _, cells in rows if len(cells) > 1 and cells[1].strip()]
    has_urls = len(widest) > 2 and bool(second) and all(map(_URL.fullmatch, second))
    if len(widest) == len(MSMARCO_DOCUMENTS) and has_urls and schema is DOCUMENTS:
        remark = f"{path}: no header row, read as MS MARCO's documents (docid, url, title, body); url is not read"
        return Table(MSMARCO_DOCUMENTS, remarks=(remark,))
    if len(widest) > len(schema.default_columns) or has_urls:
        raise _unclear(len(widest), schema, path, number)
    return Table(schema.default_columns[: max(2, len(widest))], remarks=_doubts(rows, path))


def _unclear(count: int, schema: RecordSchema, path: Path, number: int) -> DataFormatError:
    names = " TAB ".join(name.removeprefix("_") for name in schema.default_columns)
    problem = f"{count} tab-separated columns without a header row, and it is not clear which are id and text"
    return DataFormatError(
        f"{problem}; put a row of names on top ({names}), or keep those columns", path=path, line=number
    )


def _refuse_other_text(cells: Sequence[str], schema: RecordSchema, path: Path, number: int) -> None:
    """Raise DataFormatError if the first line shows another format."""
    start = cells[0].lstrip()[:1]
    if len(cells) > 1 or start not in ("<", "{", "["):
        return
    if start == "<":
        problem = f"XML or SGML (TREC's topics, for instance), not {schema.name}; write one per line: id, tab, text"
    else:
        problem = "JSON in a file that is named as a table; name it .jsonl for one object per line, or .json"
    raise DataFormatError(problem, path=path, line=number, excerpt=cells[0])


def _doubts(rows: Sequence[tuple[int, Sequence[str]]], path: Path) -> tuple[str, ...]:
    """Remarks on a table without a header; none for MS MARCO's collection."""
    remarks = []
    texts, titles = (sum(len(cells[column]) for _, cells in rows if len(cells) > column) for column in (1, 2))
    if titles > texts:
        remarks.append(
            f"{path}: no header row, read as id, text, title, but the third column is the longer one; "
            "if it is the text, put a row of names on top (id TAB title TAB text)"
        )
    wide = [number for number, cells in rows if len(cells) > 2]
    if 0 < len(wide) < len(rows) / 2:
        remarks.append(
            f"{path}: no header row, and {len(wide)} of the first {len(rows)} lines have a third column "
            f"(line {wide[0]} is the first), read as a title; if tabs stand in the texts, write blanks for them"
        )
    if quoting("\t".join(cells) for _, cells in rows) == "quoted":
        remarks.append(f"{path}: no header row, so quotes are kept as they stand, though they look like those of csv")
    return tuple(remarks)


def _csv_table(path: Path, schema: RecordSchema) -> Table:
    separator, (number, line) = _csv_header(path)
    try:
        names = header_names(next(csv.reader([line], delimiter=separator), []), schema)
    except csv.Error:  # a lone carriage return, for instance
        names = None
    if names is None:
        problem = f"a csv file whose first line must name its columns, {schema.default_columns[0]},text for instance"
        raise DataFormatError(problem, path=path, line=number, excerpt=line)
    return Table(names, True, True, separator, _header_remarks(names, schema, path, "none")[1:])


def _csv_header(path: Path) -> tuple[str, tuple[int, str]]:
    """The separator, and the numbered line of names."""
    (number, line), *more = islice(read_lines(path), 2)
    if (named := named_separator(line)) is not None and more:
        return named, more[0]
    return separator_of(line), (number, line)


def _quoted_rows(path: Path, table: Table) -> Iterator[tuple[int, dict[str, str]]]:
    csv.field_size_limit(MAX_FIELD_CHARACTERS)
    with open_lines(path) as stream:
        lines = (decode_line(raw, path, number) + "\n" for number, raw in enumerate(stream, start=1))
        rows = csv.reader(lines, delimiter=table.separator, strict=True)
        try:
            header = next((cells for cells in rows if "".join(cells).strip()), None)
            if header is not None and named_separator(table.separator.join(header)) is not None:
                next(rows, None)
            for cells in rows:
                if "".join(cells).strip():
                    yield rows.line_num, table.row(cells, path, rows.line_num)
        except csv.Error as error:
            problem = f"not csv ({error}); a quote that opens a field has to close it"
            raise DataFormatError(problem, path=path, line=rows.line_num) from None
