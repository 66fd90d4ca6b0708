"""Reads score files: JSON lines with a query_id and named numbers.

A missing or null score becomes NaN. In columns whose name ends in `_rank`, null means that the search did not find the
source document, and becomes infinity.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from inpars.errors import DataFormatError, StaleInputError
from inpars.filtering.selections import RANK_SUFFIX, Scores
from inpars.io.fields import field_error, first_present
from inpars.io.storage import read_jsonl

ID_FIELD = "query_id"


def read_scores(path: Path, positions: Mapping[str, int], taken: Sequence[str] = ()) -> dict[str, Scores]:
    """The columns of a score file, ordered by `positions`, the position of each query_id.

    Rows of other queries are skipped. Raises StaleInputError if all are, DataFormatError for values that are not
    numbers, queries scored twice and columns already `taken`.
    """
    columns: dict[str, Scores] = {}
    seen = np.zeros(len(positions), dtype=bool)
    for number, row in read_jsonl(path):
        position = positions.get(str(first_present(row, (ID_FIELD,), path, number)))
        if position is None:
            continue
        if seen[position]:
            raise DataFormatError("this query is scored twice", path=path, line=number, excerpt=str(row[ID_FIELD]))
        seen[position] = True
        for name, value in row.items():
            if name != ID_FIELD:
                if name not in columns:
                    columns[name] = np.full(len(positions), np.nan)
                columns[name][position] = _number(name, value, path, number)
    if not seen.any():
        raise StaleInputError(f"{path}: it scores none of these queries; give the scores of this file of queries")
    for name in columns.keys() & set(taken):
        raise DataFormatError(
            f"the scores {name!r} are there already; give each score in one file only", path=path, field=name
        )
    return columns


def _number(name: str, value: object, path: Path, number: int) -> float:
    if value is None:
        return math.inf if name.endswith(RANK_SUFFIX) else math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise field_error("must be a number or null", name, value, path, number)
    try:
        return float(value)
    except OverflowError:
        raise field_error("must be below 1e308", name, value, path, number) from None
