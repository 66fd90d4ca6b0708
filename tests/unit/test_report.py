"""The report and its charts: everything escaped, everything shown, nothing loaded from elsewhere."""

import re
import xml.etree.ElementTree as ElementTree

import pytest

from inpars.evaluation.measures import Evaluation
from inpars.evaluation.significance import Difference
from inpars.filtering.filters import Verdict
from inpars.records import SyntheticQuery
from inpars.reports.charts import histogram, line_chart
from inpars.reports.report import Report, render, shown_queries


def verdict(number, score, reason=None, text="a query"):
    query = SyntheticQuery(f"d{number}-q0", f"d{number}", text, (score,), None, "stop", "raw", "p", "m")
    return Verdict(query, score, reason)


def evaluation(value):
    return Evaluation({"nDCG@10": value}, {"nDCG@10": {"q1": value}}, 1, 0)


def report(**parts):
    whole = {
        "title": "toy <b>",
        "lead": "30 documents",
        "metrics": ["nDCG@10"],
        "results": {"bm25": evaluation(0.25), "tuned": evaluation(0.5)},
        "differences": {"nDCG@10": {"tuned": Difference(0.25, 0.1, 0.4, 0.001, 1, 0.002)}},
        "verdicts": [verdict(1, -0.5, text="what is <script>"), verdict(2, -2.0, "copied")],
        "document_texts": {"d1": "x" * 200},
        "score_name": "mean_log_probs",
        "curves": {"retriever": {"steps": [1, 2, 3], "losses": [1.0, 0.5, 0.25]}},
        "settings": {"seed": 0},
    }
    return Report(**whole | parts)


def test_everything_is_shown_and_escaped():
    page = render(report())
    assert "<script>" not in page
    assert "what is &lt;script&gt;" in page
    assert "toy &lt;b&gt;" in page
    assert "+0.2500" in page
    assert "+0.1000 to +0.4000" in page
    assert "better (p = 0.002)" in page
    assert "Training the retriever" in page
    assert "copied" in page
    assert "x" * 139 + "…" in page
    assert not re.search(r"(src|href|url)\s*[=(]", page), "one file, nothing loaded"


def test_the_best_system_stands_out_and_the_baseline_has_no_difference():
    rows = re.findall(r"<tr( class=best)?><td>(\w+)</td>", render(report()))
    assert rows[:2] == [("", "bm25"), (" class=best", "tuned")]
    assert "<td class=soft>baseline</td>" in render(report())


def test_without_judgements_nothing_is_claimed():
    page = render(report(results={}, differences={}))
    assert "nothing was measured" in page
    assert "paired test" not in page


def test_shown_queries_are_spread_over_scores_and_reasons():
    kept = [verdict(number, -number / 10) for number in range(40)]
    dropped = [verdict(100 + n, -1.0, "duplicate") for n in range(30)] + [verdict(200, -3.0, "empty")]
    best, left_out = shown_queries([*dropped, *kept])
    # every fourth of 40: scores 0, -0.4, -0.8, ... -3.6
    assert [round(v.score, 1) for v in best] == [-n * 4 / 10 for n in range(10)]
    assert len(left_out) == 10
    assert {v.reason for v in left_out} == {"duplicate", "empty"}


def test_a_histogram_counts_every_query_once():
    drawing = ElementTree.fromstring(histogram([0.0, 0.1, 1.0], [0.1, 0.5], "score", cut=0.1))
    heights = {"kept": 0.0, "dropped": 0.0}
    for bar in drawing.iter("rect"):
        heights[bar.attrib["class"]] += float(bar.attrib["height"])
    # the fullest bin holds two queries (0.1 twice) and is 156 high, so a query is 78 high
    assert heights == {"kept": pytest.approx(3 * 78, abs=0.5), "dropped": pytest.approx(2 * 78, abs=0.5)}
    assert sum(line.attrib["class"] == "cut" for line in drawing.iter("line")) == 1


def test_charts_of_nothing_and_of_one_value():
    assert "<svg" not in histogram([], [], "score")
    assert ElementTree.fromstring(histogram([2.0], [], "score")) is not None
    assert "<svg" not in line_chart([1], [0.5], "step", "loss")
    assert ElementTree.fromstring(line_chart([1, 2], [0.0, 0.0], "step", "loss")) is not None
