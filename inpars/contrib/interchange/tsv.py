"""Tab-separated lines, plain or quoted as Python's csv writes them. One line is one record in both.

Plain lines give quotes no meaning, as MS MARCO's files and InPars v1 have it. The InPars toolkit quotes a field that
holds a quote or a tab and doubles the quotes inside. A line that cannot have been written so, because a quote stands
where the writer would have quoted, is taken as plain: v1's files are read with `"` as the plain character it is there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from inpars.contrib.interchange.items import Example, Negative, document_of, query_of
from inpars.contrib.interchange.source import Source, Written
from inpars.errors import DataFormatError
from inpars.io.fields import one_line
from inpars.io.storage import read_lines, write_lines

_QUOTED = re.compile(r'"([^"]*(?:""[^"]*)*)"(?=\t|$)')
_NEEDS_QUOTES = re.compile(r'["\t]')


def split_quoted(line: str) -> list[str]:
    """Fields of a line that csv wrote with quotes where they are needed; of any other line, those between tabs."""
    if '"' not in line:
        return line.split("\t")
    fields, start = [], 0
    while True:
        quoted = _QUOTED.match(line, start)
        end = quoted.end() if quoted else _end_of_field(line, start)
        field = quoted[1].replace('""', '"') if quoted else line[start:end]
        if not quoted and '"' in field:
            return line.split("\t")
        fields.append(field)
        if end >= len(line):
            return fields
        start = end + 1


def join_quoted(fields: tuple[str, ...]) -> str:
    """A line in which fields with a quote or a tab are quoted."""
    return "\t".join(_quoted(field) if _NEEDS_QUOTES.search(field) else field for field in fields)


def read_text_triples(path: Path, *, quoted: bool) -> Iterator[Example]:
    """Neighbouring lines of one query and positive as an example; ids are made from the texts."""
    for (query, positive), lines in groupby(_rows(path, quoted=quoted), key=lambda row: row[:2]):
        negatives = tuple(Negative(document_of(row[2])) for row in lines)
        yield Example(query_of(query), document_of(positive), negatives)


def write_text_triples(source: Source, path: Path, written: Written, *, quoted: bool) -> None:
    """Query, positive and negative as texts."""
    join = join_quoted if quoted else "\t".join
    written.counts[path.name] = write_lines(path, (join(texts) for texts in _triple_texts(source, written)))


def _triple_texts(source: Source, written: Written) -> Iterator[tuple[str, str, str]]:
    """The texts of each triple, each of one line."""
    for example in source.examples():
        query, positive = one_line(example.query.text), one_line(example.positive.full_text)
        written.dropped["no_negatives"] += not example.negatives
        for negative in example.distinct_negatives:
            yield query, positive, one_line(negative.document.full_text)


def _rows(path: Path, *, quoted: bool) -> Iterator[tuple[str, str, str]]:
    for number, line in read_lines(path):
        fields = split_quoted(line) if quoted else line.split("\t")
        if len(fields) != 3:
            fields = line.split("\t")  # quotes around the whole of a plain line
        if len(fields) != 3:
            problem = f"{len(fields)} tab-separated columns, a triple has 3 texts: query, positive, negative"
            raise DataFormatError(problem, path=path, line=number, excerpt=line)
        yield fields[0], fields[1], fields[2]


def _end_of_field(line: str, start: int) -> int:
    end = line.find("\t", start)
    return len(line) if end < 0 else end


def _quoted(field: str) -> str:
    return '"' + field.replace('"', '""') + '"'
