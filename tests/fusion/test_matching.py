"""Weights under which synthetic queries resemble a target's."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inpars.fusion.gate import QueryFeatures
from inpars.fusion.matching import Traits, matched_weights, traits_of


def traits(overlap, words=1.0, question=0.0):
    return Traits(overlap=overlap, words=words, question=question)


def test_traits_are_the_overlap_with_what_was_found_the_length_and_the_form():
    found = QueryFeatures(lexical_coverage=1.0, dense_coverage=0.5, similarity=0.3)
    queries = {"a": "How tall is it", "b": "tall tower", "c": "the tower?", "d": "whatever goes", "e": "not searched"}
    made = traits_of(queries, dict.fromkeys("abcd", found))
    assert made["a"] == Traits(overlap=0.75, words=math.log(4), question=1.0)
    assert [made[name].question for name in "bcd"] == [0.0, 1.0, 0.0]
    assert "e" not in made


def test_words_are_counted_in_scripts_without_spaces():
    found = QueryFeatures(lexical_coverage=1.0, dense_coverage=0.5, similarity=0.3)
    made = traits_of(
        {"short": "\u8702\u871c", "long": "\u8702\u871c\u4e3a\u4ec0\u4e48\u4f1a\u7ed3\u6676"},
        dict.fromkeys(("short", "long"), found),
    )
    assert made["short"].words < made["long"].words


def test_many_target_queries_are_met():
    own = [traits(overlap) for overlap in (0.0, 0.25, 0.5, 0.75, 1.0)] * 20
    weights, match = matched_weights(own, [traits(0.3)] * 100_000 + [traits(0.4)] * 100_000)
    assert sum(weights) == pytest.approx(1)
    assert match.before["overlap"] == pytest.approx(0.5)
    assert match.after["overlap"] == pytest.approx(match.target["overlap"], abs=1e-3)
    assert match.target["overlap"] == pytest.approx(0.35)
    assert weights[0] > weights[1] > weights[4]
    assert 1 < match.effective_queries < len(own)


def test_few_target_queries_are_trusted_less():
    own = [traits(overlap / 10) for overlap in range(11)]
    few, many = (matched_weights(own, [traits(0.1), traits(0.2)] * number)[1] for number in (1, 100))
    assert few.before["overlap"] > few.after["overlap"] > many.after["overlap"] > 0.15


def test_a_target_like_the_own_queries_changes_nothing():
    own = [traits(0.2, 1.0, 1.0), traits(0.4, 2.0, 0.0)]
    weights, match = matched_weights(own, own)
    assert weights == pytest.approx([0.5, 0.5])
    assert match.effective_queries == pytest.approx(2)


def test_weights_stay_near_to_those_before():
    own = [traits(0.5), traits(0.5), traits(0.5)]
    weights, _ = matched_weights(own, [traits(0.1)] * 9, [1.0, 1.0, 2.0])
    assert weights == pytest.approx([0.25, 0.25, 0.5])


def test_nothing_to_match_is_an_error():
    with pytest.raises(ValueError, match="nothing"):
        matched_weights([], [traits(0.1)])


SOME = st.builds(traits, st.floats(0, 1), st.floats(0, 5), st.sampled_from([0.0, 1.0]))


@given(st.lists(SOME, min_size=1, max_size=30), st.lists(SOME, min_size=1, max_size=30))
def test_weights_are_shares_and_the_distance_never_grows(own, target):
    weights, match = matched_weights(own, target)
    assert all(weight >= 0 for weight in weights)
    assert sum(weights) == pytest.approx(1)
    assert 1 - 1e-9 <= match.effective_queries <= len(own) + 1e-9
