"""Numbers in plain words."""

from dataclasses import replace

import pytest

from inpars.evaluation.contamination import Overlap
from inpars.evaluation.measures import Evaluation
from inpars.evaluation.run_files import RunNotes
from inpars.evaluation.significance import Difference
from inpars.evaluation.verdicts import (
    adjustment_in_words,
    file_remarks,
    in_words,
    judged_remarks,
    overlap_remark,
    power_in_words,
)
from inpars.stages.evaluate_files import verdict

FOUND = Difference(
    *(0.0312, 0.0101, 0.0520, 0.004, 43, 0.008),
    t_p_value=0.005,
    adjusted_t_p_value=0.0004,
    effect_size=0.42,
    detectable=0.0213,
    better=25,
    worse=10,
)


def say(difference):
    return in_words("tuned", "bm25", "nDCG@10", difference)


def test_a_difference_in_full():
    assert say(FOUND) == (
        "tuned against bm25, nDCG@10: better by 0.0312 (adjusted 95% interval +0.0101 to +0.0520; p 0.008 by "
        "randomisation, below 0.001 by t-test, effect size +0.42; 25 queries better, 10 worse, 8 the same)"
    )


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"mean": -0.02}, "worse by 0.0200 ("),
        ({"adjusted_p_value": 0.3, "adjusted_t_p_value": 0.2}, "noise: +0.0312 is no more than chance gives ("),
        ({"adjusted_p_value": 0.06}, "noise, as far as can be told: the tests disagree about +0.0312 ("),
        ({"adjusted_t_p_value": 0.06}, "better by 0.0312, though the t-test does not agree ("),
        ({"better": 0, "worse": 0}, "nDCG@10: the same for all 43 queries"),
    ],
)
def test_judgements(changed, words):
    assert words in say(replace(FOUND, **changed))


def test_power():
    assert power_in_words("nDCG@10", FOUND).startswith("43 queries that vary like these show a true difference in nDCG")
    assert "0.021 four times in five" in power_in_words("nDCG@10", FOUND)
    assert power_in_words("nDCG@10", replace(FOUND, detectable=0.0)) == ""
    wide = replace(FOUND, detectable=0.0713, queries_needed=88)
    assert "0.071 four times in five" in power_in_words("nDCG@10", wide)
    assert power_in_words("nDCG@10", wide).endswith("about 88 would show one of 0.05")


@pytest.mark.parametrize(
    ("count", "needed", "parts"),
    [
        (2, 400, ["2 queries are too few", "at least 10", "about 400", "0.05"]),
        (1, None, ["1 query is too few", "at least 10"]),
        (9, 10, ["9 queries are too few", "at least 10"]),
    ],
)
def test_too_few_queries_are_not_tested_and_it_is_said_how_many_are_needed(count, needed, parts):
    """`2 queries ... show a true difference in nDCG@10 of 1.677`: nDCG ends at 1."""
    found = Difference(0.25, None, None, None, count, None, better=count, queries_needed=needed)
    power = power_in_words("nDCG@10", found)
    assert all(part in power for part in parts), power
    assert ("about" in power) == (needed == 400)
    assert "+0.2500, not tested" in say(found)
    assert "interval" not in say(found)
    assert verdict(found) == "+0.2500 not tested"


def test_a_difference_beyond_1_is_never_called_detectable():
    found = replace(FOUND, queries=10, detectable=None, queries_needed=3_900)
    assert power_in_words("nDCG@10", found).endswith("reliably; about 3,900 would show one of 0.05")


def test_one_query_is_no_queries():
    assert "1 query better, 1 worse, 41 the same" in say(replace(FOUND, better=1, worse=1))


def test_how_tests_go_together_is_said_for_several():
    assert "adjusted together for 3 comparisons (Holm)" in adjustment_in_words([FOUND] * 3)
    untested = Difference(0.25, None, None, None, 2, None)
    assert adjustment_in_words([FOUND]) == adjustment_in_words([]) == adjustment_in_words([untested] * 3) == ""
    assert say(replace(FOUND, adjusted_p_value=FOUND.p_value)).count("(95% interval +0.0101") == 1


def test_remarks_on_files():
    notes = RunNotes("t", 100, 2, ("q1", "q2"), 5, 3)
    twice, misordered, tied, unjudged = file_remarks("run", notes, 10, "score")
    assert twice.startswith("run: 2 results repeat a document of their query; the first of them counts")
    assert misordered == "run: rank and score disagree for 2 of 10 queries, 'q1' first; scores rank here"
    assert tied.startswith("run: 5 of 10 queries have equal scores among their first ten results")
    assert unjudged == "run: 3 of its queries have no judgements: not measured"
    twice, unjudged = file_remarks("run", RunNotes("t", 1, twice=1, unjudged_queries=1), 10, "score")
    assert twice.startswith("run: 1 result repeats a document")
    assert unjudged.startswith("run: 1 of its queries has")
    assert file_remarks("run", RunNotes("t", 100, tied=1), 10, "score") == []  # a tie here or there is usual
    assert len(file_remarks("run", notes, 10, "file")) == 3  # no ties in the order of a file
    assert file_remarks("run", notes, 10, "file")[1].endswith("the order of the file ranks here")


def shares(**judged):
    return {name: Evaluation({}, {}, 1, 0, share) for name, share in judged.items()}


POOLED = {"q1": {"a": 1, "b": 0}}


def test_runs_with_many_unjudged_results():
    assert judged_remarks(shares(bm25=0.95, dense=0.90), "bm25", POOLED) == []
    (line,) = judged_remarks(shares(bm25=0.95, dense=0.80), "bm25", POOLED)
    assert line.startswith("dense: 80% of its first ten results are judged, of bm25's 95%")
    (line,) = judged_remarks(shares(bm25=0.60, nothing=None), "bm25", POOLED)
    assert line.startswith("bm25: only 60% of its first ten results are judged")


def test_judgements_of_relevant_documents_alone():
    (line,) = judged_remarks(shares(bm25=0.1), "bm25", {"q1": {"a": 1, "b": 1}, "q2": {"a": 1}})
    assert line.startswith("the judgements name relevant documents only, 1.5 a query")


def test_overlaps():
    found = Overlap("t.tsv", 9, 300, ("q1", "q2"), ("q3", "q4"))
    assert overlap_remark("tuned", found) == (
        "tuned: 4 of 300 test queries stand in t.tsv (2 word for word, 2 nearly): q1, q2, q3, ..."
    )
    assert overlap_remark("tuned", Overlap("t.tsv", 9, 300, (), ())) == ""
