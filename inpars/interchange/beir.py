"""BEIR's folder: `corpus.jsonl`, `queries.jsonl`, `qrels/SPLIT.tsv`. It is the form our imports have too."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from inpars.cache import cache_folder
from inpars.datasets import CORPUS_NAMES, QUERY_NAMES
from inpars.documents.archives import unpacked
from inpars.errors import DataFormatError
from inpars.fields import is_tsv
from inpars.formats import read_documents, read_queries
from inpars.interchange.fields import unread, unread_files
from inpars.interchange.folder import CORPUS, QUERIES
from inpars.interchange.format import Layout, Written
from inpars.interchange.items import Item, Judged, Unkept
from inpars.interchange.source import TRAINING_SPLIT, Source
from inpars.judgements import QRELS_HEADER, iterate_qrels, qrel_row
from inpars.records import Document, Query
from inpars.storage import read_jsonl, write_jsonl, write_lines
from inpars.tables import QUERY_ID_FIELDS, QUERY_TEXT_FIELDS


def read(path: Path) -> Iterator[Item]:
    """Documents, queries and the judgements of all splits; of a folder or a zip."""
    folder = _with_corpus(unpacked(path, cache_folder()) if path.suffix == ".zip" else path, path)
    documents, queries = _first(folder, CORPUS_NAMES), _first(folder, QUERY_NAMES)
    qrels = sorted((folder / "qrels").glob("*.tsv"))
    for file in documents:
        yield from read_documents(file)
    for file in queries:
        yield from read_queries(file)
        yield from _query_metadata(file)
    for file in qrels:
        yield from (Judged(qrel, file.stem) for qrel in iterate_qrels(file))
    yield from unread_files(folder, (*documents, *queries, *qrels), [folder / "qrels"])


def _first(folder: Path, names: Iterable[str]) -> list[Path]:
    """The first of some files that there is."""
    return [folder / name for name in names if (folder / name).is_file()][:1]


def _query_metadata(path: Path) -> Iterator[Unkept]:
    """Queries here are an id and a text."""
    for _, record in () if is_tsv(path) else read_jsonl(path):
        yield from unread(record, (*QUERY_ID_FIELDS, *QUERY_TEXT_FIELDS))


def write(source: Source, folder: Path, layout: Layout, written: Written) -> None:
    """The corpus with the synthetic queries and their documents as `train`, or with the dataset's chosen split."""
    write_collection(source, folder, QUERIES, "qrels", written)


def write_collection(source: Source, folder: Path, queries: str, qrels: str, written: Written) -> None:
    """Corpus, queries and judgements under the given names."""
    counts = written.counts
    counts[CORPUS] = write_jsonl(folder / CORPUS, map(_document_record, source.documents()))
    counts[queries] = write_jsonl(folder / queries, map(_query_record, source.queries()))
    split = source.split if source.synthetic is None and source.triples is None else TRAINING_SPLIT
    name = f"{qrels}/{split}.tsv"
    lines = (qrel_row(row.qrel) for row in source.judged())
    counts[name] = write_lines(folder / name, _with_header(lines)) - 1


def _with_header(lines: Iterator[str]) -> Iterator[str]:
    yield QRELS_HEADER
    yield from lines


def _document_record(document: Document) -> dict[str, Any]:
    return {"_id": document.doc_id, "title": document.title, "text": document.text, "metadata": dict(document.metadata)}


def _query_record(query: Query) -> dict[str, Any]:
    return {"_id": query.query_id, "text": query.text, "metadata": {}}


def _with_corpus(folder: Path, shown: Path) -> Path:
    """The folder itself or, as zips often have it, the one below that holds the corpus."""
    if not folder.is_dir():
        raise DataFormatError("no such folder or zip; check the path", path=shown)
    for place in (folder, *sorted(part for part in folder.iterdir() if part.is_dir())):
        if any((place / name).is_file() for name in CORPUS_NAMES):
            return place
    raise DataFormatError(f"no corpus here; a BEIR folder has one of {', '.join(CORPUS_NAMES)}", path=shown)
