"""Negatives: never the positive, never its text, the same draw whatever else is asked for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inpars.errors import ConfigError
from inpars.records import Triple
from inpars.triples import mine_triples, parse_ranks

RUN = {"q1": {"d1": 9.0, "d2": 8.0, "d3": 7.0, "d4": 6.0, "d5": 5.0}}


def drawn(positives, run, **settings):
    return [
        triple.negative_doc_id for triple in mine_triples(positives, run, lambda doc_id: doc_id, **settings).triples
    ]


@pytest.mark.parametrize(
    ("ranks", "negatives"),
    [
        ((1, 1), {"d1"}),  # the positive d3 is taken out before ranks are counted
        ((3, 3), {"d4"}),
        ((2, 3), {"d2", "d4"}),
        ((3, 100), {"d4", "d5"}),  # a window longer than the ranking
        ((50, 100), {"d5"}),  # a window beyond it is moved to its end
    ],
)
def test_the_rank_window_by_hand(ranks, negatives):
    found = {drawn({"q1": "d3"}, RUN, ranks=ranks, seed=seed)[0] for seed in range(30)}
    assert found == negatives


def test_the_positive_is_never_its_own_negative():
    """Toolkit fault: the document a query was written for, mostly BM25's first, was drawn as its negative."""
    assert drawn({"q1": "d1"}, {"q1": {"d1": 9.0, "d2": 1.0}}, ranks=(1, 2), per_query=5) == ["d2"]
    assert "d1" not in drawn({"q1": "d1"}, RUN, per_query=5)


def test_documents_of_the_positives_text_are_no_negatives():
    texts = {"d1": "one  text", "d2": "one text\n", "d3": "another", "d4": "one text", "d5": "a third"}
    mined = mine_triples({"q1": "d1"}, RUN, texts.__getitem__, per_query=5)
    assert {triple.negative_doc_id for triple in mined.triples} == {"d3", "d5"}


def test_an_empty_query_drops_its_own_rows_only():
    """Toolkit fault: a query that found nothing shifted every later query onto another one's documents."""
    run = {"q1": {"d1": 2.0, "d2": 1.0}, "q2": {}, "q3": {"d3": 2.0, "d4": 1.0}, "q5": {"d5": 1.0}}
    mined = mine_triples({"q1": "d1", "q2": "d2", "q3": "d3", "q4": "d4", "q5": "d5"}, run, lambda doc_id: doc_id)
    assert mined.triples == [Triple("q1", "d1", "d2"), Triple("q3", "d3", "d4")]
    assert dict(mined.dropped) == {"no_negatives": 3}  # nothing found, not in the run, nothing but the positive


def test_a_short_ranking_gives_what_it_has():
    assert sorted(drawn({"q1": "d1"}, RUN, per_query=50)) == ["d2", "d3", "d4", "d5"]
    assert drawn({"q1": "d1"}, RUN, ranks=(50, 60), per_query=2) != []


IDS = [f"d{number}" for number in range(12)]
RUNS = st.dictionaries(
    st.sampled_from([f"q{number}" for number in range(6)]), st.dictionaries(st.sampled_from(IDS), st.floats(0, 9))
)
WINDOWS = st.tuples(st.integers(1, 6), st.integers(0, 8)).map(lambda pair: (pair[0], sum(pair)))


@given(RUNS, WINDOWS, st.integers(1, 4), st.integers(0, 99), st.randoms(use_true_random=False))
def test_what_always_holds(run, ranks, per_query, seed, shuffler):
    positives = dict.fromkeys(run, "d0")
    texts = {doc_id: str(number // 2) for number, doc_id in enumerate(IDS)}  # d0 and d1 are twins, d2 and d3, ...
    settings = {"ranks": ranks, "per_query": per_query, "seed": seed}
    mined = mine_triples(positives, run, texts.__getitem__, **settings)
    assert all(triple.negative_doc_id not in ("d0", "d1") for triple in mined.triples)
    assert all(triple.negative_doc_id in run[triple.query_id] for triple in mined.triples)
    assert len(set(mined.triples)) == len(mined.triples)
    served = {triple.query_id for triple in mined.triples}
    assert len(served) + mined.dropped.total() == len(positives)
    assert all(sum(t.query_id == query_id for t in mined.triples) <= per_query for query_id in served)
    order = shuffler.sample(list(run), len(run))
    again = mine_triples({q: positives[q] for q in order}, {q: run[q] for q in order}, texts.__getitem__, **settings)
    assert set(again.triples) == set(mined.triples)


def test_a_draw_depends_on_the_seed_and_its_own_query_alone():
    run = {f"q{number}": RUN["q1"] for number in range(20)}
    everything = mine_triples(dict.fromkeys(run, "d1"), run, lambda doc_id: doc_id, seed=3).triples
    alone = [mine_triples({query_id: "d1"}, run, lambda doc_id: doc_id, seed=3).triples[0] for query_id in run]
    assert alone == everything
    assert len({triple.negative_doc_id for triple in everything}) > 1
    assert mine_triples(dict.fromkeys(run, "d1"), run, lambda doc_id: doc_id, seed=4).triples != everything


@pytest.mark.parametrize(("text", "ranks"), [("1-100", (1, 100)), ("7-7", (7, 7)), ("10-1000", (10, 1000))])
def test_ranks_are_parsed(text, ranks):
    assert parse_ranks(text) == ranks


@pytest.mark.parametrize("text", ["", "5", "0-9", "9-5", "a-b", "1-", "-5", "1-2-3", "1.5-2"])
def test_ranks_that_make_no_sense(text):
    with pytest.raises(ConfigError, match=r"--ranks is .*; write the first and the last rank, 1-100 for instance"):
        parse_ranks(text)


def test_at_least_one_negative_is_drawn():
    with pytest.raises(ConfigError, match="--per-query is 0; it must be at least 1"):
        mine_triples({}, {}, str, per_query=0)
