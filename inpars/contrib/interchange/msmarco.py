"""MS MARCO's files: a collection with queries and judgements, triples of texts, triples of ids.

A folder has `collection.tsv` (id, text), `queries.SPLIT.tsv` (id, text), `qrels.SPLIT.tsv` (query, 0, document, 1) and
`qidpidtriples.SPLIT.tsv` (query, positive, negative). Quotes are plain characters; tabs and newlines become blanks.
Passages have no titles, so title and text are joined.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from inpars.contrib.interchange.fields import unread_files
from inpars.contrib.interchange.items import Item, JudgedQuery
from inpars.contrib.interchange.source import TRAINING_SPLIT, Layout, Source, Written
from inpars.errors import DataFormatError
from inpars.io.fields import one_line
from inpars.io.formats import read_documents, read_queries
from inpars.io.judgements import iterate_qrels
from inpars.io.storage import write_lines
from inpars.io.triples import read_triple_ids, triple_id_lines
from inpars.records import Triple

KINDS = ("collection", "queries", "qrels", "qidpidtriples")


def read(folder: Path) -> Iterator[Item]:
    """The folder's documents, queries, judgements and triples of ids."""
    collection, queries, qrels, triples = (_files(folder, kind) for kind in KINDS)
    for path in collection:
        yield from read_documents(path)
    for path in queries:
        yield from read_queries(path)
    for path in qrels:
        yield from (JudgedQuery(qrel, _split(path)) for qrel in iterate_qrels(path))
    for path in triples:
        yield from read_triple_ids(path)
    yield from unread_files(folder, (*collection, *queries, *qrels, *triples))


def write(source: Source, folder: Path, layout: Layout, written: Written) -> None:
    """Collection, queries and judgements, and triples of ids if the source has triples."""
    counts = written.counts
    lines = (f"{document.doc_id}\t{one_line(document.full_text)}" for document in source.documents())
    counts["collection.tsv"] = write_lines(folder / "collection.tsv", lines)
    split = source.written_split
    name = f"queries.{split}.tsv"
    counts[name] = write_lines(folder / name, (f"{row.query_id}\t{one_line(row.text)}" for row in source.queries()))
    name = f"qrels.{split}.tsv"
    qrels = (row.qrel for row in source.judged())
    lines = (f"{qrel.query_id}\t0\t{qrel.doc_id}\t{qrel.relevance}" for qrel in qrels)
    counts[name] = write_lines(folder / name, lines)
    if source.triples is not None:
        name = f"qidpidtriples.{split}.tsv"
        counts[name] = write_lines(folder / name, triple_id_lines(_triples(source)))


def write_ids(source: Source, path: Path, layout: Layout, written: Written) -> None:
    """Ids of query, positive and negative, without reading texts."""
    files = source.files
    triples = read_triple_ids(files.ids) if files and files.ids else _triples(source)
    written.counts[path.name] = write_lines(path, triple_id_lines(triples))


def _triples(source: Source) -> Iterator[Triple]:
    for example in source.examples():
        for negative in example.distinct_negatives:
            yield Triple(example.query.query_id, example.positive.doc_id, negative.document.doc_id)


def _files(folder: Path, kind: str) -> list[Path]:
    paths = sorted(path for path in folder.glob(f"{kind}*") if path.name.removesuffix(".gz").endswith(".tsv"))
    if kind == "collection" and not paths:
        raise DataFormatError("no collection.tsv here; --input is the folder that holds it", path=folder)
    return paths


def _split(path: Path) -> str:
    """`dev.small` for `qrels.dev.small.tsv`."""
    return path.name.removesuffix(".gz").removesuffix(".tsv").removeprefix("qrels").strip(".") or TRAINING_SPLIT
