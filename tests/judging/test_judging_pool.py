"""Which pairs are judged, and which of these a person sees."""

from collections import Counter

import pytest

from inpars.errors import ConfigError
from inpars.judging.sample import chosen_pairs, drawn, pooled, weights

A = {"q2": {"d1": 3.0, "d2": 2.0, "d3": 1.0}, "q1": {"d9": 1.0}}
B = {"q2": {"d4": 9.0, "d1": 8.0, "d5": 7.0}, "q3": {}}
GRADES = {("q", f"d{number:03}"): 3 if number < 2 else 1 if number < 12 else 0 for number in range(100)}


def test_a_pool_is_the_first_documents_of_all_runs():
    assert pooled([A, B], 2) == {"q1": ["d9"], "q2": ["d1", "d2", "d4"]}
    assert pooled([B, A], 2) == pooled([A, B], 2)


def test_a_sample_of_pairs_is_the_same_each_time_and_keeps_the_order():
    pool = pooled([A, B], 3)
    everything = chosen_pairs(pool, None, None, 0)
    some = chosen_pairs(pool, None, 3, 0)
    assert some == [pair for pair in everything if pair in set(some)] == chosen_pairs(pool, None, 3, 0)
    assert len(some) == 3
    assert chosen_pairs(pool, 1, None, 0) == [("q1", "d9")]
    assert set(some) <= set(chosen_pairs(pool, None, 4, 0)), "a larger sample holds the smaller one"


def test_runs_without_documents_are_an_error():
    with pytest.raises(ConfigError, match="no documents"):
        chosen_pairs(pooled([{"q": {}}], 5), None, None, 0)


def test_a_person_sees_all_grades_alike_as_far_as_there_are():
    # of 2, 10 and 88 pairs: both of the first, then 5 and 5 by turns
    assert Counter(GRADES[pair] for pair in drawn(GRADES, 12, 0)) == {3: 2, 1: 5, 0: 5}
    assert drawn(GRADES, 12, 0) == drawn(dict(reversed(GRADES.items())), 12, 0)
    assert drawn(GRADES, 12, 0) != drawn(GRADES, 12, 1)
    assert set(drawn(GRADES, 6, 0)) <= set(drawn(GRADES, 12, 0))
    assert sorted(drawn(GRADES, 1000, 0)) == sorted(GRADES)


def test_the_order_does_not_show_the_grades():
    grades = [GRADES[pair] for pair in drawn(GRADES, 60, 0)]
    assert grades not in (sorted(grades), sorted(grades, reverse=True))


def test_weights_are_what_a_pair_stands_for():
    answered = [("q", "d000"), ("q", "d002"), ("q", "d003"), ("q", "d050")]
    # 2 of grade 3 by one, 10 of grade 1 by two, 88 of grade 0 by one
    assert weights(GRADES, answered) == [2, 5, 5, 88]
