"""Test queries that were seen before, and tests that a model wrote."""

from hypothesis import given
from hypothesis import strategies as st

from inpars.evaluation.contamination import is_synthetic, overlap

LONG = "what are the long term effects of a diet that is rich in fibre and low in sugar on blood pressure of adults"


def test_the_same_words_and_nearly_the_same_are_found():
    tested = {"q1": "How do bees dance?", "q2": LONG, "q3": "something else entirely"}
    known = ["how do BEES dance", LONG.replace("adults", "children"), "how do birds sing"]
    found = overlap("train.jsonl", known, tested)
    assert (found.same, found.similar) == (("q1",), ("q2",))
    assert (found.known, found.tested, found.source) == (3, 3, "train.jsonl")
    assert found.query_ids == ("q1", "q2")


def test_nothing_is_found_in_nothing():
    assert overlap("none", [], {"q1": "a"}).query_ids == ()
    assert overlap("train", ["a"], {}).query_ids == ()


@given(st.lists(st.text("abc ", min_size=1).filter(str.strip), min_size=1, unique=True))
def test_what_was_trained_on_is_always_found(texts):
    tested = {str(place): text for place, text in enumerate(texts)}
    assert set(overlap("itself", texts, tested).same) == set(tested)


def test_a_test_that_a_model_wrote_is_recognised():
    assert is_synthetic({"d1-q0": {"d1": 1}, "d1-q1": {"d1": 1}})
    assert is_synthetic({"genQ1": {"d1": 1}, "genQ22": {"d2": 1}})


def test_a_test_of_people_is_not():
    assert not is_synthetic({})
    assert not is_synthetic({"d1-q0": {"d1": 1}, "q7": {"d1": 1}})
    assert not is_synthetic({"d1-q0": {"d1": 1, "d2": 1}})  # judged further: more than its own document
    assert not is_synthetic({"d1": {"d1": 1}})  # documents as queries, as in ArguAna
    assert not is_synthetic({"d1-question": {"d1": 1}})
