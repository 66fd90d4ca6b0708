"""Measures: the edge cases worked out by hand, everything else against pytrec_eval itself."""

import math

import ir_measures
import pytest
import pytrec_eval
from hypothesis import given, settings
from hypothesis import strategies as st

from inpars.errors import BackendError, ConfigError
from inpars.evaluation.measures import evaluate, judged_share, parse_metrics, split_measures
from inpars.io.runs import rank

METRICS = ["nDCG@10", "RR@10", "R@100", "AP", "P@5"]


def qrels_of(text):
    qrels = {}
    for line in text.strip().splitlines():
        query_id, _, doc_id, relevance = line.split()
        qrels.setdefault(query_id, {})[doc_id] = int(relevance)
    return qrels


def run_of(text):
    run = {}
    for line in text.strip().splitlines():
        query_id, _, doc_id, _, score, _ = line.split()
        run.setdefault(query_id, {})[doc_id] = float(score)
    return run


# Gains are the grades, discounts 1, 1/log2(3) = 0.63093, 1/2, ...
CASES = {
    "perfect": ("q1 0 a 1", "q1 Q0 a 1 2 t\nq1 Q0 b 2 1 t", [1, 1, 1, 1, 0.2]),
    "empty run": ("q1 0 a 1", "", [0, 0, 0, 0, 0]),
    # one of two queries is there, with everything right: half of 1; P@5 half of 1/5
    "missing query": ("q1 0 a 1\nq2 0 b 1", "q1 Q0 a 1 2 t", [0.5, 0.5, 0.5, 0.5, 0.1]),
    # equal scores: trec_eval puts the larger id first, so a is second
    "ties": ("q1 0 a 1", "q1 Q0 a 1 5 t\nq1 Q0 b 2 5 t", [0.63093, 0.5, 1, 0.5, 0.2]),
    "ranks in the file are not read": ("q1 0 a 1", "q1 Q0 a 9 2 t\nq1 Q0 b 1 1 t", [1, 1, 1, 1, 0.2]),
    "unjudged above": ("q1 0 a 1", "q1 Q0 u 1 3 t\nq1 Q0 a 2 2 t", [0.63093, 0.5, 1, 0.5, 0.2]),
    # one of two relevant documents in a list of one: ideal DCG 1.63093, AP = (1/1) / 2
    "k beyond the list": ("q1 0 a 1\nq1 0 b 1", "q1 Q0 a 1 1 t", [0.61315, 1, 0.5, 0.5, 0.2]),
    # DCG = 1 + 2 * 0.63093 = 2.26186, ideal = 2 + 0.63093 = 2.63093
    "graded gains": ("q1 0 a 2\nq1 0 b 1", "q1 Q0 b 1 2 t\nq1 Q0 a 2 1 t", [0.85972, 1, 1, 1, 0.4]),
    "nothing relevant": ("q1 0 a 0", "q1 Q0 a 1 1 t", [0, 0, 0, 0, 0]),
    "unjudged query in the run": ("q1 0 a 1", "q1 Q0 a 1 1 t\nq9 Q0 b 1 1 t", [1, 1, 1, 1, 0.2]),
}


@pytest.mark.parametrize("case", CASES)
def test_edge_cases_by_hand(case):
    qrels, run, expected = CASES[case]
    result = evaluate(run_of(run), qrels_of(qrels), METRICS)
    assert [result.means[name] for name in METRICS] == pytest.approx(expected, abs=1e-5)


def test_missing_queries_score_zero_and_are_counted():
    result = evaluate({"q1": {"a": 1.0}, "q3": {}}, {"q1": {"a": 1}, "q2": {"b": 1}, "q3": {"c": 1}}, ["RR@10"])
    assert result.per_query == {"RR@10": {"q1": 1.0, "q2": 0.0, "q3": 0.0}}
    assert (result.queries, result.missing) == (3, 2)  # q2 is absent, q3 found nothing
    assert result.means == {"RR@10": pytest.approx(1 / 3)}


def test_a_grade_counts_as_relevant_from_where_the_measure_says():
    result = evaluate({"q1": {"a": 2.0, "b": 1.0}}, {"q1": {"a": 1, "b": 2}}, ["RR@10", "RR(rel=2)@10"])
    assert result.means == {"RR@10": 1.0, "RR(rel=2)@10": 0.5}


def test_other_names_of_a_measure_have_its_value():
    run, qrels = {"q1": {"a": 2.0, "b": 1.0}}, {"q1": {"b": 1}}
    result = evaluate(run, qrels, ["RR@10", "MRR@10", "AP", "MAP"])
    assert result.means == {"RR@10": 0.5, "MRR@10": 0.5, "AP": 0.5, "MAP": 0.5}


IDS = st.sampled_from([f"d{number}" for number in range(8)])
RUNS = st.dictionaries(
    st.sampled_from(["q1", "q2", "q3"]), st.dictionaries(IDS, st.integers(0, 4).map(float), min_size=1), min_size=1
)
QRELS = st.dictionaries(
    st.sampled_from(["q1", "q2", "q3"]), st.dictionaries(IDS, st.integers(0, 3), min_size=1), min_size=1
)
TREC_EVAL = {"nDCG@5": "ndcg_cut_5", "RR": "recip_rank", "R@5": "recall_5", "AP": "map", "P@5": "P_5"}


@settings(max_examples=60, deadline=None)
@given(RUNS, QRELS)
def test_the_values_are_trec_evals(run, qrels):
    result = evaluate(run, qrels, list(TREC_EVAL))
    evaluator = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut.5", "recip_rank", "recall.5", "map", "P.5"})
    theirs = evaluator.evaluate(run)
    for name, theirs_name in TREC_EVAL.items():
        for query_id, value in result.per_query[name].items():
            assert value == pytest.approx(theirs.get(query_id, {}).get(theirs_name, 0.0), abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(RUNS, QRELS)
def test_every_measure_ranks_as_runs_rank_does(run, qrels):
    """ir_measures leaves RR@10 to another provider than AP, which broke ties by ascending id."""
    by_hand = {
        query_id: next(
            (
                1 / position
                for position, (doc_id, _) in enumerate(rank(run.get(query_id, {})), start=1)
                if grades.get(doc_id, 0) > 0
            ),
            0.0,
        )
        for query_id, grades in qrels.items()
    }
    assert evaluate(run, qrels, ["RR@10"]).per_query["RR@10"] == pytest.approx(by_hand)


def test_scores_that_float32_cannot_tell_apart_are_ties():
    # 0.1 and 0.1 + 1e-12 are one number for trec_eval: b, the larger id, is first
    run, qrels = {"q1": {"a": 0.1 + 1e-12, "b": 0.1}}, {"q1": {"a": 1}}
    assert evaluate(run, qrels, ["RR", "RR@10"]).means == {"RR": 0.5, "RR@10": 0.5}
    assert pytrec_eval.RelevanceEvaluator(qrels, {"recip_rank"}).evaluate(run)["q1"]["recip_rank"] == 0.5


def test_measures_are_parsed():
    assert parse_metrics("nDCG@10  RR(rel=2)@10") == ["nDCG@10", "RR(rel=2)@10"]
    assert parse_metrics(["AP"]) == ["AP"]


@pytest.mark.parametrize(
    ("names", "shown"),
    [("nDCG@10 bogus@3 worse", "bogus@3, worse"), ("", "empty"), ("nDCG@", "nDCG@"), ("__import__('os')", "import")],
)
def test_unknown_measures_are_named(names, shown):
    with pytest.raises(ConfigError, match=r"unknown measure") as caught:
        parse_metrics(names)
    assert shown in str(caught.value)
    assert "try: nDCG@10" in str(caught.value)


def test_measures_that_nobody_computes_are_named():
    with pytest.raises(ConfigError, match=r"nothing installed here computes RR\(judged_only=True\)@2"):
        parse_metrics("nDCG@10 RR(judged_only=True)@2")


def test_without_judgements_nothing_is_evaluated():
    with pytest.raises(ConfigError, match="no judgements"):
        evaluate({"q1": {"a": 1.0}}, {}, ["AP"])


def test_the_discount_of_the_second_rank():
    assert 1 / math.log2(3) == pytest.approx(0.63093, abs=1e-5)  # the number the table above is made with


def test_judged_share_by_hand():
    assert judged_share({"a": -1.0, "b": -2.0, "c": -3.0, "d": -4.0}, {"a": 1, "c": 0}) == 0.5
    assert judged_share({"a": -1.0, "b": -2.0}, {"a": 1}, depth=1) == 1.0


@settings(max_examples=30, deadline=None)
@given(RUNS, QRELS)
def test_judged_at_ten_is_the_mean_over_queries_with_results(run, qrels):
    found = [judged_share(run[query_id], qrels[query_id]) for query_id in qrels if query_id in run]
    value = evaluate(run, qrels, ["AP"]).judged_at_10
    assert value == (pytest.approx(math.fsum(found) / len(found)) if found else None)


CUT = ["nDCG@3", "RR@2", "P@2", "R@3", "AP@2", "Success@1", "Judged@3"]
MANY = [*CUT, "P(judged_only=True)@2", "RR(judged_only=True)", "SetP"]


@settings(max_examples=40, deadline=None)
@given(RUNS, QRELS)
def test_what_a_measure_does_not_look_at_is_not_shown_to_it(run, qrels):
    """The values are those of the whole run, whatever is cut off below a measure's depth."""
    places = {
        query_id: {doc_id: -float(place) for place, (doc_id, _) in enumerate(rank(scores))}
        for query_id, scores in run.items()
        if query_id in qrels
    }
    measures = {ir_measures.parse_measure(name): name for name in MANY}
    ours = evaluate(run, qrels, MANY)
    for value in ir_measures.iter_calc(list(measures), qrels, places):
        if value.query_id in places:
            assert ours.per_query[measures[value.measure]][value.query_id] == pytest.approx(value.value)


def test_long_lists_of_queries_are_taken_in_blocks(monkeypatch):
    monkeypatch.setattr("inpars.evaluation.measures.QUERIES_PER_BLOCK", 2)
    run = {f"q{n}": {"a": 1.0, "b": 2.0} for n in range(5)}
    qrels = {f"q{n}": {"a": 1} if n % 2 else {"b": 1} for n in range(6)}
    result = evaluate(run, qrels, ["RR@10"])
    assert result.per_query["RR@10"] == {"q0": 1.0, "q1": 0.5, "q2": 1.0, "q3": 0.5, "q4": 1.0, "q5": 0.0}
    assert result.missing == 1


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ("nDCG@10,RR@10", ["nDCG@10", "RR@10"]),
        (" ndcg@10 ,  rr@10, ", ["nDCG@10", "RR@10"]),
        ("map MRR@10 p@5 r@100", ["MAP", "MRR@10", "P@5", "R@100"]),
        ("ndcg@10 nDCG@10", ["nDCG@10"]),
    ],
)
def test_measures_with_commas_and_in_any_capitals(names, found):
    assert parse_metrics(names) == found


def test_commas_in_brackets_are_the_measures():
    assert split_measures("ERR@20,AP(rel=2),nDCG(dcg='exp-log2', gains=1)@5") == [
        "ERR@20",
        "AP(rel=2)",
        "nDCG(dcg='exp-log2', gains=1)@5",
    ]


@pytest.mark.parametrize(
    ("name", "meant"),
    [("ndcg_cut_10", "nDCG@10"), ("recip_rank", "RR"), ("nDGC@10", "nDCG@10"), ("Reccall@100", "Recall@100")],
)
def test_an_unknown_measure_gets_the_nearest(name, meant):
    with pytest.raises(ConfigError, match=f"unknown measure {name}; did you mean {meant}\\?"):
        parse_metrics(name)


def test_a_topic_of_junk_alone_has_nothing_relevant():
    """usnistgov/trec_eval#29: where all grades are -2 and below, its code wrote where it must not."""
    qrels = {"1": {"d0": 0, "d1": 1, "d2": 2}, "2": {"junk": -2, "d1": -3}, "3": {"d1": 1}, "4": {"d1": -1}, "5": {}}
    run = {query_id: {"d0": 9.0, "d1": 8.0, "d2": 7.0} for query_id in qrels}
    result = evaluate(run, qrels, ["nDCG@10", "AP", "RR", "P@5", "Bpref", "RR@10", "AP(rel=2)"])
    # query 1: DCG 0.6309 + 2 * 0.5 of 2 + 0.6309; AP (1/2 + 2/3) / 2
    assert result.per_query["nDCG@10"] == pytest.approx({"1": 0.6199, "2": 0, "3": 0.6309, "4": 0, "5": 0}, abs=1e-4)
    assert result.per_query["AP"] == pytest.approx({"1": 7 / 12, "2": 0, "3": 0.5, "4": 0, "5": 0})
    assert all(values[query_id] == 0 for values in result.per_query.values() for query_id in "245")
    assert result.judged_at_10 == pytest.approx((1 + 1 / 3 + 1 / 3 + 1 / 3 + 0) / 5)


@pytest.mark.parametrize("grade", [1001, -1001, 10**30, 0.5, "1"])
def test_grades_beyond_the_limits_never_reach_trec_eval(grade):
    if grade == "1":
        assert evaluate({"q": {"a": 1.0}}, {"q": {"a": int(grade)}}, ["RR"]).means == {"RR": 1.0}
        return
    with pytest.raises(ConfigError, match="relevance must be a whole number from -1000 to 1000"):
        evaluate({"q": {"a": 1.0}}, {"q": {"a": grade}}, ["RR"])


def test_ids_with_nul_are_told_apart():
    """trec_eval's code takes an id to end there: a query aborted it, two documents were one."""
    run = {"q\0a": {"a\0b": 2.0, "a\0c": 1.0}, "q\0b": {"a\0b": 2.0, "a\0c": 1.0}}
    result = evaluate(run, {"q\0a": {"a\0b": 1}, "q\0b": {"a\0c": 1}}, ["RR", "RR@10", "AP"])
    assert all(values == {"q\0a": 1.0, "q\0b": 0.5} for values in result.per_query.values())


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        *((name, "depths run from 1 to") for name in ("P@0", "nDCG@0", "Judged@0", "nDCG@99999999999999999999999")),
        *((name, "depths run from 1 to") for name in ("AP(rel=0)", "AP(rel=99999999999999999999)", "RR(rel=1001)@10")),
        ("alpha_nDCG@10", "judgements by subtopic"),
        ("SDCG@10", "nothing installed here computes"),
    ],
)
def test_measures_that_trec_evals_code_does_not_survive_are_refused(name, problem):
    with pytest.raises(ConfigError, match=problem):
        parse_metrics(["AP", name])


def test_a_measure_that_fails_is_named(monkeypatch):
    def fail(*_):
        raise ValueError("perl\nis missing")

    monkeypatch.setattr(ir_measures, "iter_calc", fail)
    with pytest.raises(BackendError, match=r"AP could not be computed by ir_measures \(perl is missing\)"):
        evaluate({"q": {"a": 1.0}}, {"q": {"a": 1}}, ["AP"])
