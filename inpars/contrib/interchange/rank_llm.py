"""rank_llm's requests: a query `{"text", "qid"}` with candidates `{"docid", "score", "doc"}` in the order of a ranking.

A `.json` file is one list, a `.jsonl` file has one request per line; both are read and written. `doc` holds `title` and
`text`. If the order contradicts the scores, as after a reranking that kept them, the order counts and the imported
scores are 1 / rank.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from inpars.contrib.interchange.fields import PASSAGE_FIELDS, document_of_object, id_of, object_of, text_of, unread
from inpars.contrib.interchange.groups import SeenKeys
from inpars.contrib.interchange.items import Item
from inpars.contrib.interchange.source import Layout, Source, Written
from inpars.contrib.interchange.trec import scored_documents
from inpars.errors import DataFormatError
from inpars.io.fields import list_of, number_of
from inpars.io.json_stream import read_json_list, write_pieces
from inpars.io.storage import atomic_writer, read_jsonl, to_json_line, write_jsonl
from inpars.records import Document, Query


def read(path: Path) -> Iterator[Item]:
    """Queries, documents and rankings. Raises DataFormatError for a second request of a query."""
    seen = SeenKeys()
    for line, value in _requests(path):
        record = object_of(value, "request", path, line)
        query = object_of(record.get("query"), "query", path, line)
        text = text_of(query.get("text"), "text", path, line)
        query_id = id_of(query.get("qid"), text, "q", path, line)
        if not seen.add(query_id):
            problem = f"a second request of query {query_id!r}; keep one of them"
            raise DataFormatError(problem, path=path, line=line)
        yield Query(query_id, text)
        candidates = [object_of(value, "candidates", path, line) for value in list_of(record, "candidates", path, line)]
        documents = [_document(candidate, path, line) for candidate in candidates]
        yield from documents
        scores = [number_of(candidate.get("score", 0), "score", path, line) for candidate in candidates]
        yield from scored_documents(query_id, [document.doc_id for document in documents], scores)
        yield from unread(record, ("query", "candidates"))
        yield from unread(query, ("text", "qid"))
        for candidate in candidates:
            yield from unread(candidate, ("docid", "score", "doc"))
            if isinstance(candidate.get("doc"), dict):
                yield from unread(candidate["doc"], PASSAGE_FIELDS)


def write(source: Source, path: Path, layout: Layout, written: Written) -> None:
    """One request per query of the run."""
    if path.name.removesuffix(".gz").endswith(".jsonl"):
        written.counts[path.name] = write_jsonl(path, _records(source))
    else:
        with atomic_writer(path) as stream:
            written.counts[path.name] = write_pieces(stream, "[]", map(to_json_line, _records(source)))
            stream.write("\n")


def _requests(path: Path) -> Iterable[tuple[int, Any]]:
    name = path.name.removesuffix(".gz")
    if not name.endswith((".json", ".jsonl")):
        raise DataFormatError("a file of requests ends in .json or .jsonl", path=path)
    return read_jsonl(path) if name.endswith(".jsonl") else read_json_list(path)


def _document(candidate: dict[str, Any], path: Path, line: int) -> Document:
    doc = candidate.get("doc")
    value = {"text": doc} if isinstance(doc, str) else doc  # older versions write a bare text
    return document_of_object(value, "doc", path, line, doc_id=candidate.get("docid"))


def _records(source: Source) -> Iterator[dict[str, Any]]:
    corpus, text = source.needed_corpus(), source.query_text()
    for query_id, ranking in source.rankings():
        candidates = [_candidate(corpus[doc_id], score) for doc_id, score in ranking]
        yield {"query": {"text": text(query_id), "qid": query_id}, "candidates": candidates}


def _candidate(document: Document, score: float) -> dict[str, Any]:
    doc = {"title": document.title, "text": document.text} if document.title else {"text": document.text}
    return {"docid": document.doc_id, "score": score, "doc": doc}
