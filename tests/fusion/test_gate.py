"""The gate, and its adaptation to a collection's queries."""

import math
import random

import pytest

from inpars.fusion.choice import EASY, OFFSETS, STEPS, judged_mix, ndcg, posterior_mean, share_table
from inpars.fusion.gate import Gate, QueryFeatures, findings
from inpars.io.runs import fuse_z_scores

FLAT = Gate(intercept=0.0, lexical_coverage=0.0, dense_coverage=0.0, similarity=0.0)
FOUND = QueryFeatures(lexical_coverage=0.5, dense_coverage=0.25, similarity=0.8)


def covered(query, text):
    words = query.split()
    return sum(word in text.split() for word in words) / len(words)


def test_the_share_is_a_logistic_function_of_what_was_found():
    gate = Gate(intercept=1.0, lexical_coverage=-2.0, dense_coverage=4.0, similarity=1.0, offset=0.2)
    odds = 1 + 0.2 - 2 * 0.5 + 4 * 0.25 + 0.8
    assert gate.share(FOUND) == pytest.approx(1 / (1 + math.exp(-odds)))
    assert FLAT.share(FOUND) == 0.5
    assert 0 < FLAT.moved(-1000).share(FOUND) < FLAT.moved(1000).share(FOUND) < 1


def test_findings_are_of_the_first_documents():
    texts = {"a": "red fox", "b": "fox", "c": "hen"}
    lexical, dense = {"q": {"a": 9.0, "b": 1.0}}, {"q": {"c": 0.4, "b": 0.9}}
    features = findings({"q": "red fox", "none": "hen"}, lexical, dense, covered, texts.__getitem__)
    assert features["q"] == QueryFeatures(lexical_coverage=1.0, dense_coverage=0.5, similarity=0.9)
    assert features["none"] == QueryFeatures(lexical_coverage=0.0, dense_coverage=0.0, similarity=0.0)


def side(good, number=20):
    """Runs that rank the relevant document second in `good` and third in the other."""
    second, third = {"w": 3.0, "x": 2.0, "y": 1.0}, {"w": 3.0, "y": 2.0, "x": 1.0}
    runs = {name: {f"q{n}": second if name == good else third for n in range(number)} for name in ("lexical", "dense")}
    return runs["lexical"], runs["dense"], {f"q{n}": {"x": 1} for n in range(number)}


@pytest.mark.parametrize(("good", "sign"), [("lexical", -1), ("dense", 1)])
def test_queries_with_known_answers_move_the_gate(good, sign):
    lexical, dense, qrels = side(good)
    choice = judged_mix(FLAT, dict.fromkeys(qrels, FOUND), lexical, [dense], qrels, 3).choice
    assert choice.gate.offset * sign > 0
    assert choice.chosen > choice.before
    assert choice.curve[0 if good == "lexical" else -1] == pytest.approx(1 / math.log2(3))
    assert (choice.queries, choice.easy) == (len(qrels), 0)


def test_the_offset_follows_many_queries_and_hardly_a_few():
    best = [0.5 - 0.05 * abs(offset - 2) for offset in OFFSETS]  # best at 2, .1 below it at 0
    few, some, many = (posterior_mean(best, effective) for effective in (1, 50, 5000))
    assert 0 < few < 0.2 < some < 1.9 < many <= 2
    assert posterior_mean([0.5] * len(OFFSETS), 5000) == pytest.approx(0, abs=1e-9)


def test_a_gate_that_nothing_speaks_against_stays():
    lexical, _, qrels = side("lexical")
    choice = judged_mix(FLAT, dict.fromkeys(qrels, FOUND), lexical, [lexical], qrels, 3).choice
    assert choice.gate == FLAT
    assert (choice.before, choice.chosen, choice.equal) == pytest.approx((1 / math.log2(3),) * 3)


def test_queries_whose_document_bm25_finds_first_count_less():
    lexical, dense, qrels = side("dense")
    for query in ("q0", "q1"):
        lexical[query] = {"x": 9.0, "w": 1.0}
    choice = judged_mix(FLAT, dict.fromkeys(qrels, FOUND), lexical, [dense], qrels, 3).choice
    assert (choice.queries, choice.easy) == (len(qrels), 2)
    hard, share = 1 / math.log2(4), 2 * EASY / (len(qrels) - 2 + 2 * EASY)
    assert choice.curve[0] == pytest.approx(share + (1 - share) * hard)


def test_without_queries_nothing_is_chosen():
    choice = judged_mix(FLAT, {}, {}, [{}], {}, 100).choice
    assert (choice.gate, choice.queries) == (FLAT, 0)
    assert 0.0 in OFFSETS


def test_the_table_is_what_fusing_and_ranking_give():
    chooser = random.Random(5)

    def some():
        return {f"d{n}": float(chooser.randint(0, 9)) for n in chooser.sample(range(60), 40)}  # with ties

    lexical, *dense = ({f"q{n}": some() for n in range(12)} for _ in range(3))
    lexical["q0"] = {}
    qrels = {f"q{n}": {f"d{chooser.randrange(60)}": chooser.randint(0, 2) for _ in range(6)} for n in range(12)}
    table = share_table(list(qrels), lexical, dense, qrels)
    for row, (query_id, grades) in enumerate(qrels.items()):
        for step, value in enumerate(table[row]):
            share = step / STEPS
            runs = [{query_id: run[query_id]} for run in (lexical, *dense)]
            fused = fuse_z_scores(runs, 10, [1 - share, share / 2, share / 2])
            assert value == ndcg(fused[query_id], grades)
    assert len(set(table[:, 0])) > 4
