"""Runs: order, cutting and fusing."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inpars.io.runs import completed, cut, fuse_reciprocal_ranks, fuse_z_scores, rank, without_own_document, z_scores

SCORES = st.dictionaries(st.text("abc123", min_size=1, max_size=4), st.floats(-1e6, 1e6, width=32), max_size=8)
RUNS = st.dictionaries(st.sampled_from(["q1", "q2", "q3"]), SCORES, max_size=3)


@pytest.mark.parametrize(
    ("scores", "depth", "expected"),
    [
        ({}, None, []),
        ({"a": 1.0, "b": 2.0}, None, ["b", "a"]),
        ({"a": 1.0, "c": 1.0, "b": 1.0}, None, ["c", "b", "a"]),  # ties: document id descending, as trec_eval
        ({"d9": 1.0, "d10": 1.0}, None, ["d9", "d10"]),  # ids compare as text
        ({"a": 1.0, "b": 2.0, "c": 3.0}, 2, ["c", "b"]),
        ({"a": 1.0}, 5, ["a"]),
        ({"a": 1.0}, 0, []),
        ({"a": -1.0, "b": -2.0}, None, ["a", "b"]),
    ],
)
def test_rank(scores, depth, expected):
    assert [doc_id for doc_id, _ in rank(scores, depth)] == expected


@given(SCORES, st.randoms())
def test_rank_does_not_depend_on_the_order_of_the_mapping(scores, random):
    items = list(scores.items())
    random.shuffle(items)
    ranked = rank(dict(items))
    assert ranked == rank(scores)
    assert [score for _, score in ranked] == sorted(scores.values(), reverse=True)


@given(RUNS, st.integers(0, 9))
def test_cut_keeps_the_best(run, depth):
    for query_id, kept in cut(run, depth).items():
        assert list(kept.items()) == rank(run[query_id])[:depth]
    assert cut(run, depth).keys() == run.keys()


def test_own_documents_are_dropped():
    # q2's own document q2 is kept, since only q1 is named; d1 is not a query
    run = {"q1": {"q1": 3.0, "d1": 2.0, "q2": 1.0}, "q2": {"q2": 1.0}}
    assert without_own_document(run, {"q1"}) == {"q1": {"d1": 2.0, "q2": 1.0}, "q2": {"q2": 1.0}}
    assert without_own_document(run, ()) == run


def test_fused_z_scores():
    # first run: mean 2, deviation 1: a = 1, b = -1. second: mean 20, deviation 10: b = 1, c = -1
    # missing documents get the run's lowest: a = 1 - 1 = 0, b = -1 + 1 = 0, c = -1 - 1 = -2; ties by id descending
    fused = fuse_z_scores([{"q": {"a": 3.0, "b": 1.0}}, {"q": {"b": 30.0, "c": 10.0}}], depth=10)
    assert list(fused["q"].items()) == [("b", 0.0), ("a", 0.0), ("c", -2.0)]


def test_fused_z_scores_are_weighted_and_cut():
    # weights 2 and 1: a = 2 * 1 - 1 = 1, b = 2 * -1 + 1 = -1, c = 2 * -1 - 1 = -3
    runs = [{"q": {"a": 3.0, "b": 1.0}}, {"q": {"b": 30.0, "c": 10.0}}]
    assert fuse_z_scores(runs, depth=2, weights=[2.0, 1.0]) == {"q": {"a": 1.0, "b": -1.0}}


def test_bm25_s_short_lists_have_zeros_for_what_others_found():
    lexical, dense = {"q": {"rare": 7.0}, "full": {"a": 2.0, "b": 1.0}}, {"q": {"a": 0.9, "rare": 0.1, "z": 0.0}}
    words, other = completed([lexical, dense], [True, False], depth=2)
    assert words == {"q": {"a": 0.0, "rare": 7.0}, "full": {"a": 2.0, "b": 1.0}}
    assert other == {"q": {"a": 0.9, "rare": 0.1}}
    assert completed([lexical, lexical], [True, True], depth=2) == [lexical, lexical]


def test_a_run_without_the_query_adds_nothing():
    assert fuse_z_scores([{"q": {"a": 3.0, "b": 1.0}}, {}], depth=10) == {"q": {"a": 1.0, "b": -1.0}}


@pytest.mark.parametrize("score", [0.1, 0.2, 1.1, 0.0, -5.0])
def test_equal_scores_have_z_score_zero(score):
    # the mean of three 0.1 is not 0.1 in floating point, and noise divided by noise is 1
    assert fuse_z_scores([{"q": {"a": score, "b": score, "c": score}}], depth=3) == {
        "q": {"c": 0.0, "b": 0.0, "a": 0.0}
    }


def test_as_many_weights_as_runs():
    with pytest.raises(ValueError, match="zip"):
        fuse_z_scores([{"q": {"a": 1.0}}], depth=1, weights=[1.0, 2.0])


def test_fused_reciprocal_ranks():
    # b is second and first: 1/62 + 1/61; a first: 1/61; c second: 1/62
    fused = fuse_reciprocal_ranks([{"q": {"a": 3.0, "b": 1.0}}, {"q": {"b": 30.0, "c": 10.0}}], depth=2)
    assert fused == {"q": {"b": 1 / 62 + 1 / 61, "a": 1 / 61}}


@given(RUNS, RUNS)
def test_fusing_loses_no_query_and_no_document(first, second):
    for fuse in (fuse_z_scores, fuse_reciprocal_ranks):
        fused = fuse([first, second], depth=100)
        assert fused.keys() == first.keys() | second.keys()
        for query_id, scores in fused.items():
            assert scores.keys() == first.get(query_id, {}).keys() | second.get(query_id, {}).keys()
            assert all(math.isfinite(score) for score in scores.values())


@pytest.mark.parametrize("factor", [1e-200, 1.0, 1e200, 1e307])
def test_scores_of_any_size_have_z_scores(factor):
    assert z_scores({"a": 3 * factor, "b": 2 * factor, "c": factor}) == pytest.approx(
        {"a": 1.5**0.5, "b": 0, "c": -(1.5**0.5)}
    )
    assert z_scores({"a": factor, "b": -factor}) == pytest.approx({"a": 1, "b": -1})
