"""LlamaIndex's EmbeddingQAFinetuneDataset: one JSON object of `queries`, `corpus`, `relevant_docs` and `mode` text."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import IO, Any

from inpars.contrib.interchange.fields import text_of, unread
from inpars.contrib.interchange.groups import SeenKeys
from inpars.contrib.interchange.items import Item, JudgedQuery
from inpars.contrib.interchange.source import Layout, Source, Written
from inpars.errors import DataFormatError
from inpars.io.fields import checked_id, field_error
from inpars.io.json_stream import JsonStream, write_pieces
from inpars.io.storage import atomic_writer, open_lines
from inpars.records import Document, Qrel, Query

MODE = "text"


def read(path: Path) -> Iterator[Item]:
    """Queries, documents and judgements in the order of the file."""
    with open_lines(path) as stream:
        walk = JsonStream(stream, path)
        for name in walk.members():
            if name == "queries":
                yield from (Query(key, text_of(value, name, path, walk.line)) for key, value in _entries(walk, path))
            elif name == "corpus":
                yield from (Document(key, text_of(value, name, path, walk.line)) for key, value in _entries(walk, path))
            elif name == "relevant_docs":
                yield from _relevant(walk, path)
            elif (value := walk.value()) != MODE and name == "mode":
                raise DataFormatError(f"only mode {MODE!r} can be read", path=path, line=walk.line, field=name)
            else:
                yield from unread({name: value}, ("mode",))
        walk.finish()


def write(source: Source, path: Path, layout: Layout, written: Written) -> None:
    """Stream the object; documents come from the corpus if one is named, else from the queries."""
    counts = written.counts
    with atomic_writer(path) as stream:
        stream.write('{"queries": ')
        counts["queries"] = _write_object(stream, ((query.query_id, query.text) for query in source.queries()))
        stream.write(',\n"corpus": ')
        documents = ((document.doc_id, document.full_text) for document in source.documents())
        counts["corpus"] = _write_object(stream, documents)
        stream.write(',\n"relevant_docs": ')
        counts["relevant_docs"] = _write_object(stream, _relevant_ids(source))
        stream.write(f',\n"mode": "{MODE}"}}\n')


def _entries(walk: JsonStream, path: Path) -> Iterator[tuple[str, Any]]:
    for key in walk.members():
        yield checked_id(key, path, walk.line), walk.value()


def _relevant(walk: JsonStream, path: Path) -> Iterator[JudgedQuery]:
    for query_id, doc_ids in _entries(walk, path):
        if not isinstance(doc_ids, list):
            raise field_error("must be a list of ids", "relevant_docs", doc_ids, path, walk.line)
        yield from (JudgedQuery(Qrel(query_id, checked_id(doc_id, path, walk.line), 1)) for doc_id in doc_ids)


def _relevant_ids(source: Source) -> Iterator[tuple[str, list[str]]]:
    relevant = (row.qrel for row in source.judged() if row.qrel.relevance > 0)
    seen = SeenKeys()
    for query_id, qrels in groupby(relevant, key=lambda qrel: qrel.query_id):
        if not seen.add(query_id):  # JSON readers keep only the last of equal keys
            raise DataFormatError(f"the lines of query {query_id!r} are not together; sort the input by query")
        yield query_id, [qrel.doc_id for qrel in qrels]


def _write_object(stream: IO[str], entries: Iterable[tuple[str, Any]]) -> int:
    encoded = ((json.dumps(key, ensure_ascii=False), json.dumps(value, ensure_ascii=False)) for key, value in entries)
    return write_pieces(stream, "{}", (f"{key}: {value}" for key, value in encoded))
