"""Kappas and tau, worked out by hand."""

import pytest

from inpars.judging.agreement import agreement_lines, cautions, compare_with, order_lines, order_systems

MODEL = {("q", f"d{place}"): grade for place, grade in enumerate([3, 3, 1, 0, 0, 2])}
PEOPLE = {"q": {f"d{place}": grade for place, grade in enumerate([3, 2, 1, 0, 1, 2])}, "other": {"d0": 0}}


def test_kappas_by_hand():
    found = compare_with(MODEL, PEOPLE, "people")
    assert (found.pairs, found.same, found.relevant_from) == (6, pytest.approx(4 / 6), 2)
    assert found.table == [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 1]]
    # people have 1 2 2 1 of grades 0 to 3, the model 2 1 1 2: by chance (2 + 2 + 2 + 2) / 36 agree
    assert found.kappa == pytest.approx((4 / 6 - 8 / 36) / (1 - 8 / 36))
    # squared distances: 1 + 1 seen; by chance the mean over all 36 combinations of two grades
    theirs, ours = [3, 2, 1, 0, 1, 2], [3, 3, 1, 0, 0, 2]
    chance = sum((a - b) ** 2 for a in theirs for b in ours) / 36
    assert found.weighted_kappa == pytest.approx(1 - (2 / 6) / chance)
    assert found.relevant_kappa == pytest.approx(1.0)
    assert not found.is_poor


def test_pairs_that_only_one_judged_do_not_count():
    assert compare_with(MODEL, {"q": {"d0": 0, "d99": 3}}, "people").pairs == 1
    assert compare_with(MODEL, {"elsewhere": {"d0": 1}}, "people") is None


def test_a_list_of_relevant_documents_says_of_the_others_that_they_are_not():
    found = compare_with(MODEL, {"q": {"d0": 1, "d5": 2}}, "list")
    assert (found.pairs, found.unjudged_as_0, found.relevant_from) == (6, 4, 1)
    assert sum(map(sum, found.table)) == 6
    # relevant for both d0 and d5, for the model d1 too: 5 of 6 agree, by chance (2 * 3 + 4 * 3) / 36
    assert found.relevant_kappa == pytest.approx((5 / 6 - 18 / 36) / (1 - 18 / 36))
    assert sum("note: " in line for line in agreement_lines(found, "m")) == 3  # of the list, of its scale, of few pairs


def test_a_judge_of_one_grade_is_chance_and_two_of_the_same_are_undefined():
    found = compare_with(dict.fromkeys(MODEL, 1), PEOPLE, "people")
    assert (found.kappa, found.weighted_kappa, found.relevant_kappa) == (0, 0, 0)
    assert found.is_poor
    found = compare_with({("q", "d2"): 1}, PEOPLE, "people")
    assert (found.kappa, found.weighted_kappa, found.is_poor) == (None, None, True)
    assert "undefined" in "\n".join(agreement_lines(found, "m"))


def test_weights_make_a_sample_stand_for_the_pool():
    # two pairs that agree on 0 and one that does not, which stands for ten: as if it were there ten times
    model = {("q", f"d{place}"): grade for place, grade in enumerate([0, 0, 3])}
    people = {"q": {"d0": 0, "d1": 1, "d2": 0}}
    found = compare_with(model, people, "you", dict(zip(model, [1, 1, 10], strict=True)), 3)
    many = {("q", f"d{place}"): grade for place, grade in enumerate([0, 0, *[3] * 10])}
    everyone = {"q": {"d0": 0, "d1": 1, **{f"d{place}": 0 for place in range(2, 12)}}}
    assert found.weighted_kappa == pytest.approx(compare_with(many, everyone, "you", top=3).weighted_kappa)
    assert (found.of_sample, found.relevant_from) == (True, 2)


RUNS = {
    "good": {"q": {"d0": 3.0, "d1": 2.0, "d3": 1.0}},
    "fair": {"q": {"d1": 3.0, "d3": 2.0, "d0": 1.0}},
    "bad": {"q": {"d3": 3.0, "d1": 2.0, "d0": 1.0}},
}


def test_tau_over_systems():
    reference = {"q": {"d0": 3, "d1": 1, "d3": 0}}
    found = order_systems(RUNS, reference, {"q": {"d0": 2, "d1": 1}}, "nDCG@10")
    assert found.tau == pytest.approx(1.0)
    assert found.values["good"] == (pytest.approx(1.0), pytest.approx(1.0))
    assert order_systems(RUNS, reference, {"q": {"d3": 3}}, "nDCG@10").tau == pytest.approx(-1.0)
    alike = order_systems(RUNS, reference, {"q": {"d0": 1, "d1": 1, "d3": 1}}, "nDCG@10")
    assert alike.tau is None, "who finds all systems alike has no order"
    assert "undefined" in order_lines(alike, "people", "m")[-1]
    assert order_systems(RUNS, {"p": {"d0": 1}}, {"q": {"d0": 1}}, "nDCG@10").values == {}


def test_warnings_follow_what_is_known():
    good, bad = compare_with(MODEL, PEOPLE, "people"), compare_with(dict.fromkeys(MODEL, 1), PEOPLE, "people")
    assert cautions([good], 135_000_000) == []
    assert "0.000 with people" in cautions([good, bad], None)[0]
    assert "135M" in cautions([], 135_000_000)[0]
    assert "--sample" in cautions([], None)[0]
    assert "--sample" in cautions([], 8_000_000_000)[0]
