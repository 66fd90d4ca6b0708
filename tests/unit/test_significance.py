"""Paired tests: exact p-values of small cases worked out by hand, Holm's correction step by step."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inpars.errors import ConfigError
from inpars.evaluation.significance import (
    bootstrap_interval,
    compare,
    detectable_difference,
    holm,
    randomisation_p_value,
    t_test_p_value,
)


@pytest.mark.parametrize(
    ("differences", "exact"),
    [
        ([2.0, 1.0], 1 / 2),  # sums 3, 1, -1, -3: two of four are at least as far out as 3
        ([1.0, 1.0, 1.0], 1 / 4),  # two of eight
        ([1.0, 1.0, -1.0], 1.0),  # every sum is 1 or 3 away from 0, at least the observed 1
        ([3.0, 1.0, 1.0], 1 / 4),  # 5 is reached by +++ and ---
        ([1.0] * 6, 2 / 64),
        ([3.0, -1.0, -1.0], 1.0),  # the observed sum is 1; |3-1-1| = 1, the others 3 and 5: all are at least 1
        ([1.0, -1.0], 1.0),
    ],
)
def test_small_cases_are_exact(differences, exact):
    # 20,000 draws: a standard error of 0.0031 at 1/4, 0.0012 at 2/64
    assert randomisation_p_value(differences) == pytest.approx(exact, abs=0.01)


def test_without_differences_nothing_is_believed():
    assert randomisation_p_value([0.0, 0.0]) == 1.0
    assert randomisation_p_value([]) == 1.0


def test_queries_without_a_difference_do_not_change_the_test():
    assert randomisation_p_value([0.2, 0.0, -0.1, 0.0]) == randomisation_p_value([0.2, -0.1])


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(-8, 8).map(float), min_size=1, max_size=8))
def test_both_directions_and_all_scales_have_one_p_value(differences):
    p_value = randomisation_p_value(differences, 2_000)
    assert 0 < p_value <= 1
    assert randomisation_p_value([-value for value in differences], 2_000) == p_value
    assert randomisation_p_value([4 * value for value in differences], 2_000) == p_value


def test_holm_by_hand():
    # sorted: 0.005 * 4 = 0.02, 0.01 * 3 = 0.03, 0.03 * 2 = 0.06, 0.04 * 1 = 0.04, raised to the 0.06 before it
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([0.2]) == [0.2]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=6))
def test_holm_never_lowers_and_keeps_the_order(p_values):
    adjusted = holm(p_values)
    assert all(plain <= raised <= 1 for plain, raised in zip(p_values, adjusted, strict=True))
    order = sorted(range(len(p_values)), key=lambda position: p_values[position])
    assert [adjusted[position] for position in order] == sorted(adjusted)


def test_a_system_against_the_baseline():
    baseline = {"q1": 0.2, "q2": 0.4, "q3": 0.0}
    found = compare(baseline, {"better": {"q3": 0.25, "q2": 0.65, "q1": 0.45}})["better"]
    # +0.25 for every query: the interval has no width, and one in four sign patterns is as far out
    assert (found.mean, found.low, found.high) == pytest.approx((0.25, 0.25, 0.25))
    assert found.queries == 3
    assert found.p_value == found.adjusted_p_value == pytest.approx(0.25, abs=0.01)
    assert not found.is_believed()


def test_the_interval_of_two_queries():
    # resampled means are 0, 1/2 and 1 with probabilities 1/4, 1/2, 1/4: the outer 2.5% are 0 and 1
    found = compare({"q1": 0.0, "q2": 0.0}, {"s": {"q1": 0.0, "q2": 1.0}})["s"]
    assert (found.mean, found.low, found.high) == (0.5, 0.0, 1.0)


def test_several_systems_are_corrected():
    queries = [f"q{number}" for number in range(6)]
    baseline = dict.fromkeys(queries, 0.0)
    up, same = dict.fromkeys(queries, 0.5), dict(baseline)
    found = compare(baseline, {"up": up, "again": up, "same": same})
    # 2/64 each, the smallest of three times 3; the unchanged one stays at 1
    assert found["up"].adjusted_p_value == pytest.approx(3 * found["up"].p_value)
    assert found["again"].adjusted_p_value == found["up"].adjusted_p_value
    assert found["same"].adjusted_p_value == 1.0
    assert found["up"].p_value < 0.05 < found["up"].adjusted_p_value
    assert not found["up"].is_believed()
    assert compare(baseline, {"up": up})["up"].is_believed()


def test_systems_measured_on_other_queries_are_refused():
    with pytest.raises(ConfigError, match="reranked and the baseline were measured on different queries"):
        compare({"q1": 0.0}, {"reranked": {"q2": 0.0}})


def test_the_t_test_by_hand():
    # mean 1/2, deviation sqrt(1/3), t = (1/2) / sqrt(1/12) = sqrt(3) with 3 degrees of freedom: p = 0.18169
    assert t_test_p_value([0.0, 0.0, 1.0, 1.0]) == pytest.approx(0.18169, abs=1e-5)
    assert t_test_p_value([0.0, 0.0]) == 1.0
    assert t_test_p_value([0.5]) == 1.0  # one query shows nothing
    assert t_test_p_value([0.5, 0.5]) == 0.0


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=30))
def test_the_t_test_is_scipys(differences):
    from scipy import stats

    if len(set(differences)) > 1 and max(map(abs, differences)) > 1e-3:
        theirs = stats.ttest_rel(differences, [0.0] * len(differences)).pvalue
        assert t_test_p_value(differences) == pytest.approx(theirs, abs=1e-9)


def test_effect_size_and_counts_by_hand():
    queries = ["q1", "q2", "q3", "q4"]
    found = compare(dict.fromkeys(queries, 0.0), {"s": dict(zip(queries, (0.0, 0.0, 1.0, 1.0), strict=True))})["s"]
    # mean 1/2 in deviations of sqrt(1/3): sqrt(3) / 2
    assert found.effect_size == pytest.approx(0.75**0.5)
    assert (found.better, found.worse) == (2, 0)
    assert found.t_p_value == found.adjusted_t_p_value == pytest.approx(0.18169, abs=1e-5)
    assert not found.tests_disagree
    same = compare(dict.fromkeys(queries, 0.0), {"s": dict.fromkeys(queries, 0.0)})["s"]
    assert (same.effect_size, same.detectable, same.p_value) == (None, 0.0, 1.0)


def test_what_queries_can_show_by_hand():
    # 4 queries of deviation sqrt(1/3): (t of 0.975 = 3.18245, t of 0.8 = 0.97847; together 4.16092) / sqrt(12)
    assert detectable_difference([0.0, 0.0, 1.0, 1.0]) == pytest.approx(4.16092 / 12**0.5, abs=1e-5)
    assert detectable_difference([0.3]) is None


def test_intervals_are_the_means_and_do_not_depend_on_memory(monkeypatch):
    values = [0.0, 0.2, 0.9, 0.4, 0.4, 1.0]
    found = bootstrap_interval(values)
    assert found.mean == pytest.approx(2.9 / 6)
    assert found.low < found.mean < found.high
    monkeypatch.setattr("inpars.evaluation.significance.BLOCK_NUMBERS", 60)
    assert bootstrap_interval(values).low == pytest.approx(found.low, abs=0.05)
    with pytest.raises(ConfigError, match="no values"):
        bootstrap_interval([])
