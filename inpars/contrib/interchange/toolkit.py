"""The files of the InPars toolkit and of InPars v1, including the published ones.

The toolkit (v2) writes `doc_id, text, query, log_probs, prompt_text, fewshot_examples`, v1 `doc_id, doc_text, question,
log_probs`; the reader takes both. v1's filter overwrites the log-probs with the score, which is kept as `score`.
Neither has query ids: they are made from the document's id unless our own `query_id` is present.

Triples are tab-separated, one per line. The toolkit quotes a field that holds a quote or a tab and doubles the quotes
inside, like Python's csv; in MS MARCO and v1, quotes are plain characters. A line with a quote that csv would have
escaped is read as plain.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from inpars.contrib.interchange.items import Example, Item, Negative, Synthetic, document_of, query_of
from inpars.contrib.interchange.source import Layout, Source, Written
from inpars.contrib.interchange.triples_source import read_texts, split_plain
from inpars.errors import DataFormatError
from inpars.io.fields import is_tsv, one_line
from inpars.io.formats import read_synthetic_records, synthetic_query_record
from inpars.io.storage import write_jsonl, write_lines
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
    """Synthetic queries of either version, or triples if the file name ends in .tsv or .txt."""
    if is_tsv(path):
        yield from read_text_triples(path, quoted=True)
        return
    for query, record in read_synthetic_records(path, _with_score):
        others = {name: value for name, value in record.items() if name not in OURS}
        yield Synthetic(query, _document(query.doc_id, record, path), others)


def write(source: Source, path: Path, layout: Layout, written: Written) -> None:
    """The toolkit's fields first, then our further ones."""
    written.counts[path.name] = write_jsonl(path, (_record(*parts, written) for parts in source.records()))


def write_v1(source: Source, path: Path, layout: Layout, written: Written) -> None:
    """The same with v1's field names."""
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
    """The fields of a line that csv wrote with minimal quoting; other lines are split at tabs."""
    if '"' not in line:
        return split_plain(line)
    fields, start = [], 0
    while True:
        quoted = _QUOTED.match(line, start)
        end = quoted.end() if quoted else (line + "\t").index("\t", start)
        field = quoted[1].replace('""', '"') if quoted else line[start:end]
        if not quoted and '"' in field:
            return split_plain(line)
        fields.append(field)
        if end >= len(line):
            return fields
        start = end + 1


def join_quoted(fields: tuple[str, ...]) -> str:
    """A line as csv writes it: fields with a quote or a tab are quoted."""
    doubled = {field: '"' + field.replace('"', '""') + '"' for field in fields if _NEEDS_QUOTES.search(field)}
    return "\t".join(doubled.get(field, field) for field in fields)


def read_text_triples(path: Path, *, quoted: bool) -> Iterator[Example]:
    """One example per run of lines with the same query and positive; ids are made from the texts."""
    rows = read_texts(path, _split_triple if quoted else split_plain)
    for (query, positive), lines in groupby(rows, key=lambda row: row[:2]):
        negatives = tuple(Negative(document_of(row[2])) for row in lines)
        yield Example(query_of(query), document_of(positive), negatives)


def write_text_triples(source: Source, path: Path, layout: Layout, written: Written, *, quoted: bool) -> None:
    """One line per triple: query, positive and negative as texts."""
    join = join_quoted if quoted else "\t".join
    written.counts[path.name] = write_lines(path, (join(texts) for texts in _triple_texts(source, written)))


def _triple_texts(source: Source, written: Written) -> Iterator[tuple[str, str, str]]:
    """The texts of each triple, without tabs and newlines."""
    for example in source.examples():
        query, positive = one_line(example.query.text), one_line(example.positive.full_text)
        written.dropped["no_negatives"] += not example.negatives
        for negative in example.distinct_negatives:
            yield query, positive, one_line(negative.document.full_text)


def _split_triple(line: str) -> list[str]:
    fields = split_quoted(line)
    return fields if len(fields) == 3 else split_plain(line)  # a plain line that begins and ends with a quote
