"""The choice of a system's parts, on rankings whose nDCG can be computed by hand."""

import math

import numpy as np
import pytest

from inpars.fusion.gate import Gate, QueryFeatures
from inpars.fusion.stage_choice import Headroom, choose_reranking, choose_stages, headroom, paired, shrunk

FLAT = Gate(intercept=0.0, lexical_coverage=0.0, dense_coverage=0.0, similarity=0.0)
FOUND = QueryFeatures(lexical_coverage=0.5, dense_coverage=0.25, similarity=0.8)
FIRST, THIRD = {"x": 3.0, "y": 2.0, "z": 1.0}, {"z": 3.0, "y": 2.0, "x": 1.0}
NEAR = {"y": 3.0, "x": 2.9, "z": 1.0}  # x is first where anything speaks for it
QUERIES = [f"q{number}" for number in range(20)]
QRELS = {name: {"x": 1} for name in QUERIES}


def each(scores, *firsts):
    """The same ranking for every query except the first ones."""
    return dict.fromkeys(QUERIES, scores) | dict(zip(QUERIES, firsts, strict=False))


def chosen(lexical, **dense):
    return choose_stages(FLAT, dict.fromkeys(QUERIES, FOUND), lexical, dense, QRELS, 3)


def test_windows_that_see_what_the_whole_document_hides_stay():
    _, names, (trial,) = chosen(each(NEAR), whole=each(NEAR), base=each(FIRST))
    assert names == ("whole", "base")
    assert trial.taken
    assert trial.difference > trial.standard_error >= 0


def test_windows_that_change_nothing_or_harm_are_left_out():
    for windows in (each(FIRST), each(THIRD)):
        choice, names, (trial,) = chosen(each(THIRD), whole=each(FIRST), base=windows)
        assert names == ("whole",)
        assert not trial.taken
        assert choice.chosen == pytest.approx(1.0)


def test_windows_that_may_be_better_or_worse_stay():
    # one query is better with them and one as much worse
    far = {"x": 2.9, "y": 3.0, "z": 1.0}, {"x": 3.0, "y": 2.9, "z": 1.0}
    sure = {"x": 9.0, "y": 1.0, "z": 1.0}, {"y": 9.0, "x": 1.0, "z": 1.0}
    nothing = dict.fromkeys("xyz", 1.0)
    _, names, (trial,) = chosen(each(nothing), whole=each(FIRST, *far), base=each(FIRST, *sure))
    assert names == ("whole", "base")
    assert trial.difference == pytest.approx(0)
    assert trial.standard_error > 0


@pytest.mark.parametrize(("tuned", "taken"), [(FIRST, True), (THIRD, False)])
def test_a_tuned_bi_encoder_has_to_pay(tuned, taken):
    _, names, trials = chosen(each(NEAR), whole=each(NEAR), base=each(NEAR), tuned=each(tuned))
    assert ("tuned" in names) == taken == trials[-1].taken
    assert trials[-1].name == "tuned bi-encoder"  # the windows are out already


def test_further_views_are_tried_one_after_the_other_and_have_to_pay():
    views = {"view-1": each(THIRD), "view-2": each(FIRST), "view-3": each(FIRST)}
    _, names, trials = chosen(each(NEAR), whole=each(NEAR), **views)
    assert names == ("whole", "view-2")  # the third adds nothing to the second
    assert [(trial.name, trial.taken) for trial in trials] == [("view-1", False), ("view-2", True), ("view-3", False)]


def test_without_queries_the_default_stands():
    _, names, trials = choose_stages(FLAT, {}, {}, {"whole": {}, "base": {}, "tuned": {}, "view-1": {}}, {}, 100)
    assert (names, trials) == (("whole", "base"), [])


def test_a_reranker_gets_what_judged_queries_say():
    better = choose_reranking(each(THIRD), each(FIRST), QRELS, weight=0.5, depth=3)
    assert better[:2] == (0.75, 3)
    assert [trial.name for trial in better[2] if trial.taken] == ["weight 0.75, depth 3"]
    worse = choose_reranking(each(FIRST), each(THIRD), QRELS, weight=0.5, depth=3)
    assert worse[0] < 0.5


def test_a_sure_gain_is_preferred_to_an_uncertain_one():
    assert shrunk(0.03, 0.06) == pytest.approx(0.003)
    assert shrunk(0.01, 0.005) > shrunk(0.03, 0.06) > 0 > shrunk(-0.01, 0.005)


def test_a_reranker_that_is_as_good_at_any_weight_keeps_its_own():
    assert choose_reranking(each(FIRST), each(FIRST), QRELS, weight=0.5, depth=3)[:2] == (0.5, 3)
    assert choose_reranking({}, {}, {}, weight=0.5, depth=20) == (0.5, 20, [])


def test_the_weight_follows_the_gate_by_default():
    high, low = dict.fromkeys(QUERIES, 0.65), dict.fromkeys(QUERIES, 0.15)
    assert choose_reranking(each(THIRD), each(FIRST), QRELS, weight=0.5, depth=3, weights=high)[:2] == (None, 3)
    weight, _, trials = choose_reranking(each(THIRD), each(FIRST), QRELS, weight=0.5, depth=3, weights=low)
    assert weight > 0.5
    assert {trial.name for trial in trials} >= {"no reranker", "weight by the gate, depth 1", "weight 0.5, depth 3"}


def test_written_queries_choose_the_offset_by_whole_documents_alone():
    alone, *_ = chosen(each(THIRD), whole=each(FIRST))
    both, *_ = chosen(each(THIRD), whole=each(FIRST), base=each(THIRD, *[FIRST] * 12))
    assert both.gate.offset == alone.gate.offset > 0


def test_headroom_is_where_the_first_answer_stands():
    ranked = {f"d{rank}": -float(rank) for rank in range(200)}
    qrels = {"a": {"d0": 1, "d50": 1}, "b": {"d10": 1}, "c": {"d99": 1}, "d": {"d100": 1}, "e": {"d0": 0, "d9": 2}}
    assert headroom(dict.fromkeys(qrels, ranked), qrels) == Headroom(first_10=0.4, first_100=0.4, beyond=0.2)


def test_paired_differences_are_weighted():
    # differences 1 and 0, weights .75 and .25: mean .75, squared error .75^2 * .25^2 + .25^2 * .75^2
    mean, error = paired(np.array([1.0, 0.5]), np.array([0.0, 0.5]), np.array([0.75, 0.25]))
    assert (mean, error) == (0.75, pytest.approx(math.sqrt(2) * 0.75 * 0.25))
