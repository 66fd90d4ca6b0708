"""Selections: rules by hand, and agreement of threshold and sort."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inpars.errors import ConfigError
from inpars.filtering.selections import Selection, id_ranks, oriented, parse_selection, select, spread_top_k, top_k

SCORES = np.array([0.5, 3.0, 1.0, 3.0, -2.0])
IDS = id_ranks(["e", "d", "c", "b", "a"])


def chosen(text, scores=SCORES, ids=IDS):
    return np.flatnonzero(select(parse_selection(text), scores, ids)).tolist()


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("x:min=1", [1, 2, 3]),
        ("x:max=0.5", [0, 4]),
        ("x:top-k=2", [1, 3]),
        ("x:top-k=1", [3]),  # 1 and 3 are equal; b comes before d
        ("x:top-k=9", [0, 1, 2, 3, 4]),
        ("x:best=0.5", [1, 2, 3]),  # half of five, rounded up
        ("x:best=1", [0, 1, 2, 3, 4]),
        ("x_rank:top-k=1", [4]),  # of ranks the lowest is best
        ("x_rank:max=1", [0, 2, 4]),
        ("a:b:min=3", [1, 3]),  # only the last colon divides
    ],
)
def test_rules_by_hand(text, kept):
    assert chosen(text) == kept


def test_a_tenth_of_thirty_is_three():
    scores = np.arange(30.0)
    assert chosen("x:best=0.1", scores, np.arange(30)) == [27, 28, 29]


def test_a_rank_that_was_not_found_is_the_worst():
    ranks = np.array([2.0, math.inf, 100.0])
    assert chosen("bm25_rank:max=100", ranks, np.arange(3)) == [0, 2]
    assert chosen("bm25_rank:top-k=2", ranks, np.arange(3)) == [0, 2]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("x", "write NAME:RULE=VALUE"),
        ("x:min", "write NAME:RULE=VALUE"),
        (":min=3", "write NAME:RULE=VALUE"),
        ("x:least=3", "write NAME:RULE=VALUE"),
        ("x:min=much", "write NAME:RULE=VALUE"),
        ("x:min=nan", "write NAME:RULE=VALUE"),
        ("x:top-k=0", "whole number of at least 1"),
        ("x:top-k=1.5", "whole number of at least 1"),
        ("x:top-k=inf", "whole number of at least 1"),
        ("x:best=0", "above 0 and at most 1"),
        ("x:best=1.01", "above 0 and at most 1"),
    ],
)
def test_what_cannot_be_read(text, problem):
    with pytest.raises(ConfigError, match=problem):
        parse_selection(text)


def test_a_selection_is_written_as_it_was_read():
    assert str(parse_selection("bm25_rank:max=20")) == "bm25_rank:max=20"
    assert parse_selection("x:best=0.5") == Selection("x", "best", 0.5)


FEW = st.lists(st.sampled_from([-math.inf, -1.5, 0.0, 0.25, 2.0]), min_size=1, max_size=30)


@given(FEW, st.integers(1, 35), st.randoms(use_true_random=False))
def test_top_k_by_threshold_and_by_sort_agree_under_ties(values, k, shuffler):
    scores, names = np.array(values), [f"q{number}" for number in range(len(values))]
    shuffler.shuffle(names)
    kept = set(np.flatnonzero(top_k(scores, id_ranks(names), k)).tolist())
    by_sort = sorted(range(len(values)), key=lambda place: (-values[place], names[place]))[:k]
    assert kept == set(by_sort)
    threshold = min(values[place] for place in kept)
    above = {place for place, value in enumerate(values) if value > threshold}
    at_least = {place for place, value in enumerate(values) if value >= threshold}
    assert above <= kept <= at_least
    assert set(np.flatnonzero(select(Selection("x", "min", threshold), scores, id_ranks(names))).tolist()) == at_least


@given(FEW, st.integers(1, 35), st.lists(st.integers(0, 3), min_size=30, max_size=30))
def test_a_spread_takes_the_best_of_each_group_in_turn(values, k, numbers):
    groups = np.array(numbers[: len(values)], dtype=np.uint64)
    scores, ids = np.array(values), np.arange(len(values))
    kept = np.flatnonzero(spread_top_k(scores, ids, groups, k)).tolist()
    left = {group: sorted(np.flatnonzero(groups == group), key=lambda p: (-scores[p], p)) for group in set(groups)}
    expected = []
    while any(left.values()):
        heads = [members.pop(0) for members in left.values() if members]
        expected += sorted(heads, key=lambda place: (-scores[place], place))
    assert kept == sorted(expected[:k])


def test_a_spread_by_hand():
    # groups 1: 9, 8, 7; 2: 1; 3: 5, 4. First round 9, 5, 1; second 8, 4; third 7
    scores, groups = np.array([9.0, 8, 7, 1, 5, 4]), np.array([1, 1, 1, 2, 3, 3], dtype=np.uint64)
    assert np.flatnonzero(spread_top_k(scores, np.arange(6), groups, 4)).tolist() == [0, 1, 3, 4]
    assert not spread_top_k(np.array([]), np.arange(0), np.array([], dtype=np.uint64), 3).any()


def test_ranks_are_turned_and_other_scores_are_not():
    assert oriented("bm25_rank", SCORES).tolist() == (-SCORES).tolist()
    assert oriented("reranker", SCORES).tolist() == SCORES.tolist()
