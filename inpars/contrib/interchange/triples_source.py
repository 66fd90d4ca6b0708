"""Our triples as examples: ids, texts, and sources and scores of negatives, joined line by line.

`NAME.tsv` (texts), `NAME.ids.tsv` (ids) and `NAME.negatives.jsonl` (sources and scores) are read in step, so only one
query's lines are in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby, zip_longest
from pathlib import Path
from typing import Any, TypeAlias

from inpars.contrib.interchange.items import Example, Negative, document_of, query_of
from inpars.errors import ConfigError, DataFormatError, StaleInputError
from inpars.io.corpus import Corpus
from inpars.io.storage import read_lines
from inpars.io.triples import read_negative_rows, read_triple_ids
from inpars.records import Document, Query, Triple

Texts: TypeAlias = tuple[str, str, str]
Rows: TypeAlias = dict[str, dict[str, Any]]  # negative doc_id -> its row


@dataclass(frozen=True, slots=True)
class TripleFiles:
    """The files of one set of triples; at least `ids` or `texts` exists."""

    texts: Path | None
    ids: Path | None
    negatives: Path | None


def triple_files(path: Path) -> TripleFiles:
    """The set of files that a `triples.tsv` or `triples.ids.tsv` belongs to. Raises DataFormatError if it is absent."""
    if not path.is_file():
        raise DataFormatError("no such file of triples; check the path", path=path)
    stem = path.name.removesuffix(".gz").removesuffix(".tsv").removesuffix(".ids")
    beside = [path.with_name(stem + ending) for ending in (".tsv", ".ids.tsv", ".negatives.jsonl")]
    texts, ids, negatives = (file if file.is_file() else None for file in beside)
    if path.name.removesuffix(".gz").endswith(".ids.tsv"):
        return TripleFiles(texts, path, negatives)
    return TripleFiles(path, ids, negatives if ids else None)


def read_examples(
    files: TripleFiles, corpus: Corpus | None, query_text: Callable[[str], str] | None
) -> Iterator[Example]:
    """One example per run of lines with the same query and positive.

    Documents come from the corpus if given, else from the texts; missing ids are made from the texts.
    """
    rows = _Rows(files.negatives) if files.negatives else None
    for (query, positive), lines in groupby(_joined(files, corpus, query_text), key=lambda line: line[:2]):
        negatives = [document for _, _, document in lines]
        known = rows.of(query.query_id, positive.doc_id) if rows else {}
        yield _example(query, positive, negatives, known)


def _example(query: Query, positive: Document, negatives: list[Document], known: Rows) -> Example:
    first = known.get(negatives[0].doc_id, {})
    return Example(
        query,
        positive,
        tuple(negative for document in negatives for negative in _negatives(document, known.get(document.doc_id, {}))),
        first.get("positive_score"),
        first.get("positive_reranker_score"),
        first.get("positive_grade") or 1,
    )


def _negatives(document: Document, row: dict[str, Any]) -> Iterator[Negative]:
    source = str(row.get("source") or "")
    yield Negative(document, source, row.get("rank"), row.get("score"), row.get("reranker_score"))
    for other, rank in (row.get("also") or {}).items():
        yield Negative(document, other, rank)


def _joined(
    files: TripleFiles, corpus: Corpus | None, query_text: Callable[[str], str] | None
) -> Iterator[tuple[Query, Document, Document]]:
    texts = read_texts(files.texts) if files.texts else None
    if files.ids is None:
        for query, positive, negative in texts or ():
            yield query_of(query), document_of(positive), document_of(negative)
        return
    for triple, line in zip_longest(read_triple_ids(files.ids), texts or ()):
        if triple is None or (line is None and texts is not None):
            raise StaleInputError(f"{files.ids} and {files.texts}: not the same number of lines; mine them again")
        yield _with_texts(triple, line, corpus, query_text, files.ids)


def _with_texts(
    triple: Triple, line: Texts | None, corpus: Corpus | None, query_text: Callable[[str], str] | None, ids: Path
) -> tuple[Query, Document, Document]:
    if line is not None:
        query = Query(triple.query_id, line[0])
        positive, negative = Document(triple.positive_doc_id, line[1]), Document(triple.negative_doc_id, line[2])
    elif query_text is None or corpus is None:
        raise ConfigError(
            f"{ids} has only ids: give the documents with --dataset or --corpus, and the queries with --input or "
            "--queries"
        )
    else:
        query = Query(triple.query_id, query_text(triple.query_id))
    if corpus is not None:
        positive, negative = corpus[triple.positive_doc_id], corpus[triple.negative_doc_id]
    return query, positive, negative


def split_plain(line: str) -> list[str]:
    """The fields of a line in which quotes are plain characters."""
    return line.split("\t")


def read_texts(path: Path, split: Callable[[str], list[str]] = split_plain) -> Iterator[Texts]:
    """Triples of texts. Raises DataFormatError unless `split` gives three fields per line."""
    for number, line in read_lines(path):
        fields = split(line)
        if len(fields) != 3:
            problem = f"{len(fields)} tab-separated columns, a triple has 3 texts: query, positive, negative"
            raise DataFormatError(problem, path=path, line=number, excerpt=line)
        yield fields[0], fields[1], fields[2]


class _Rows:
    """The rows of `NAME.negatives.jsonl`, taken query by query in the order of the triples."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._groups = groupby(read_negative_rows(path), key=lambda row: (row["query_id"], row["positive_doc_id"]))

    def of(self, query_id: str, positive_doc_id: str) -> Rows:
        """The rows of one query and positive, skipping earlier ones."""
        for key, rows in self._groups:
            if key == (query_id, positive_doc_id):
                return {row["negative_doc_id"]: row for row in rows}
        raise StaleInputError(
            f"{self._path} has nothing on query {query_id!r} with {positive_doc_id!r} at this point, so it belongs to "
            "other triples; move it away, or put its own triples next to it"
        )
