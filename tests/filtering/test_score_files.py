"""Score files: columns by position, nulls, and errors."""

import math

import numpy as np
import pytest

from inpars.errors import DataFormatError, StaleInputError
from inpars.filtering.score_files import read_scores
from inpars.io.storage import write_jsonl

PLACES = {"q0": 0, "q1": 1, "q2": 2}


@pytest.fixture
def read(tmp_path):
    def call(rows, **settings):
        write_jsonl(tmp_path / "scores.jsonl", rows)
        result = read_scores(tmp_path / "scores.jsonl", PLACES, **settings)
        return {name: [None if math.isnan(value) else value for value in values] for name, values in result.items()}

    return call


def test_columns_by_place(read):
    rows = [{"query_id": "q2", "reranker": 1.5, "cluster": 3}, {"query_id": "q0", "reranker": -2}, {"query_id": "x"}]
    assert read(rows) == {"reranker": [-2.0, None, 1.5], "cluster": [None, None, 3.0]}


def test_null_is_unknown_but_a_rank_of_null_is_not_found(read):
    rows = [{"query_id": "q0", "reranker": None, "bm25_rank": None}, {"query_id": "q1", "bm25_rank": 4}]
    assert read(rows) == {"reranker": [None, None, None], "bm25_rank": [math.inf, 4.0, None]}


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([{"reranker": 1}], "no 'query_id' field"),
        ([{"query_id": "q0", "reranker": "high"}], "field 'reranker': must be a number or null"),
        ([{"query_id": "q0", "reranker": True}], "must be a number or null"),
        ([{"query_id": "q0", "reranker": 10**400}], "must be below"),
        ([{"query_id": "q0", "x": 1}, {"query_id": "q0", "x": 2}], "scores.jsonl:2: this query is scored twice"),
    ],
)
def test_what_is_refused(read, rows, problem):
    with pytest.raises(DataFormatError, match=problem):
        read(rows)


def test_scores_of_other_queries_and_twice_the_same(read):
    with pytest.raises(StaleInputError, match="none of these queries"):
        read([{"query_id": "other", "x": 1}])
    with pytest.raises(DataFormatError, match="'reranker' are there already"):
        read([{"query_id": "q0", "reranker": 1}], taken=("reranker",))


def test_numbers_are_float64(tmp_path):
    write_jsonl(tmp_path / "s.jsonl", [{"query_id": "q0", "x": 0.1}])
    assert read_scores(tmp_path / "s.jsonl", PLACES)["x"].dtype == np.float64
