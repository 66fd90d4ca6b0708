"""GPL's folder (arXiv 2112.07577).

`corpus.jsonl`, `qgen-queries.jsonl` and `qgen-qrels/train.tsv` are BEIR's; `hard-negatives.jsonl` lists for each query
the documents each retriever found, best first; `gpl-training-data.tsv` holds query, positive, negative and the raw
margin of the cross-encoder's logits. GPL creates missing files, so it computes the margins of an export without
reranker scores.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from inpars.contrib.interchange.beir import write_collection
from inpars.contrib.interchange.fields import object_of, unread, unread_files
from inpars.contrib.interchange.folder import CORPUS
from inpars.contrib.interchange.items import Example, Item, JudgedQuery, Margin, Negative, examples_of
from inpars.contrib.interchange.source import Layout, Source, Written
from inpars.errors import DataFormatError
from inpars.io.corpus import Corpus
from inpars.io.fields import checked_id, finite_number, list_of
from inpars.io.formats import read_documents, read_queries
from inpars.io.judgements import iterate_qrels
from inpars.io.storage import read_jsonl, read_lines, write_jsonl, write_lines
from inpars.io.triples import MARGINS
from inpars.records import Document, Query, Triple

PREFIX = "qgen"
QUERIES, QRELS = f"{PREFIX}-queries.jsonl", f"{PREFIX}-qrels"
HARD_NEGATIVES, TRAINING_DATA = "hard-negatives.jsonl", "gpl-training-data.tsv"
UNKNOWN_RETRIEVER = "inpars"


def read(folder: Path) -> Iterator[Item]:
    """Collection, judgements, margins, and every hard negative with its retriever and rank."""
    queries = _queries_file(folder)
    yield from read_documents(folder / CORPUS)
    yield from read_queries(queries)
    judged = folder / f"{queries.name.removesuffix('queries.jsonl')}qrels"
    qrels = sorted(judged.glob("*.tsv"))
    for file in qrels:
        yield from (JudgedQuery(qrel, file.stem) for qrel in iterate_qrels(file))
    if (folder / HARD_NEGATIVES).is_file():
        yield from _examples(folder, queries)
    if (folder / TRAINING_DATA).is_file():
        yield from _margins(folder / TRAINING_DATA)
    ours = (folder / name for name in (CORPUS, HARD_NEGATIVES, TRAINING_DATA))
    yield from unread_files(folder, (queries, *qrels, *ours), [judged])


def write(source: Source, folder: Path, layout: Layout, written: Written) -> None:
    """The collection; with triples also the hard negatives, and the margins if known."""
    write_collection(source, folder, QUERIES, QRELS, written)
    if source.files is None:
        return
    records = (
        _record(list(neighbours))
        for _, neighbours in groupby(source.together(), key=lambda example: example.query.query_id)
    )
    written.counts[HARD_NEGATIVES] = write_jsonl(folder / HARD_NEGATIVES, records)
    margins = (source.files.ids or source.files.texts or folder).with_name(MARGINS)
    lines = (line for _, line in read_lines(margins)) if margins.is_file() else _margin_lines(source, written)
    if count := write_lines(folder / TRAINING_DATA, lines):
        written.counts[TRAINING_DATA] = count
    else:
        (folder / TRAINING_DATA).unlink()


def _queries_file(folder: Path) -> Path:
    """`qgen-queries.jsonl`, or the file of another --qgen_prefix."""
    paths = sorted(folder.glob("*-queries.jsonl"))
    if not (folder / CORPUS).is_file() or not paths:
        raise DataFormatError(f"not a GPL folder: it needs {CORPUS} and {QUERIES}", path=folder)
    return folder / QUERIES if folder / QUERIES in paths else paths[0]


def _examples(folder: Path, queries: Path) -> Iterator[Item]:
    path = folder / HARD_NEGATIVES
    corpus, texts = Corpus(folder / CORPUS), Corpus(queries)
    for line, record in read_jsonl(path):
        query_id = checked_id(record.get("qid"), path, line)
        query = Query(query_id, _document_of(texts, query_id, path, line).text)
        by_retriever = object_of(record.get("neg"), "neg", path, line)
        negatives = tuple(_negatives(by_retriever, corpus, path, line))
        positives = (_document_of(corpus, doc_id, path, line) for doc_id in list_of(record, "pos", path, line))
        yield from examples_of(query, tuple(positives), negatives)
        yield from unread(record, ("qid", "pos", "neg"))


def _document_of(texts: Corpus, text_id: object, path: Path, line: int) -> Document:
    """A document, or a query in the form of one. Raises DataFormatError with path and line for an unknown id."""
    doc_id = checked_id(text_id, path, line)
    if doc_id not in texts:
        raise DataFormatError(f"the folder has no text of {doc_id!r}", path=path, line=line)
    return texts[doc_id]


def _negatives(by_retriever: dict[str, Any], corpus: Corpus, path: Path, line: int) -> Iterator[Negative]:
    for retriever in by_retriever:
        for rank, doc_id in enumerate(list_of(by_retriever, retriever, path, line), start=1):
            yield Negative(_document_of(corpus, doc_id, path, line), source=retriever, rank=rank)


def _margins(path: Path) -> Iterator[Margin]:
    for number, line in read_lines(path):
        fields = line.split("\t")
        if len(fields) != 4:
            problem = f"{len(fields)} tab-separated columns, 4 are needed: query, positive, negative, margin"
            raise DataFormatError(problem, path=path, line=number, excerpt=line)
        triple = Triple(*(checked_id(field, path, number) for field in fields[:3]))
        yield Margin(triple, finite_number(fields[3], path, number))


def _record(examples: list[Example]) -> dict[str, Any]:
    """The record of one query, each retriever's negatives by rank."""
    by_retriever: dict[str, dict[str, int]] = {}
    for negative in (negative for example in examples for negative in example.negatives):
        ranks = by_retriever.setdefault(negative.source or UNKNOWN_RETRIEVER, {})
        ranks.setdefault(negative.document.doc_id, len(ranks) + 1 if negative.rank is None else negative.rank)
    neg = {retriever: sorted(ranks, key=ranks.__getitem__) for retriever, ranks in by_retriever.items()}
    pos = list(dict.fromkeys(example.positive.doc_id for example in examples))
    return {"qid": examples[0].query.query_id, "pos": pos, "neg": neg}


def _margin_lines(source: Source, written: Written) -> Iterable[str]:
    for example in source.examples():
        for negative in example.distinct_negatives:
            if example.positive_reranker_score is None or negative.reranker_score is None:
                written.dropped["margin_unknown"] += 1
                continue
            margin = example.positive_reranker_score - negative.reranker_score
            yield f"{example.query.query_id}\t{example.positive.doc_id}\t{negative.document.doc_id}\t{margin:.6f}"
