"""Score files: JSON lines of a query_id and numbers by name, computed once and chosen by as often as one likes.

What is missing or null is not known, NaN here. Of columns whose name ends in `_rank` null means that the source
document was looked for and not found, which is worse than any rank: infinity here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from inpars.errors import DataFormatError, StaleInputError
from inpars.filtering.selections import RANK_SUFFIX, Scores
from inpars.io.storage import read_jsonl

ID_FIELD = "query_id"


def read_scores(path: Path, positions: Mapping[str, int], taken: Sequence[str] = ()) -> dict[str, Scores]:
    """Every column of a score file, one value for each place; `positions` says where a query_id stands.

    Rows of other queries are passed over. Raises StaleInputError where all are, DataFormatError for a value that is no
    number, a query scored twice and a column that is `taken`.
    """
    columns: dict[str, Scores] = {}
    seen = np.zeros(len(positions), dtype=bool)
    for number, row in read_jsonl(path):
        position = positions.get(_query_id(row, path, number))
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


def _query_id(row: Mapping[str, Any], path: Path, number: int) -> str:
    if row.get(ID_FIELD) is None:
        raise DataFormatError(f"no {ID_FIELD!r} field", path=path, line=number, excerpt=", ".join(row))
    return str(row[ID_FIELD])


def _number(name: str, value: object, path: Path, number: int) -> float:
    if value is None:
        return math.inf if name.endswith(RANK_SUFFIX) else math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DataFormatError("must be a number or null", path=path, line=number, field=name, excerpt=repr(value))
    return float(value)
