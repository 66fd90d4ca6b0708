"""Reordering the top of a run: tail, fusion, unknown ids, resuming after an interruption."""

import math
import random
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inpars.errors import BackendError, ConfigError, StaleInputError
from inpars.io.runs import rank
from inpars.records import ScoredDocument
from inpars.rerankers.rerank import apply_scores, fuse_with_first_stage, pairs_to_score, score_run

RUN = {
    "q1": {"d1": 9.0, "d2": 8.0, "d3": 7.0, "d4": 6.0},
    "q2": {"d2": 2.0, "d1": 3.0},
}
QUERIES = {"q1": "fog", "q2": "lake"}


class Texts(dict):
    def texts(self, doc_ids):
        return [self[doc_id] for doc_id in doc_ids]


TEXTS = Texts({f"d{n}": "x" * n for n in range(1, 5)})


class Lengths:
    """Scores a pair by the length of its texts and records the calls."""

    name = "lengths"

    def __init__(self):
        self.batches = []

    def score(self, pairs):
        self.batches.append(list(pairs))
        return [len(document) + len(query) / 10 for query, document in pairs]


def rerank(run, queries, texts, scorer, depth=100):
    return apply_scores(
        run, [row for batch in score_run(run, queries, texts, scorer, depth=depth) for row in batch], depth=depth
    )


def order(scores):
    return [doc_id for doc_id, _ in rank(scores)]


def test_the_top_is_reordered_and_the_tail_keeps_its_order_beneath():
    # q1: the top two, d1 (length 1, + 0.3 of "fog") and d2 (2.3), change places; d3 and d4 stay behind them
    found = rerank(RUN, QUERIES, TEXTS, Lengths(), depth=2)
    assert order(found["q1"]) == ["d2", "d1", "d3", "d4"]
    assert (found["q1"]["d2"], found["q1"]["d1"]) == (2.3, 1.3)
    # beneath 1.3: floor is 1, then one less for each
    assert (found["q1"]["d3"], found["q1"]["d4"]) == (0.0, -1.0)
    assert found["q2"] == {"d2": 2.4, "d1": 1.4}


@pytest.mark.parametrize("depth", [4, 5, 100])
def test_a_depth_beyond_the_run_scores_everything(depth):
    found = rerank(RUN, QUERIES, TEXTS, Lengths(), depth=depth)
    assert order(found["q1"]) == ["d4", "d3", "d2", "d1"]


def test_toolkit_fault_the_top_is_of_the_file_not_of_the_scores():
    # the run is stored worst first; the two best are d1 and d2 all the same
    upside_down = {"q1": dict(reversed(RUN["q1"].items()))}
    scorer = Lengths()
    rerank(upside_down, QUERIES, TEXTS, scorer, depth=2)
    assert scorer.batches == [[("fog", "x"), ("fog", "xx")]]


@pytest.mark.parametrize("depth", [0, -1])
def test_a_depth_below_one_is_refused(depth):
    with pytest.raises(ConfigError, match=rf"depth is {depth}; .*at least 1"):
        rerank(RUN, QUERIES, TEXTS, Lengths(), depth=depth)


def test_nothing_in_nothing_out():
    assert rerank({}, {}, Texts(), Lengths()) == {}
    assert rerank({"q1": {}}, QUERIES, TEXTS, Lengths()) == {"q1": {}}


def test_toolkit_fault_an_unknown_id_is_named_before_any_work():
    scorer = Lengths()
    run = {"q1": {"d1": 2.0, "gone": 1.0, "lost": 1.5}, "nobody": {"d1": 1.0}}
    with pytest.raises(StaleInputError) as caught:
        rerank(run, QUERIES, TEXTS, scorer)
    facts = r"1 queries .*\('nobody'\); 2 documents .*\('lost', 'gone'\); .*"
    assert re.fullmatch(facts, str(caught.value))
    assert scorer.batches == []


def test_documents_below_the_depth_need_not_be_in_the_corpus():
    assert order(rerank({"q1": {"d1": 2.0, "gone": 1.0}}, QUERIES, TEXTS, Lengths(), depth=1)["q1"]) == ["d1", "gone"]


def test_scores_of_another_run_are_refused():
    scored = [ScoredDocument("q1", "d1", 1.0), ScoredDocument("q2", "d1", 1.0), ScoredDocument("q2", "d2", 1.0)]
    with pytest.raises(StaleInputError, match=r"query 'q1': document 'd2' .*top 2 of the run .*no rerank"):
        apply_scores(RUN, scored, depth=2)


def test_scores_beyond_the_depth_are_not_used():
    scored = [ScoredDocument(query_id, doc_id, 5.0) for query_id, scores in RUN.items() for doc_id in scores]
    found = apply_scores({"q1": RUN["q1"]}, scored, depth=1)
    assert order(found["q1"]) == ["d1", "d2", "d3", "d4"]


def test_scores_come_in_batches_in_the_order_of_the_run():
    scorer = Lengths()
    batches = list(score_run(RUN, QUERIES, TEXTS, scorer, depth=3, pairs_per_batch=2))
    assert [[(row.query_id, row.doc_id) for row in batch] for batch in batches] == [
        [("q1", "d1"), ("q1", "d2")],
        [("q1", "d3"), ("q2", "d1")],
        [("q2", "d2")],
    ]
    assert pairs_to_score(RUN, 3) == [(row.query_id, row.doc_id) for batch in batches for row in batch]
    assert batches[0][1] == ScoredDocument("q1", "d2", 2.3)


@pytest.mark.parametrize("stored", range(4))
def test_what_an_earlier_run_scored_is_not_scored_again(stored):
    whole = [row for batch in score_run(RUN, QUERIES, TEXTS, Lengths(), depth=3, pairs_per_batch=2) for row in batch]
    kept = whole[: stored * 2]
    scorer = Lengths()
    done = {(row.query_id, row.doc_id) for row in kept}
    rest = [row for batch in score_run(RUN, QUERIES, TEXTS, scorer, depth=3, done=done) for row in batch]
    assert kept + rest == whole
    assert sum(map(len, scorer.batches)) == len(whole) - len(kept)
    assert apply_scores(RUN, kept + rest, depth=3) == rerank(RUN, QUERIES, TEXTS, Lengths(), depth=3)


def test_fusion_adds_z_scores_of_the_top_and_leaves_the_tail():
    # top three of q1: first stage 9, 8, 7: z = 1.2247, 0, -1.2247. Reranker 1.3, 2.3, 3.3: the other way round.
    # They cancel out and the tie goes by id, the larger first; the tail lies beneath 0: floor is 0, then -1
    reranked = rerank(RUN, QUERIES, TEXTS, Lengths(), depth=3)
    fused = fuse_with_first_stage(RUN, reranked, depth=3)
    assert fused["q1"] == pytest.approx({"d3": 0.0, "d2": 0.0, "d1": 0.0, "d4": -1.0})
    assert order(fused["q1"]) == ["d3", "d2", "d1", "d4"]


def test_fusion_by_reciprocal_ranks():
    # d1 is first and last of three, d2 second twice: 1/61 + 1/63 > 2/62
    reranked = rerank(RUN, QUERIES, TEXTS, Lengths(), depth=3)
    fused = fuse_with_first_stage(RUN, reranked, depth=3, fusion="rrf")
    assert fused["q1"] == {"d3": 1 / 63 + 1 / 61, "d1": 1 / 61 + 1 / 63, "d2": 2 / 62, "d4": -1.0}
    assert order(fused["q1"]) == ["d3", "d1", "d2", "d4"]


SCORES = st.dictionaries(
    st.text("abc", min_size=1, max_size=3), st.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=12
)


@given(SCORES, st.integers(1, 14), st.sampled_from([1.0, -1.0, 1e7, -1e7, 3e38, -1e38, 0.0]))
def test_the_tail_stays_behind_whatever_the_scores_and_also_in_float32(scores, depth, size):
    expected = [doc_id for doc_id, _ in rank(scores)]
    margins = {doc_id: size * random.Random(doc_id).random() for doc_id in expected[:depth]}
    found = apply_scores({"q": scores}, [ScoredDocument("q", *item) for item in margins.items()], depth=depth)["q"]
    assert order(found) == [doc_id for doc_id, _ in rank(margins)] + expected[depth:]
    tail = np.array([found[doc_id] for doc_id in expected[depth:]], dtype=np.float32)
    assert (np.diff(tail) < 0).all(), "a reader that keeps float32 sees the same order"


@pytest.mark.parametrize("score", [math.nan, math.inf])
def test_scores_that_are_no_numbers_are_refused(score):
    class Broken(Lengths):
        def score(self, pairs):
            return [1.0, score, *(1.0 for _ in pairs[2:])]

    with pytest.raises(BackendError, match=rf"query 'q1' and document 'd2' {score}.*--dtype float32"):
        rerank(RUN, QUERIES, TEXTS, Broken())
