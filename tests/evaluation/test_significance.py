"""Paired tests: exact p-values of small cases worked out by hand, Holm's correction step by step."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inpars.errors import ConfigError
from inpars.evaluation.significance import (
    bootstrap_interval,
    compare,
    compare_pairs,
    detectable_difference,
    holm,
    queries_needed,
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


def numbered(values):
    return {f"q{number}": float(value) for number, value in enumerate(values)}


def against_nothing(values, **more):
    return compare(numbered([0] * len(values)), {"s": numbered(values), **more})


def test_a_system_against_the_baseline():
    baseline = numbered([0.2, 0.4] * 5)
    better = {query_id: value + 0.25 for query_id, value in reversed(baseline.items())}
    found = compare(baseline, {"better": better})["better"]
    # +0.25 for every query: the interval has no width, and two in 1,024 sign patterns are as far out
    assert (found.mean, found.low, found.high) == pytest.approx((0.25, 0.25, 0.25))
    assert found.queries == 10
    assert found.p_value == found.adjusted_p_value == pytest.approx(2 / 1024, abs=0.001)
    assert found.is_believed()


@pytest.mark.parametrize("count", [1, 2, 9])
def test_fewer_than_ten_queries_are_not_tested(count):
    found = against_nothing([0.5] * count)["s"]
    tested = (found.low, found.high, found.interval, found.p_value, found.adjusted_p_value, found.t_p_value)
    assert tested == (None,) * 6
    assert (found.mean, found.better, found.detectable, found.is_tested) == (0.5, count, None, False)
    assert not found.is_believed()
    assert not found.tests_disagree


def test_the_interval_turns_the_test_round():
    # Random signs part the ten queries into two groups; a true difference between their means is not refused. The group
    # of the 1 has m of the nine others and the mean 1 / (1 + m), the other group has the mean 0: that is the lower end.
    # P(m = 0) = 1/512, P(m <= 1) = 10/512, P(m <= 2) = 46/512 = 0.09, of P(m = 9) = 1/512 no mean is far enough: more
    # than 1/3 has a p-value of at most 11/512 = 0.02, 1/3 itself one of 47/512.
    found = against_nothing([1] + [0] * 9)["s"]
    assert (found.low, found.high) == pytest.approx((0.0, 1 / 3))
    assert found.p_value == 1.0  # 1 or -1: both as far out
    assert not found.is_believed()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.integers(-4, 6), min_size=12, max_size=12), min_size=1, max_size=5),
    st.integers(0, 3),
)
def test_interval_and_verdict_never_contradict_each_other(rows, zeros):
    """`+.0626 to +.3838 ... may be chance`: the interval was not adjusted, the p-value was."""
    systems = {f"s{number}": numbered([value / 8 for value in row] + [0] * zeros) for number, row in enumerate(rows)}
    found = compare(numbered([0] * (12 + zeros)), systems, permutations=2_000)
    for difference in found.values():
        assert (difference.low <= 0 <= difference.high) == (not difference.is_believed())
        assert difference.low <= difference.mean + 1e-12
        assert difference.mean - 1e-12 <= difference.high
        assert difference.is_believed() == (difference.adjusted_p_value < 0.05)


def test_more_comparisons_make_wider_intervals():
    values = [0.3, 0.1, 0.2, -0.1, 0.4, 0.2, 0.1, -0.2, 0.3, 0.1, 0.0, 0.2]
    alone = against_nothing(values)["s"]
    among = against_nothing(values, **{f"t{n}": numbered(values) for n in range(5)})["s"]
    assert among.p_value == alone.p_value
    assert among.adjusted_p_value == pytest.approx(6 * alone.p_value)
    assert among.low < alone.low < alone.mean < alone.high < among.high


@pytest.mark.parametrize("count", [12, 40])
def test_intervals_are_those_of_students_t_for_differences_that_are_normal(count):
    import numpy as np
    from scipy import stats

    values = np.random.default_rng(count).normal(0.1, 0.2, count)
    found = against_nothing(list(values))["s"]
    theirs = stats.t.interval(0.95, count - 1, values.mean(), values.std(ddof=1) / count**0.5)
    assert (found.low, found.high) == pytest.approx(theirs, abs=0.02)


def test_several_systems_are_corrected():
    # nine of ten queries gain 0.5, one loses it: 22 of 1,024 sign patterns (none, one or all but one the other way)
    baseline, same = numbered([0] * 10), numbered([0] * 10)
    up = numbered([0.5] * 9 + [-0.5])
    found = compare(baseline, {"up": up, "again": up, "same": same})
    # the smallest of three times 3; the unchanged one stays at 1
    assert found["up"].p_value == pytest.approx(22 / 1024, abs=0.004)
    assert found["up"].adjusted_p_value == pytest.approx(3 * found["up"].p_value)
    assert found["again"].adjusted_p_value == found["up"].adjusted_p_value
    assert found["same"].adjusted_p_value == 1.0
    assert (found["same"].low, found["same"].high) == (0.0, 0.0)
    assert found["up"].p_value < 0.05 < found["up"].adjusted_p_value
    assert not found["up"].is_believed()
    assert compare(baseline, {"up": up})["up"].is_believed()


def test_pairs_have_baselines_of_their_own():
    found = compare_pairs(
        {"a": (numbered([1] * 12), numbered([2] * 12)), "b": (numbered([3] * 12), numbered([1] * 12))}
    )
    assert [one.mean for one in found.values()] == [1.0, -2.0]
    assert found["a"].adjusted_p_value == pytest.approx(2 * found["a"].p_value)


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
    values = [0.0] * 6 + [1.0] * 6
    found = against_nothing(values)["s"]
    # mean 1/2 in deviations of sqrt(12 * 1/4 / 11) = sqrt(3/11); t = sqrt(12) * 1/2 / sqrt(3/11) = sqrt(11)
    assert found.effect_size == pytest.approx(0.5 / (3 / 11) ** 0.5)
    assert (found.better, found.worse) == (6, 0)
    assert found.t_p_value == found.adjusted_t_p_value == pytest.approx(t_test_p_value(values))
    assert not found.tests_disagree
    same = against_nothing([0.0] * 12)["s"]
    assert (same.effect_size, same.detectable, same.p_value) == (None, 0.0, 1.0)


def test_what_queries_can_show_by_hand():
    # 12 queries of deviation sqrt(3/11): t with 11 degrees of freedom of 0.975 = 2.20099, of 0.8 = 0.87553
    values = [0.0] * 6 + [1.0] * 6
    assert detectable_difference(values) == pytest.approx((2.20099 + 0.87553) * (3 / 11 / 12) ** 0.5, abs=1e-5)
    assert detectable_difference([0.0, 1.0]) is None
    # ten differences of +1 and -1: deviation 1.0541, times (2.26216 + 0.88340) / sqrt(10) is 1.0486
    assert detectable_difference([1.0, -1.0] * 5) is None, "no measure of at most 1 can differ by more than 1"


def test_how_many_queries_are_needed_by_hand():
    # two queries, 0.1 and 0.3: deviation 0.14142; (1.96 + 0.8416)^2 * 0.02 / 0.05^2 = 62.8, by Student's t two more
    assert queries_needed([0.1, 0.3]) == 65
    assert queries_needed([0.2, 0.2]) == 10
    assert queries_needed([0.2]) is None
    assert queries_needed([1e6, 0.0]) is None
    for count in (64, 65):
        spread = 0.14142 * (t_of(count, 0.975) + t_of(count, 0.8)) / count**0.5
        assert (spread <= 0.05) == (count == 65)


def t_of(count, probability):
    from scipy import stats

    return stats.t.ppf(probability, count - 1)


def test_intervals_are_the_means_and_do_not_depend_on_memory(monkeypatch):
    values = [0.0, 0.2, 0.9, 0.4, 0.4, 1.0]
    found = bootstrap_interval(values)
    assert found.mean == pytest.approx(2.9 / 6)
    assert found.low < found.mean < found.high
    monkeypatch.setattr("inpars.evaluation.significance.BLOCK_NUMBERS", 60)
    assert bootstrap_interval(values).low == pytest.approx(found.low, abs=0.05)
    with pytest.raises(ConfigError, match="no values"):
        bootstrap_interval([])
