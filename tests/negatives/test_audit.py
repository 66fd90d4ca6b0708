"""Audit actions on the triples of one query, by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inpars.negatives.audit import AuditedTriple, apply_action, tally
from inpars.records import Triple


def triple(positive, negative, scores, **origin):
    ids = Triple("q", positive, negative)
    return AuditedTriple(
        "query", f"text {positive}", f"text {negative}", scores[positive], scores[negative], ids, origin or None
    )


SCORES = {"p": 5.0, "a": 7.0, "b": 4.5, "c": 1.0, "d": 5.0}
TRIPLES = [triple("p", name, SCORES) for name in "abcd"]


def ids(triples):
    return [(one.ids.positive_doc_id, one.ids.negative_doc_id) for one in triples]


@pytest.mark.parametrize(
    ("margin", "false"),
    [
        (0.0, "a"),  # above 5; d scores the same and is not above
        (0.5, "ad"),  # above 4.5; b is not above it
        (0.6, "abd"),
        (4.0, "abd"),
        (4.1, "abcd"),
    ],
)
def test_what_is_false_and_dropped(margin, false):
    assert "".join(one.ids.negative_doc_id for one in TRIPLES if one.is_false(margin)) == false
    assert ids(apply_action(TRIPLES, "drop", margin)) == [("p", name) for name in "abcd" if name not in false]


def test_keep_keeps():
    assert apply_action(TRIPLES, "keep", 9.0) == TRIPLES


def test_a_false_negative_becomes_a_positive_against_the_others():
    result = apply_action(TRIPLES, "relabel")
    assert ids(result) == [("p", "b"), ("p", "c"), ("p", "d"), ("a", "b"), ("a", "c"), ("a", "d")]
    assert (result[3].positive, result[3].positive_score) == ("text a", 7.0)
    # margin 0.6: a, b and d are false, c alone is true; each of them is a positive against c
    assert ids(apply_action(TRIPLES, "relabel", 0.6)) == [("p", "c"), ("a", "c"), ("b", "c"), ("d", "c")]


def test_without_a_true_negative_nothing_is_left():
    assert apply_action(TRIPLES[:1], "relabel") == []


def test_a_document_is_never_on_both_sides():
    # with two positives a is false for p (7 > 5) and true for r (7 < 9): it is no negative any more
    scores = SCORES | {"r": 9.0}
    triples = [triple("p", "a", scores), triple("p", "c", scores), triple("r", "a", scores), triple("r", "c", scores)]
    assert ids(apply_action(triples, "relabel")) == [("p", "c"), ("r", "c"), ("a", "c")]
    # r stands as a negative of p and is a positive already
    triples = [triple("p", "r", scores), triple("p", "c", scores), triple("r", "c", scores)]
    assert ids(apply_action(triples, "relabel")) == [("p", "c"), ("r", "c")]


def test_origins_follow_and_scores_of_two_retrievers_are_not_mixed():
    triples = [
        triple("p", "a", SCORES, source="bm25", rank=1, score=20.0, positive_score=22.0),
        triple("p", "b", SCORES, source="bm25", rank=2, score=18.0, positive_score=22.0),
        triple("p", "c", SCORES, source="dense", rank=1, score=0.5, positive_score=0.6),
    ]
    records = [one.record() for one in apply_action(triples, "relabel")[2:]]
    assert records[0] == {
        "query_id": "q",
        "positive_doc_id": "a",
        "negative_doc_id": "b",
        "source": "bm25",
        "rank": 2,
        "score": 18.0,
        "positive_score": 20.0,
        "relabelled": True,
        "reranker_score": 4.5,
        "positive_reranker_score": 7.0,
    }
    assert (records[1]["source"], records[1]["score"], records[1]["positive_score"]) == ("dense", 0.5, None)


def test_tally():
    counts = {}
    tally([triple("p", "a", SCORES, source="bm25"), triple("p", "b", SCORES, source="bm25")], 1.0, counts)
    tally([triple("p", "d", SCORES)], 1.0, counts)
    assert counts == {
        "bm25": {"triples": 2, "above_positive": 1, "above_margin": 2},
        "unknown": {"triples": 1, "above_positive": 0, "above_margin": 1},
    }


@given(
    st.dictionaries(st.sampled_from("abcdef"), st.integers(-5, 5), min_size=1),
    st.lists(st.integers(-5, 5), min_size=1, max_size=3),
    st.integers(0, 3),
)
def test_what_always_holds(negatives, positives, margin):
    scores = {**negatives, **{f"p{n}": score for n, score in enumerate(positives)}}
    triples = [triple(f"p{n}", name, scores) for n in range(len(positives)) for name in negatives]
    dropped = apply_action(triples, "drop", margin)
    assert [one for one in triples if one in dropped] == dropped
    relabelled = apply_action(triples, "relabel", margin)
    assert not any(one.is_false(margin) for one in [*dropped, *relabelled])
    assert not {one.positive for one in relabelled} & {one.negative for one in relabelled}
    assert len(set(ids(relabelled))) == len(relabelled)
