"""FlagEmbedding's JSON lines: `query`, `pos`, `neg`, and optionally a teacher's `pos_scores` and `neg_scores`.

Texts have no ids. Its loader requires the same fields on every line, so scores are written for all lines or none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from inpars.contrib.interchange.fields import scores_of, text_of, texts_of, unread
from inpars.contrib.interchange.items import Group, Item, Negative, document_of, examples_of, grouped, query_of
from inpars.contrib.interchange.source import Layout, Source, Written
from inpars.errors import DataFormatError
from inpars.io.storage import read_jsonl, write_jsonl

FIELDS = ("query", "pos", "neg", "pos_scores", "neg_scores")


def read(path: Path) -> Iterator[Item]:
    """One example per positive, with all negatives of its line."""
    for line, record in read_jsonl(path):
        query = query_of(text_of(record.get("query"), "query", path, line))
        positives = texts_of(record, "pos", path, line)
        negatives = texts_of(record, "neg", path, line)
        if not positives:
            raise DataFormatError("at least one text is needed", path=path, line=line, field="pos")
        pos_scores = scores_of(record, "pos_scores", len(positives), path, line)
        neg_scores = scores_of(record, "neg_scores", len(negatives), path, line)
        hard_negatives = tuple(
            Negative(document_of(text), rank=rank, reranker_score=score)
            for rank, (text, score) in enumerate(zip(negatives, neg_scores, strict=True), start=1)
        )
        yield from examples_of(query, tuple(map(document_of, positives)), hard_negatives, tuple(pos_scores))
        yield from unread(record, FIELDS)


def write(source: Source, path: Path, layout: Layout, written: Written) -> None:
    """One line per query."""
    scored, without = _scored(source)
    if scored and without:
        written.not_kept["scores of queries, since others lack some"] = scored
    records = (_record(group, scored=bool(scored and not without)) for group in grouped(source.together()))
    written.counts[path.name] = write_jsonl(path, records)


def _scored(source: Source) -> tuple[int, int]:
    """The number of queries whose documents all have reranker scores, and of the others."""
    if not source.triples:
        return 0, 0
    counts = Counter(map(_is_scored, grouped(source.together())))
    return counts[True], counts[False]


def _is_scored(group: Group) -> bool:
    scores = [*group.positive_scores, *(negative.reranker_score for negative in group.negatives)]
    return None not in scores


def _record(group: Group, *, scored: bool) -> dict[str, Any]:
    record: dict[str, Any] = {
        "query": group.query.text,
        "pos": [document.full_text for document in group.positives],
        "neg": [negative.document.full_text for negative in group.negatives],
    }
    if scored:
        record["pos_scores"] = list(group.positive_scores)
        record["neg_scores"] = [negative.reranker_score for negative in group.negatives]
    return record
