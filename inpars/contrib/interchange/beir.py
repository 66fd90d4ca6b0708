"""BEIR's folder: `corpus.jsonl`, `queries.jsonl`, `qrels/SPLIT.tsv`. Our imports have the same layout."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from inpars.cache import cache_folder
from inpars.contrib.interchange.fields import unread, unread_files
from inpars.contrib.interchange.folder import CORPUS, QUERIES
from inpars.contrib.interchange.items import Item, JudgedQuery
from inpars.contrib.interchange.source import Layout, Source, Written
from inpars.documents.datasets import QUERY_NAMES, beir_corpus, unpacked
from inpars.errors import DataFormatError
from inpars.io.fields import is_tsv
from inpars.io.formats import document_record, read_documents, read_queries
from inpars.io.judgements import QRELS_HEADER, iterate_qrels, qrel_row
from inpars.io.storage import read_jsonl, write_jsonl, write_lines
from inpars.io.tables import QUERY_ID_FIELDS, QUERY_TEXT_FIELDS


def read(path: Path) -> Iterator[Item]:
    """Documents, queries and the judgements of all splits, from a folder or a zip."""
    folder = unpacked(path, cache_folder()) if path.suffix == ".zip" else path
    if not folder.is_dir():
        raise DataFormatError("no such folder or zip; check the path", path=path)
    corpus = beir_corpus(folder, str(path))
    folder = corpus.parent
    queries = [file for name in QUERY_NAMES if (file := corpus.with_name(name)).is_file()][:1]
    qrels = sorted((folder / "qrels").glob("*.tsv"))
    yield from read_documents(corpus)
    for file in queries:
        yield from read_queries(file)
        for _, record in () if is_tsv(file) else read_jsonl(file):
            yield from unread(record, (*QUERY_ID_FIELDS, *QUERY_TEXT_FIELDS))  # we keep only id and text
    for file in qrels:
        yield from (JudgedQuery(qrel, file.stem) for qrel in iterate_qrels(file))
    yield from unread_files(folder, (corpus, *queries, *qrels), [folder / "qrels"])


def write(source: Source, folder: Path, layout: Layout, written: Written) -> None:
    """The corpus with the synthetic queries as split `train`, or with the dataset's chosen split."""
    write_collection(source, folder, QUERIES, "qrels", written)


def write_collection(source: Source, folder: Path, queries: str, qrels: str, written: Written) -> None:
    """Corpus, queries and judgements under the given names."""
    counts = written.counts
    documents = (document_record(row) | {"metadata": dict(row.metadata)} for row in source.documents())
    counts[CORPUS] = write_jsonl(folder / CORPUS, documents)
    queries_rows = ({"_id": query.query_id, "text": query.text, "metadata": {}} for query in source.queries())
    counts[queries] = write_jsonl(folder / queries, queries_rows)
    name = f"{qrels}/{source.written_split}.tsv"
    lines = (qrel_row(row.qrel) for row in source.judged())
    counts[name] = write_lines(folder / name, chain([QRELS_HEADER], lines)) - 1
