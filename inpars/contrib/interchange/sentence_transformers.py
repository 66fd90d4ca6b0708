"""Parquet files with the columns that sentence-transformers reads.

It goes by the order of columns, not their names, except that `label`, `labels`, `score`, `scores` are never texts.

    triplet       anchor, positive, negative                one row per triple
    n-tuple       anchor, positive, negative_1 ...          one row per query, as many negatives as most queries have
    pair          anchor, positive
    labeled-pair  query, passage, label                     a positive's grade, 0 for a negative
    labeled-list  query, docs, labels                       one row per query
    scored-pair   query, passage, score                     the reranker's scores, or those of --run
    margin        anchor, positive, negative, score         the reranker's margin, for MarginMSE

No layout has ids, so they are made from the texts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from inpars.batches import chunks
from inpars.contrib.interchange.fields import text_of
from inpars.contrib.interchange.items import (
    Example,
    Group,
    Item,
    Labelled,
    Margin,
    Negative,
    Unkept,
    document_of,
    grouped,
    of_labels,
    query_of,
)
from inpars.contrib.interchange.source import Layout, Source, Written
from inpars.errors import ConfigError, DataFormatError
from inpars.io.fields import number_of
from inpars.io.judgements import GRADE_LIMIT
from inpars.io.record_files import read_parquet
from inpars.io.storage import atomic_file
from inpars.records import Document, ScoredDocument, Triple

BATCH_ROWS = 1024  # in memory at a time
LABELS = ("label", "labels", "score", "scores")
Row: TypeAlias = dict[str, Any]


def read(path: Path) -> Iterator[Item]:
    """Examples from any layout; scored pairs become documents, queries and a run."""
    files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    if not files:
        raise DataFormatError("no .parquet files here", path=path)
    for row in (_Row(file, number, row) for file in files for number, row in read_parquet(file)):
        yield from READERS[row.shape](row)
        yield from (Unkept(f"column {name!r}") for name in row.unread)


def write(source: Source, path: Path, layout: Layout, written: Written) -> None:
    """Write the chosen layout."""
    import pyarrow
    from pyarrow import parquet

    text, whole = pyarrow.string(), pyarrow.int64()
    width = _usual_negatives(source) if layout == "n-tuple" else 0
    columns: dict[Layout, dict[str, Any]] = {
        "triplet": dict.fromkeys(("anchor", "positive", "negative"), text),
        "n-tuple": dict.fromkeys(("anchor", "positive", *_names(width)), text),
        "pair": dict.fromkeys(("anchor", "positive"), text),
        "labeled-pair": {"query": text, "passage": text, "label": whole},
        "labeled-list": {"query": text, "docs": pyarrow.list_(text), "labels": pyarrow.list_(whole)},
        "scored-pair": {"query": text, "passage": text, "score": pyarrow.float64()},
        "margin": {**dict.fromkeys(("anchor", "positive", "negative"), text), "score": pyarrow.float64()},
    }
    schema = pyarrow.schema(list(columns[layout].items()))
    with atomic_file(path) as working, parquet.ParquetWriter(working, schema) as target:
        for batch in chunks(_rows(source, layout, width, written), BATCH_ROWS):
            target.write_batch(pyarrow.RecordBatch.from_pylist(batch, schema=schema))
            written.counts[path.name] += len(batch)


class _Row:
    """One row, split into texts and label."""

    def __init__(self, path: Path, number: int, row: Mapping[str, Any]) -> None:
        self.path, self.number = path, number
        self.texts = [value for name, value in row.items() if name not in LABELS]
        self.names = [name for name in row if name not in LABELS]
        labels = sorted((name for name in LABELS if name in row), key=lambda name: row[name] is None)
        self.label = (labels[0], row[labels[0]]) if labels else None
        self.unread = [name for name in labels[1:] if row[name] is not None]
        if len(self.texts) < 2:
            raise self.error(f"{len(self.texts)} text columns; a query and a document are needed", None)
        self.query = text_of(self.texts[0], self.names[0], path, number)

    @property
    def shape(self) -> str:
        """The key of the row's reader in `READERS`."""
        if isinstance(self.texts[1], list):
            return "list"
        if len(self.texts) > 2 or self.label is None:
            return "columns"
        return "scored" if self.label[0].startswith("score") else "labeled"

    def document(self, column: int) -> Document:
        return document_of(text_of(self.texts[column], self.names[column], self.path, self.number))

    def error(self, problem: str, field: str | None) -> DataFormatError:
        return DataFormatError(problem, path=self.path, line=self.number, field=field)


def _flat(row: _Row) -> Iterator[Item]:
    """A positive with its negatives; a single number in a triplet is the margin."""
    query, positive = query_of(row.query), row.document(1)
    columns = [column for column in range(2, len(row.texts)) if row.texts[column] is not None]
    documents = [row.document(column) for column in columns]
    scores = _scores(row, len(documents))
    negatives = tuple(
        Negative(document, rank=rank, reranker_score=score)
        for rank, (document, score) in enumerate(zip(documents, scores[1:], strict=True), start=1)
    )
    yield Example(query, positive, negatives, positive_reranker_score=scores[0])
    name, value = row.label or ("", None)
    if value is None or isinstance(value, list):
        return
    if len(documents) != 1:
        raise row.error(f"one number for {len(documents)} negatives; give a list with one per document", name)
    triple = Triple(query.query_id, positive.doc_id, documents[0].doc_id)
    yield Margin(triple, number_of(value, name, row.path, row.number))


def _scores(row: _Row, negatives: int) -> list[float | None]:
    """The score of the positive, then those of the negatives; None without a list of scores."""
    if row.label is None or not isinstance(row.label[1], list):
        return [None] * (1 + negatives)
    name, values = row.label
    if len(values) != 1 + negatives:
        raise row.error(f"{len(values)} scores for {1 + negatives} documents", name)
    return [number_of(value, name, row.path, row.number) for value in values]


def _labeled(row: _Row) -> Iterator[Item]:
    name, value = row.label or ("label", None)
    yield Labelled(query_of(row.query), row.document(1), _grade(row, name, value))


def _listed(row: _Row) -> Iterator[Item]:
    name, labels = row.label or ("labels", None)
    if not isinstance(labels, list) or len(labels) != len(row.texts[1]):
        raise row.error(f"must be a list of {len(row.texts[1])} labels", name)
    texts = [text_of(text, row.names[1], row.path, row.number) for text in row.texts[1]]
    labelled = ((document_of(text), _grade(row, name, value)) for text, value in zip(texts, labels, strict=True))
    yield from of_labels(query_of(row.query), labelled)


def _scored(row: _Row) -> Iterator[Item]:
    query, document = query_of(row.query), row.document(1)
    name, value = row.label or ("score", None)
    yield query
    yield document
    yield ScoredDocument(query.query_id, document.doc_id, number_of(value, name, row.path, row.number))


READERS: dict[str, Callable[[_Row], Iterator[Item]]] = {
    "columns": _flat,
    "labeled": _labeled,
    "list": _listed,
    "scored": _scored,
}


def _grade(row: _Row, name: str, value: object) -> int:
    number = number_of(int(value) if isinstance(value, bool) else value, name, row.path, row.number)
    if number != int(number) or abs(number) > GRADE_LIMIT:
        limits = f"from {-GRADE_LIMIT} to {GRADE_LIMIT}"
        raise row.error(f"a label is a whole number {limits}; put scores into a column named 'score'", name)
    return int(number)


def _names(width: int) -> list[str]:
    return [f"negative_{number}" for number in range(1, width + 1)]


def _usual_negatives(source: Source) -> int:
    """The most common number of negatives per example, the larger one on a tie."""
    sizes = Counter(len(example.distinct_negatives) for example in source.examples())
    sizes.pop(0, None)
    if not sizes:
        raise ConfigError("there are no negatives: give --triples, or choose --layout pair")
    return max(sizes, key=lambda size: (sizes[size], size))


def _rows(source: Source, layout: Layout, width: int, written: Written) -> Iterator[Row]:
    if layout == "scored-pair" and source.run is not None:
        yield from _run_rows(source)
    elif layout == "labeled-list":
        yield from map(_list_row, grouped(source.together()))
    elif layout in ("labeled-pair", "scored-pair"):
        for group in grouped(source.together()):
            yield from _pair_rows(group, layout, written)
    else:
        for example in source.examples():
            yield from _example_rows(example, layout, width, written)


def _run_rows(source: Source) -> Iterator[Row]:
    corpus, text = source.needed_corpus(), source.query_text()
    for query_id, ranking in source.rankings():
        for doc_id, score in ranking:
            yield {"query": text(query_id), "passage": corpus[doc_id].full_text, "score": score}


def _list_row(group: Group) -> Row:
    documents = [*group.positives, *(negative.document for negative in group.negatives)]
    labels = [*group.grades, *[0] * len(group.negatives)]
    return {"query": group.query.text, "docs": [document.full_text for document in documents], "labels": labels}


def _pair_rows(group: Group, layout: Layout, written: Written) -> Iterator[Row]:
    positives = zip(group.positives, group.grades, group.positive_scores, strict=True)
    negatives = ((negative.document, negative.reranker_score) for negative in group.negatives)
    scored = [*positives, *((document, 0, score) for document, score in negatives)]
    for document, label, score in scored:
        row = {"query": group.query.text, "passage": document.full_text}
        if layout == "labeled-pair":
            yield {**row, "label": label}
        elif score is not None:
            yield {**row, "score": score}
        else:
            written.dropped["reranker_score_unknown"] += 1


def _example_rows(example: Example, layout: Layout, width: int, written: Written) -> Iterator[Row]:
    row = {"anchor": example.query.text, "positive": example.positive.full_text}
    negatives = example.distinct_negatives
    if layout == "pair":
        yield row
    elif layout == "n-tuple":
        if len(negatives) < width:
            written.dropped["fewer_negatives"] += 1
            return
        if len(negatives) > width:
            written.not_kept["negatives beyond the columns"] += len(negatives) - width
        texts = (negative.document.full_text for negative in negatives)
        yield {**row, **dict(zip(_names(width), texts, strict=False))}
    else:
        written.dropped["no_negatives"] += not negatives
        for negative in negatives:
            yield from _triplet_row(
                {**row, "negative": negative.document.full_text}, example, negative, layout, written
            )


def _triplet_row(row: Row, example: Example, negative: Negative, layout: Layout, written: Written) -> Iterator[Row]:
    above, below = example.positive_reranker_score, negative.reranker_score
    if layout == "triplet":
        yield row
    elif above is None or below is None:
        written.dropped["margin_unknown"] += 1
    else:
        yield {**row, "score": above - below}
