"""Read and write `triples.ids.tsv` and `triples.negatives.jsonl`; `triples.tsv` has the same triples as texts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from inpars.errors import DataFormatError
from inpars.io.fields import MAX_EXACT, checked_id, field_error, number_of
from inpars.io.storage import read_jsonl, read_lines
from inpars.records import Triple

MARGINS = "margins.tsv"  # a teacher's margins next to triples, in GPL's format


def read_triple_ids(path: Path) -> Iterator[Triple]:
    """Triples of tab-separated ids: query, positive, negative. Raises DataFormatError."""
    for number, line in read_lines(path):
        fields = line.split("\t")
        if len(fields) != 3:
            problem = f"{len(fields)} columns, a triple has 3 ids: query, positive, negative"
            raise DataFormatError(problem, path=path, line=number)
        yield Triple(*(checked_id(field, path, number) for field in fields))


def triple_id_lines(triples: Iterable[Triple]) -> Iterator[str]:
    """The lines of an ids file."""
    for triple in triples:
        yield f"{triple.query_id}\t{triple.positive_doc_id}\t{triple.negative_doc_id}"


def read_negative_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of `NAME.negatives.jsonl`. Raises DataFormatError for invalid ids, scores and ranks."""
    for number, row in read_jsonl(path):
        for name in ("query_id", "positive_doc_id", "negative_doc_id"):
            if not isinstance(row.get(name), str):
                raise field_error("must be an id", name, row.get(name), path, number)
        for name in ("score", "positive_score", "reranker_score", "positive_reranker_score"):
            if row.get(name) is not None:
                number_of(row[name], name, path, number)
        grade = row.get("positive_grade")
        if grade is not None and (type(grade) is not int or grade < 1):
            raise field_error("must be a whole number above 0", "positive_grade", grade, path, number)
        ranks = row.get("also") or {}
        if not isinstance(ranks, dict) or not all(map(_is_rank, (row.get("rank"), *ranks.values()))):
            raise DataFormatError("ranks must be whole numbers", path=path, line=number, field="rank")
        yield row


def _is_rank(value: object) -> bool:
    return value is None or (type(value) is int and 0 <= value < MAX_EXACT)
