"""Tevatron's JSON lines: `query_id`, `query`, `positive_passages`, `negative_passages` of `docid`, `title`, `text`.

Its newer form has ids instead of passages (`query_text`, `positive_document_ids`, `negative_document_ids`) and the
texts in `corpus.jsonl` next to it (`docid`, `title`, `text`); it can be imported only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from inpars.contrib.interchange.fields import PASSAGE_FIELDS, document_of_object, id_of, text_of, unread
from inpars.contrib.interchange.folder import CORPUS
from inpars.contrib.interchange.items import Group, Item, Negative, examples_of, grouped
from inpars.contrib.interchange.source import Layout, Source, Written
from inpars.errors import DataFormatError
from inpars.io.corpus import Corpus
from inpars.io.fields import checked_id, list_of
from inpars.io.storage import read_jsonl, write_jsonl
from inpars.records import Document, Query

PASSAGES = ("positive_passages", "negative_passages")
FIELDS = (*PASSAGES, "query_id", "query", "query_text", "positive_document_ids", "negative_document_ids")


def read(path: Path) -> Iterator[Item]:
    """One example per positive, with all negatives of its line; lines without a positive are counted."""
    beside = path.with_name(CORPUS)
    corpus = Corpus(beside) if beside.is_file() and beside != path else None
    for line, record in read_jsonl(path):
        by_ids = "positive_document_ids" in record
        name = "query_text" if "query_text" in record else "query"
        text = text_of(record.get(name), name, path, line)
        query = Query(id_of(record.get("query_id"), text, "q", path, line), text)
        names = ("positive_document_ids", "negative_document_ids") if by_ids else PASSAGES
        positives, negatives = (_documents(record, name, corpus, path, line) for name in names)
        hard_negatives = tuple(Negative(document, rank=rank) for rank, document in enumerate(negatives, start=1))
        yield from examples_of(query, tuple(positives), hard_negatives)
        yield from unread(record, FIELDS)
        for passage in (passage for name in PASSAGES for passage in list_of(record, name, path, line)):
            yield from unread(passage, PASSAGE_FIELDS)


def write(source: Source, path: Path, layout: Layout, written: Written) -> None:
    """One line per query, with its passages."""
    written.counts[path.name] = write_jsonl(path, map(_record, grouped(source.together())))


def _documents(record: Mapping[str, Any], name: str, corpus: Corpus | None, path: Path, line: int) -> list[Document]:
    """The documents of a field, given as passages or as ids."""
    values = list_of(record, name, path, line)
    if name in PASSAGES:
        return [document_of_object(value, name, path, line) for value in values]
    if corpus is None:
        problem = f"ids without texts; put their {CORPUS} next to this file"
        raise DataFormatError(problem, path=path, line=line, field=name)
    return [corpus[checked_id(value, path, line)] for value in values]


def _record(group: Group) -> dict[str, Any]:
    return {
        "query_id": group.query.query_id,
        "query": group.query.text,
        "positive_passages": [_passage(document) for document in group.positives],
        "negative_passages": [_passage(negative.document) for negative in group.negatives],
    }


def _passage(document: Document) -> dict[str, str]:
    return {"docid": document.doc_id, "title": document.title, "text": document.text}
