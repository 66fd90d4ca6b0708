"""Our measures against pytrec_eval's and ranx's own, on 200 random runs with ties, missing queries and graded qrels.

Their conventions differ where ours is trec_eval's with `-c`: a judged query without results counts 0.
- pytrec_eval leaves such a query out of its answer; its mean is over the others. Filled with 0 the values are ours.
- ranx refuses runs that lack a query, unless `make_comparable` fills it with no results, which count 0. It leaves
  ties to a sort that is not stable; it is given our order as scores without ties, trec_eval's by the former test.
"""

import importlib.util
import random

import pytest
import pytrec_eval

from inpars.evaluation.measures import evaluate
from inpars.evaluation.presets import PRESETS
from inpars.io.judgements import read_qrels
from inpars.io.runs import rank
from inpars.stages.evaluate_files import judge_files

RUNS = 200
TREC_EVAL = {
    "nDCG@10": (1, "ndcg_cut_10"),
    "nDCG": (1, "ndcg"),
    "RR": (1, "recip_rank"),
    "AP": (1, "map"),
    "P@5": (1, "P_5"),
    "R@10": (1, "recall_10"),
    "AP(rel=2)": (2, "map"),
    "RR(rel=2)": (2, "recip_rank"),
    "R(rel=2)@20": (2, "recall_20"),
}
RANX = {
    "nDCG@10": "ndcg@10",
    "RR@10": "mrr@10",
    "AP": "map",
    "P@5": "precision@5",
    "R@10": "recall@10",
    "AP(rel=2)": "map-l2",
    "RR(rel=2)@10": "mrr@10-l2",
}


def draw(seed):
    """Judgements with grades 0 to 3 and a run that lacks some of their queries and has many ties."""
    rng = random.Random(seed)
    pool = [f"d{number}" for number in range(60)]
    queries = [f"q{number}" for number in range(rng.randint(2, 8))]
    qrels = {q: {d: rng.choice((0, 0, 1, 2, 3)) for d in rng.sample(pool, rng.randint(1, 25))} for q in queries}
    for grades in qrels.values():
        grades[rng.choice(pool)] = rng.randint(2, 3)  # ranx has no value where nothing is relevant
    levels = rng.choice((3, 10, 1000))  # of scores: the fewer, the more ties
    run = {q: {d: rng.randrange(levels) / 7 for d in rng.sample(pool, rng.randint(1, 50))} for q in queries}
    for query_id in rng.sample(queries, rng.randint(0, len(queries) - 1)):
        del run[query_id]
    return qrels, run | {"unjudged": {"d1": 1.0}}


DRAWN = [draw(seed) for seed in range(RUNS)]


def test_what_is_drawn_has_what_is_asked_for():
    missing = sum(not qrels.keys() <= run.keys() for qrels, run in DRAWN)
    tied = sum(any(len(set(scores.values())) < len(scores) for scores in run.values()) for _, run in DRAWN)
    graded = sum(any(len(set(grades.values())) > 2 for grades in qrels.values()) for qrels, _ in DRAWN)
    assert min(missing, tied, graded) > RUNS / 2


def test_equal_to_pytrec_eval():
    for qrels, run in DRAWN:
        ours = evaluate(run, qrels, list(TREC_EVAL))
        theirs = {
            level: pytrec_eval.RelevanceEvaluator(
                qrels, {"ndcg_cut.10", "ndcg", "recip_rank", "map", "P.5", "recall.10,20"}, relevance_level=level
            ).evaluate(run)
            for level in (1, 2)
        }
        for name, (level, their_name) in TREC_EVAL.items():
            filled = {query_id: theirs[level].get(query_id, {}).get(their_name, 0.0) for query_id in qrels}
            assert ours.per_query[name] == pytest.approx(filled, abs=1e-6), name
            assert ours.means[name] == pytest.approx(sum(filled.values()) / len(filled), abs=1e-6), name
        assert ours.missing == len(qrels.keys() - run.keys())


OF_PRESETS = {
    "nDCG@10": (1, "ndcg_cut_10"),
    "nDCG@20": (1, "ndcg_cut_20"),
    "RR@10": (1, "recip_rank"),
    "R@100": (1, "recall_100"),
    "R@1000": (1, "recall_1000"),
    "AP": (1, "map"),
    "AP(rel=2)": (2, "map"),
    "RR(rel=2)@10": (2, "recip_rank"),
}


def draw_files(seed):
    """Lines of judgements from -3 to 5, some of them twice, a topic of junk alone, and of a run that lacks queries."""
    rng = random.Random(seed)
    pool = [f"d{number}" for number in range(150)]
    queries = [f"q{number}" for number in range(rng.randint(3, 10))]
    qrels = {q: {d: rng.randint(-3, 5) for d in rng.sample(pool, rng.randint(1, 30))} for q in queries}
    qrels["junk"] = {d: rng.randint(-3, -2) for d in rng.sample(pool, 3)}
    judged = [f"{q} 0 {d} {grade}" for q, grades in qrels.items() for d, grade in grades.items()]
    judged += rng.sample(judged, rng.randint(1, 5))
    rng.shuffle(judged)
    missing = set(rng.sample(queries, rng.randint(1, len(queries) - 1)))
    levels = rng.choice((3, 10, 1000))  # of scores: the fewer, the more ties
    run = {
        q: {d: rng.randrange(levels) / 7 for d in rng.sample(pool, rng.randint(1, 140))}
        for q in qrels
        if q not in missing
    }
    rows = [f"{q} Q0 {d} 0 {score!r} t" for q, scores in run.items() for d, score in scores.items()]
    return qrels, judged, run, rows


def by_pytrec_eval(qrels, run):
    """Values of the measures for each query; 0 for queries without results and for topics of junk, which crash it."""
    sound = {query_id: grades for query_id, grades in qrels.items() if max(grades.values()) >= 0}
    wanted = {"ndcg_cut.10,20", "recip_rank", "recall.100,1000", "map"}
    theirs = {
        level: pytrec_eval.RelevanceEvaluator(sound, wanted, relevance_level=level).evaluate(run) for level in (1, 2)
    }
    values = {}
    for name, (level, their_name) in OF_PRESETS.items():
        found = {query_id: theirs[level].get(query_id, {}).get(their_name, 0.0) for query_id in qrels}
        cut = name.startswith("RR")  # their reciprocal rank has no depth
        values[name] = {query_id: 0.0 if cut and value < 0.1 else value for query_id, value in found.items()}
    return values


def test_what_is_compared_are_the_measures_of_the_presets():
    assert set(OF_PRESETS) == {name for preset in PRESETS.values() for name in preset.metrics}


def test_files_are_measured_as_pytrec_eval_does(tmp_path):
    qrels_path, run_path = tmp_path / "qrels.txt", tmp_path / "run.trec"
    largest, compared, above_0 = 0.0, 0, 0
    for seed in range(RUNS):
        qrels, judged, run, rows = draw_files(seed)
        qrels_path.write_text("\n".join(judged) + "\n", encoding="utf-8")
        run_path.write_text("\n".join(rows) + "\n", encoding="utf-8")
        ours = judge_files({"run": run_path}, read_qrels(qrels_path), list(OF_PRESETS))["run"].evaluation
        for name, theirs in by_pytrec_eval(qrels, run).items():
            values = ours.per_query[name]
            assert values.keys() == theirs.keys()
            largest = max(largest, *(abs(values[query_id] - value) for query_id, value in theirs.items()))
            assert ours.means[name] == pytest.approx(sum(theirs.values()) / len(theirs), abs=1e-9), (seed, name)
            compared, above_0 = compared + len(theirs), above_0 + sum(value > 0 for value in theirs.values())
    print(f"{compared} values of {RUNS} runs, {above_0} above 0, largest difference {largest:.2g}")
    assert largest < 1e-9
    assert above_0 > compared / 4 > 2_500


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ranx") is None, reason="ranx is missing: pip install ranx")
@pytest.mark.filterwarnings("ignore")  # of numba's, which ranx compiles with for half a minute
def test_equal_to_ranx():
    import ranx

    for qrels, run in DRAWN:
        ours = evaluate(run, qrels, list(RANX))
        places = {
            query_id: {doc_id: float(len(scores) - place) for place, (doc_id, _) in enumerate(rank(scores))}
            for query_id, scores in run.items()
        }
        judged, theirs = ranx.Qrels(qrels), ranx.Run(places)
        means = ranx.evaluate(judged, theirs, list(RANX.values()), make_comparable=True)
        for name, their_name in RANX.items():
            per_query = {query_id: float(theirs.scores[their_name][query_id]) for query_id in qrels}
            assert ours.per_query[name] == pytest.approx(per_query, abs=1e-6), name
            assert ours.means[name] == pytest.approx(float(means[their_name]), abs=1e-6), name
