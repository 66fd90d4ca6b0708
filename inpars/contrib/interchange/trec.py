"""TREC's plain files: topics (id, tab, text), judgements (four columns) and runs (six).

A file's kind is detected from its first line. An export is a folder of `topics.tsv`, `qrels.txt` and `run.txt`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice, pairwise
from pathlib import Path

from inpars.contrib.interchange.fields import unread_files
from inpars.contrib.interchange.groups import SeenKeys
from inpars.contrib.interchange.items import Item, JudgedQuery, Unkept
from inpars.contrib.interchange.source import Layout, Source, Written
from inpars.errors import ConfigError, DataFormatError
from inpars.io.fields import one_line
from inpars.io.formats import iterate_run, read_queries, run_lines
from inpars.io.judgements import iterate_qrels, trec_row
from inpars.io.storage import read_lines, write_lines
from inpars.io.topics import DEFAULT_SPLIT
from inpars.records import ScoredDocument

RUN_COLUMNS, QREL_COLUMNS = 6, 4
SUFFIXES = (".txt", ".tsv", ".trec", ".run", ".qrels", ".qrel")
TAG = "inpars"


def read(path: Path) -> Iterator[Item]:
    """Read one file or a folder. Raises DataFormatError if two runs of a folder rank the same query."""
    ranked, files = SeenKeys(), _files(path) if path.is_dir() else [path]
    if path.is_dir():
        yield from unread_files(path, files)
    for file in files:
        ranked_in_file = SeenKeys()
        for item in _read_file(file):
            if isinstance(item, ScoredDocument) and ranked_in_file.add(item.query_id) and not ranked.add(item.query_id):
                problem = f"another run of this folder ranks query {item.query_id!r} too; import one run at a time"
                raise DataFormatError(problem, path=file)
            yield item


def write(source: Source, folder: Path, layout: Layout, written: Written) -> None:
    """Topics and judgements, and the run if the source has one."""
    if source.run is None and source.dataset is None and source.is_collection:
        raise ConfigError("nothing to write: give --dataset, --input, --triples or --run")
    if source.has_queries:
        topics = (f"{query.query_id}\t{one_line(query.text)}" for query in source.queries())
        written.counts["topics.tsv"] = write_lines(folder / "topics.tsv", topics)
        judged = (trec_row(row.qrel) for row in source.judged())
        written.counts["qrels.txt"] = write_lines(folder / "qrels.txt", judged)
    if source.run is not None:
        lines = (line for name, ranking in source.rankings() for line in run_lines({name: dict(ranking)}, TAG))
        written.counts["run.txt"] = write_lines(folder / "run.txt", lines)


def _read_file(path: Path) -> Iterator[Item]:
    first = next(islice(read_lines(path), 1), None)
    if first is None:
        return
    columns = len(first[1].split())
    if first[1].count("\t") == 1:
        yield from read_queries(path)
    elif columns == RUN_COLUMNS:
        yield from (scored for _, scored in iterate_run(path))
    elif columns == QREL_COLUMNS:
        yield from (JudgedQuery(qrel, DEFAULT_SPLIT) for qrel in iterate_qrels(path))
    else:
        problem = "neither a topic (id, tab, text), nor a judgement (4 columns), nor a line of a run (6 columns)"
        raise DataFormatError(problem, path=path, line=first[0], excerpt=first[1])


def _files(folder: Path) -> list[Path]:
    paths = sorted(path for path in folder.iterdir() if path.name.removesuffix(".gz").endswith(SUFFIXES))
    if not paths:
        raise DataFormatError(f"no files that end in one of {', '.join(SUFFIXES)} here", path=folder)
    return paths


def scored_documents(query_id: str, doc_ids: list[str], scores: list[float]) -> Iterator[Item]:
    """One ranking as scored documents in the given order.

    Tied scores are lowered to the next smaller float. If any score rises, all are replaced by 1 / rank.
    """
    if any(above < below for above, below in pairwise(scores)):
        scores = [1.0 / position for position in range(1, len(scores) + 1)]
        yield Unkept("scores of queries, since their order is another than the listed one")
    limit = math.inf
    for doc_id, score in zip(doc_ids, scores, strict=True):
        lowered = score if score < limit else math.nextafter(limit, -math.inf)
        yield ScoredDocument(query_id, doc_id, lowered)
        limit = lowered
