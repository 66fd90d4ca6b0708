"""The small charts: every value is drawn, at its place, under a name that says what it is."""

import re
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inpars.report.charts import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Axis,
    Bins,
    Range,
    Series,
    bar,
    bins_of,
    differences_chart,
    evenly,
    histogram,
    intervals_chart,
    legend,
    line_chart,
    tick_label,
)
from inpars.report.formatting import MINUS


def drawn(chart):
    return ElementTree.fromstring(chart)


def test_bins_count_every_finite_value_once():
    bins = bins_of([0.0, 0.1, 1.0, float("-inf")], [0.1, 0.5], count=10)
    # ten bins of 0.1 from 0: 0.0 in the first, 0.1 in the second, 1.0 in the last; 0.5 in the sixth
    assert bins == Bins(0.0, 0.1, [1, 1, 0, 0, 0, 0, 0, 0, 0, 1], [0, 1, 0, 0, 0, 1, 0, 0, 0, 0])
    assert bins_of([float("nan")]) is None


def test_a_histogram_draws_every_query_and_the_cut():
    chart = drawn(histogram(bins_of([0.0, 0.1, 1.0], [0.1, 0.5]), "score", cut=0.1))
    heights = {"kept": 0.0, "dropped": 0.0}
    for one in chart.iter("rect"):
        heights[one.attrib["class"]] += float(one.attrib["height"])
    # the fullest bin holds two queries (0.1 twice) and 4% of room is left above: a query is so many units high
    unit = (HEIGHT - TOP - BOTTOM) / (2 * 1.04)
    assert heights == {"kept": pytest.approx(3 * unit, abs=0.5), "dropped": pytest.approx(2 * unit, abs=0.5)}
    assert [line.attrib["x1"] for line in chart.iter("line") if line.attrib["class"] == "cut"] == [
        f"{LEFT + 0.1 * (WIDTH - LEFT - RIGHT):.1f}"
    ]
    assert chart.attrib["aria-label"] == "5 queries by score, from 0 to 1"


def test_a_cut_outside_of_the_values_is_not_drawn():
    assert 'class="cut"' not in histogram(bins_of([0.0, 1.0]), "score", cut=3.0)


def test_charts_of_nothing_and_of_one_value():
    assert histogram(bins_of([]), "score") == ""
    assert drawn(histogram(bins_of([2.0]), "score")) is not None
    assert line_chart([Series("a", [1.0], [0.5])], "step", "loss") == ""
    assert drawn(line_chart([Series("a", [1.0, 2.0], [0.0, 0.0])], "step", "loss")) is not None
    assert differences_chart([0.0, 0.0], 2, "nDCG@10") == ""
    assert intervals_chart([], "nDCG@10") == ""


def test_lines_keep_their_style_where_one_before_them_has_no_points():
    chart = line_chart([Series("a", [], []), Series("b", [1.0, 2.0], [0.0, 1.0])], "k", "nDCG")
    assert {line.attrib["class"] for line in drawn(chart).iter("polyline")} == {"curve c1"}
    assert re.findall(r'class="(curve c\d)"', legend(["a", "b"])) == ["curve c0", "curve c1"]


def test_marked_axes_put_equal_factors_equally_far_apart():
    axis = Axis(1, 100, "k", log=True, marks=(1, 10, 100))
    assert [axis.share(value) for value in axis.ticks()] == [0.0, pytest.approx(0.5), 1.0]


def test_differences_are_drawn_up_and_down_from_zero():
    bars = list(drawn(differences_chart([0.5, 0.0, -0.25], 3, "nDCG@10")).iter("rect"))
    kinds = [one.attrib["class"] for one in bars]
    heights = [float(one.attrib["height"]) for one in bars]
    assert kinds == ["better-bar", "worse-bar"]
    assert heights[0] == pytest.approx(2 * heights[1], abs=0.2)
    assert float(bars[0].attrib["y"]) + heights[0] == pytest.approx(float(bars[1].attrib["y"]), abs=0.2)


def test_intervals_are_named_and_unsure_ones_told_apart():
    rows = [Range("tuned", 0.2, 0.1, 0.3, True), Range("<b>", 0.0, -0.1, 0.1, False)]
    chart = drawn(intervals_chart(rows, "nDCG@10"))
    assert [one.attrib["class"] for one in chart.iter("circle")] == ["believed", "unsure"]
    assert "tuned 0.2, 0.1 to 0.3" in chart.attrib["aria-label"]
    assert "<b>" in [text.text for text in chart.iter("text")]


def test_text_in_charts_is_escaped():
    chart = line_chart([Series('"><script>', [1.0, 2.0], [0.0, 1.0])], "<b>", "&amp;")
    assert "<script>" not in chart
    assert "<b>" not in chart
    assert "&amp;amp;" in chart
    assert "<script>" not in legend(["<script>", "b"])


def test_a_bar_is_a_share_of_the_width():
    assert 'width="25.00"' in bar(0.25)


@given(low=st.floats(-1e6, 1e6), span=st.floats(1e-3, 1e6), whole=st.booleans())
def test_ticks_lie_on_the_axis_and_are_few(low, span, whole):
    axis = Axis(low, low + span, "x", whole)
    ticks = axis.ticks()
    assert len(ticks) <= 11
    assert all(low - span * 1e-6 <= tick <= low + span * (1 + 1e-6) for tick in ticks)
    assert not whole or all(tick == round(tick) for tick in ticks)


@given(st.lists(st.floats(-1, 1), max_size=600), st.integers(2, 300))
def test_even_samples_keep_both_ends_and_the_order(values, most):
    sample = evenly(values, most)
    assert len(sample) == min(len(values), most)
    assert sample[:1] == values[:1]
    assert sample[-1:] == values[-1:]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (-0.5, f"{MINUS}0.5"), (12000, "12k"), (2.5e6, "2.5M"), (0.125, "0.125"), (1000, "1000")],
)
def test_ticks_are_short(value, text):
    assert tick_label(value) == text
