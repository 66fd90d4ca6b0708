"""The InPars toolkit's files and InPars v1's, their published ones among them.

The toolkit (v2) writes `doc_id, text, query, log_probs, prompt_text, fewshot_examples`, v1 `doc_id, doc_text, question,
log_probs`; either is read under both names. v1's filter put the score where the log-probs were: it is kept as `score`.
Neither has ids of queries: they are made from the document's id, or taken from `query_id` where we wrote it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from inpars.contrib.interchange.items import Item, Synthetic
from inpars.contrib.interchange.source import Layout, Source, Written
from inpars.contrib.interchange.tsv import read_text_triples, write_text_triples
from inpars.errors import DataFormatError
from inpars.io.fields import is_tsv
from inpars.io.formats import read_synthetic_records, synthetic_query_record
from inpars.io.storage import write_jsonl
from inpars.records import Document, SyntheticQuery

V1_NAMES = {"text": "doc_text", "query": "question"}
TEXT_FIELDS = ("text", "doc_text")
OURS = {
    *("query_id", "doc_id", "query", "question", "text", "doc_text", "log_probs", "token_ids", "stop_log_prob"),
    *("finish_reason", "log_prob_kind", "prompt", "model", "grades"),
}


def read(path: Path) -> Iterator[Item]:
    """Synthetic queries of either version, or triples where the name says tab-separated."""
    if is_tsv(path):
        yield from read_triples(path)
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


def read_triples(path: Path) -> Iterator[Item]:
    """Texts of query, positive and negative, quoted where csv does."""
    return read_text_triples(path, quoted=True)


def write_triples(source: Source, path: Path, layout: Layout, written: Written) -> None:
    """The same."""
    write_text_triples(source, path, written, quoted=True)


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
