"""The InPars toolkit's files and InPars v1's, their published ones among them.

The toolkit (v2) writes `doc_id, text, query, log_probs, prompt_text, fewshot_examples`, v1 `doc_id, doc_text, question,
log_probs`; either is read under both names. v1's filter put the score where the log-probs were: it is kept as `score`.
Neither has ids of queries: they are made from the document's id, or taken from `query_id` where we wrote it.

Triples are tab-separated, one per line. The toolkit quotes a field that holds a quote or a tab, as Python's csv does,
and doubles the quotes inside; MS MARCO and v1 give quotes no meaning. A line that no such writer can have written,
because a quote stands where it would have quoted, is taken as plain.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from inpars.contrib.interchange.items import Example, Item, Negative, Synthetic, document_of, query_of
from inpars.contrib.interchange.source import Layout, Source, Written
from inpars.errors import DataFormatError
from inpars.io.fields import is_tsv, one_line
from inpars.io.formats import read_synthetic_records, synthetic_query_record
from inpars.io.storage import read_lines, write_jsonl, write_lines
from inpars.records import Document, SyntheticQuery

V1_NAMES = {"text": "doc_text", "query": "question"}
TEXT_FIELDS = ("text", "doc_text")
OURS = {
    *("query_id", "doc_id", "query", "question", "text", "doc_text", "log_probs", "token_ids", "stop_log_prob"),
    *("finish_reason", "log_prob_kind", "prompt", "model", "grades"),
}
_QUOTED = re.compile(r'"([^"]*(?:""[^"]*)*)"(?=\t|$)')
_NEEDS_QUOTES = re.compile(r'["\t]')


def read(path: Path) -> Iterator[Item]:
    """Synthetic queries of either version, or triples where the name says tab-separated."""
    if is_tsv(path):
        yield from read_text_triples(path, quoted=True)
        return
    for query, record in read_synthetic_records(path, _with_score):
        others = {name: value for name, value in record.items() if name not in OURS}
        yield Synthetic(query, _document(query.doc_id, record, path), others)


def write(source: Source, path: Path, layout: Layout, written: Written) -> None:
    """The toolkit's fields first, then what else we know of the query."""
    written.counts[path.name] = write_jsonl(path, (_record(*parts, written) for parts in source.records()))


def write_v1(source: Source, path: Path, layout: Layout, written: Written) -> None:
    """The same under v1's names."""
    records = (_record(*parts, written) for parts in source.records())
    renamed = ({V1_NAMES.get(name, name): value for name, value in record.items()} for record in records)
    written.counts[path.name] = write_jsonl(path, renamed)


def _with_score(record: Mapping[str, Any]) -> dict[str, Any]:
    value = record.get("log_probs")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return dict(record)
    return {**record, "log_probs": None, "score": value}


def _document(doc_id: str, record: Mapping[str, Any], path: Path) -> Document | None:
    name = next((name for name in TEXT_FIELDS if record.get(name) is not None), None)
    if name is None:
        return None
    if not isinstance(record[name], str):
        raise DataFormatError(
            f"must be text, of document {doc_id!r}", path=path, field=name, excerpt=repr(record[name])
        )
    return Document(doc_id, record[name])


def _record(query: SyntheticQuery, document: Document, fields: Mapping[str, Any], written: Written) -> dict[str, Any]:
    ours = synthetic_query_record(query)
    if ours["log_probs"] is None:
        written.dropped["log_probs_absent"] += 1
    theirs = {
        "doc_id": query.doc_id,
        "text": document.full_text,
        "query": query.text,
        "log_probs": ours["log_probs"],
        "prompt_text": fields.get("prompt_text") or "",
        "fewshot_examples": fields.get("fewshot_examples") or [],
    }
    return {
        **theirs,
        **{
            name: value for name, value in {**fields, **ours}.items() if name not in (*theirs, *TEXT_FIELDS, "question")
        },
    }


def split_quoted(line: str) -> list[str]:
    """Fields of a line that csv wrote with quotes where they are needed; of any other line, those between tabs."""
    if '"' not in line:
        return line.split("\t")
    fields, start = [], 0
    while True:
        quoted = _QUOTED.match(line, start)
        end = quoted.end() if quoted else (line + "\t").index("\t", start)
        field = quoted[1].replace('""', '"') if quoted else line[start:end]
        if not quoted and '"' in field:
            return line.split("\t")
        fields.append(field)
        if end >= len(line):
            return fields
        start = end + 1


def join_quoted(fields: tuple[str, ...]) -> str:
    """A line in which fields with a quote or a tab are quoted."""
    doubled = {field: '"' + field.replace('"', '""') + '"' for field in fields if _NEEDS_QUOTES.search(field)}
    return "\t".join(doubled.get(field, field) for field in fields)


def read_text_triples(path: Path, *, quoted: bool) -> Iterator[Example]:
    """Neighbouring lines of one query and positive as an example; ids are made from the texts."""
    for (query, positive), lines in groupby(_rows(path, quoted=quoted), key=lambda row: row[:2]):
        negatives = tuple(Negative(document_of(row[2])) for row in lines)
        yield Example(query_of(query), document_of(positive), negatives)


def write_text_triples(source: Source, path: Path, layout: Layout, written: Written, *, quoted: bool) -> None:
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
