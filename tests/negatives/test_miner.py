"""Mining block by block: never a relevant document, and the same draw in any block."""

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_rules import Shelf

from inpars.batches import chunks
from inpars.errors import ConfigError
from inpars.io.runs import rank
from inpars.negatives.miner import SOURCES, MiningConfig, NegativeMiner, QueryWithPositives, parse_ranks
from inpars.negatives.rules import MarginRule, RelevantDocuments
from inpars.records import Document, Query, Triple
from inpars.text.words import words

RUN = {"q1": {"d1": 9.0, "d2": 8.0, "d3": 7.0, "d4": 6.0, "d5": 5.0}}
SHELF = Shelf({f"d{number}": f"text {number}" for number in range(1, 6)})


def finds(run):
    """A retriever with these results."""

    def search(queries, depth, pairs):
        result = {query.query_id: dict(rank(run.get(query.query_id, {}), depth)) for query in queries}
        return result, {(q, d): result[q][d] for q, d in pairs if d in result[q]}

    return search


def asked(positives):
    return [
        QueryWithPositives(Query(query_id, f"about {query_id}"), (positive,) if isinstance(positive, str) else positive)
        for query_id, positive in positives.items()
    ]


def mine(positives, run=None, shelf=SHELF, *, size=500, judged=None, scorer=None, dense=None, own=(), **draw):
    searches = {"bm25": finds(RUN if run is None else run), "dense": finds(dense or {})}
    miner = NegativeMiner(
        shelf, MiningConfig(**draw), searches, judged=judged, scorer=scorer, document_queries=lambda _: own
    )
    mined = [one for block in chunks(asked(positives), size) for one in miner.mine(block)[0]]
    return mined, miner.counts


def triples(*arguments, **settings):
    return [triple for one in mine(*arguments, **settings)[0] for triple in one.triples]


def drawn(*arguments, **settings):
    return [triple.negative_doc_id for triple in triples(*arguments, **settings)]


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
    assert {drawn({"q1": "d3"}, ranks=ranks, seed=seed)[0] for seed in range(30)} == negatives


def test_the_positive_is_never_its_own_negative():
    """Toolkit fault: the document a query was written for, mostly BM25's first, was drawn as its negative."""
    assert drawn({"q1": "d1"}, {"q1": {"d1": 9.0, "d2": 1.0}}, ranks=(1, 2), per_query=5) == ["d2"]
    assert "d1" not in drawn({"q1": "d1"}, per_query=5)


def test_documents_of_the_positives_text_are_no_negatives():
    shelf = Shelf({"d1": "one  text", "d2": "one text\n", "d3": "another", "d4": "one text", "d5": "a third"})
    assert set(drawn({"q1": "d1"}, shelf=shelf, per_query=5)) == {"d3", "d5"}


def test_negatives_above_the_window_are_counted():
    assert mine({"q1": "d3"}, ranks=(50, 100), per_query=2)[1].above_window == 2  # d5 and d4, ranks 4 and 3
    assert mine({"q1": "d3"}, ranks=(4, 100))[1].above_window == 0


def test_an_empty_query_drops_its_own_rows_only():
    """Toolkit fault: a query that found nothing shifted every later query onto another one's documents."""
    run = {"q1": {"d1": 2.0, "d2": 1.0}, "q2": {}, "q3": {"d3": 2.0, "d4": 1.0}, "q5": {"d5": 1.0}}
    mined, counts = mine({"q1": "d1", "q2": "d2", "q3": "d3", "q4": "d4", "q5": "d5"}, run)
    assert [triple for one in mined for triple in one.triples] == [Triple("q1", "d1", "d2"), Triple("q3", "d3", "d4")]
    assert dict(counts.dropped) == {"no_negatives": 3}  # nothing found, not in the run, nothing but the positive
    assert counts.not_retrieved == 2


def test_queries_and_documents_without_text_are_dropped():
    shelf = Shelf(SHELF | {"d2": " \n"})
    miner = NegativeMiner(shelf, MiningConfig(), {"bm25": finds(RUN | {"q2": RUN["q1"], "q3": RUN["q1"]})})
    mined, _ = miner.mine([QueryWithPositives(Query("q1", "  "), ("d1",)), *asked({"q2": "d2", "q3": "d3"})])
    assert [one.query.query_id for one in mined] == ["q3"]
    assert dict(miner.counts.dropped) == {"empty_query": 1, "empty_document": 1}


def test_a_short_ranking_gives_what_it_has():
    assert sorted(drawn({"q1": "d1"}, per_query=50)) == ["d2", "d3", "d4", "d5"]
    assert drawn({"q1": "d1"}, ranks=(50, 60), per_query=2) != []


def test_a_margin_by_hand():
    # the positive d2 scores 8: a margin of 1.5 lets in at most 6.5, d4 and d5
    mined, counts = mine({"q1": "d2"}, rule=MarginRule(1.5), per_query=9)
    assert sorted(negative.doc_id for negative in mined[0].negatives) == ["d4", "d5"]
    assert {(negative.rank, negative.score, negative.positive_score) for negative in mined[0].negatives} == {
        *((3, 6.0, 8.0), (4, 5.0, 8.0))
    }
    assert dict(counts.skipped) == {"too_near_the_positive": 2}
    assert mine({"q1": "d5"}, rule=MarginRule(1.5))[1].dropped == {"too_near_the_positive": 1}


def test_without_the_positives_score_no_rule_lets_anything_in():
    # d9 is not found, so BM25 holds it for no better than any of those found
    shelf = Shelf(SHELF | {"d9": "text 9"})
    mined, counts = mine({"q1": "d9"}, shelf=shelf, rule=MarginRule(0.0))
    assert (mined, dict(counts.dropped), counts.not_retrieved) == ([], {"positive_not_retrieved": 1}, 1)
    assert drawn({"q1": "d9"}, shelf=shelf) != []


def test_the_round_trip():
    assert drawn({"q1": "d3"}, positive_within=3) != []
    mined, counts = mine({"q1": "d3"}, positive_within=2)
    assert (mined, dict(counts.dropped)) == ([], {"positive_not_retrieved": 1})
    assert mine({"q1": "d3"}, positive_within=2, negatives="random")[1].dropped == {"positive_not_retrieved": 1}


def test_both_sources_give_half_each_and_a_document_once():
    dense = {"q1": {"d1": 0.9, "d6": 0.8, "d7": 0.7, "d2": 0.6}}
    shelf = Shelf(SHELF | {"d6": "six", "d7": "seven"})
    for seed in range(20):
        _, counts = mine({"q1": "d1"}, shelf=shelf, dense=dense, negatives="both", per_query=2, seed=seed)
        assert dict(counts.sources) == {"bm25": 1, "dense": 1}
    result = drawn({"q1": "d1"}, shelf=shelf, dense=dense, negatives="both", per_query=9)
    assert sorted(result) == ["d2", "d3", "d4", "d5", "d6", "d7"]


def test_every_relevant_document_is_a_positive_and_no_others_negative():
    result = triples({"q1": ("d1", "d3")}, per_query=9)
    assert {triple.positive_doc_id for triple in result} == {"d1", "d3"}
    assert {triple.negative_doc_id for triple in result} == {"d2", "d4", "d5"}


def test_relevant_documents_make_room_in_the_ranking():
    judged = RelevantDocuments()
    judged.add({}, {"q1": {"d2": 1, "d3": 1}})
    # ranks 1-1 ask for 2 documents, and for 2 more because two are judged relevant: d4 is the first that is left
    assert drawn({"q1": "d1"}, judged=judged, ranks=(1, 1)) == ["d4"]


def test_a_query_that_is_a_document_is_not_its_own_negative():
    run = {"d2": RUN["q1"]}
    assert "d2" in drawn({"d2": "d1"}, run, per_query=9)
    assert sorted(drawn({"d2": "d1"}, run, per_query=9, own={"d2"})) == ["d3", "d4", "d5"]


class Numbers:
    """Scores a pair by the number in the document's text, 10 times for even ones; records the pairs."""

    name = "numbers"

    def __init__(self):
        self.asked = []

    def score(self, pairs):
        self.asked += pairs
        numbers = [int(document.split()[1]) for _, document in pairs]
        return [float(number * (10 if number % 2 == 0 else 1)) for number in numbers]


def test_a_reranker_scores_candidates_and_the_rule_is_held_against_its_scores():
    # scores: d1 1, d2 20, d3 3, d4 40, d5 5; positive d3, at most 3 - 1: d1 alone, though BM25 puts it above d3
    scorer = Numbers()
    mined, counts = mine({"q1": "d3"}, scorer=scorer, rule=MarginRule(1.0), per_query=3)
    assert [negative.record("q1", "d3") for negative in mined[0].negatives] == [
        {
            "query_id": "q1",
            "positive_doc_id": "d3",
            "negative_doc_id": "d1",
            "source": "bm25",
            "rank": 1,
            "score": 9.0,
            "positive_score": 7.0,
            "reranker_score": 1.0,
            "positive_reranker_score": 3.0,
        }
    ]
    assert sorted(scorer.asked) == [("about q1", f"text {number}") for number in range(1, 6)]  # each once
    assert dict(counts.skipped) == {"too_near_the_positive": 3}
    assert mine({"q1": "d1"}, scorer=Numbers(), rule=MarginRule(1.0))[1].dropped == {"too_near_the_positive": 1}


def test_so_many_candidates_are_scored():
    scorer = Numbers()
    mined, _ = mine({"q1": "d3"}, scorer=scorer, rescore_candidates=2, per_query=1)
    assert len(scorer.asked) == 3  # two candidates and the positive
    assert len(mined[0].negatives) == 1


IDS = ["d1", "d 2", "ü", "null", "NA", "文書", "d7", "d1-q0"]
TEXTS = ["", "  ", "null", "NA", "bread", "bread ", "Bread", "why bread rises", "why bread rises\n", "fish"]
SHELVES = st.dictionaries(st.sampled_from(IDS), st.sampled_from(TEXTS), min_size=1).map(Shelf)
DRAWS = st.builds(
    MiningConfig,
    negatives=st.sampled_from(list(SOURCES)),
    ranks=st.tuples(st.integers(1, 4), st.integers(0, 6)).map(lambda pair: (pair[0], sum(pair))),
    per_query=st.integers(1, 3),
    positive_within=st.none() | st.integers(1, 8),
    rule=st.builds(MarginRule, st.none() | st.floats(0, 4), st.none() | st.floats(0.1, 1)),
    rescore_candidates=st.integers(1, 4),
    seed=st.integers(0, 9),
)
GRADES = st.dictionaries(st.sampled_from(IDS), st.integers(-1, 2))


class Noise:
    """Pseudo-random scores, also negative, that depend only on the texts."""

    name = "noise"

    def score(self, pairs):
        return [zlib.crc32(repr(pair).encode()) % 9 - 4.0 for pair in pairs]


def noisy(shelf, salt):
    """A retriever that finds three quarters of all documents in pseudo-random order."""

    def search(queries, depth, pairs):
        run = {}
        for query in queries:
            marks = {doc_id: zlib.crc32(f"{salt}{query.text}{doc_id}".encode()) for doc_id in shelf}
            scores = {doc_id: mark % 9 - 4.0 for doc_id, mark in marks.items() if mark % 4}
            run[query.query_id] = dict(rank(scores, depth))
        return run, {(q, d): run[q][d] for q, d in pairs if d in run[q]}

    return search


@st.composite
def cases(draw):
    """An adversarial corpus, queries about its documents, some with the words of judged ones."""
    shelf = draw(SHELVES)
    ids = st.sampled_from(sorted(shelf))
    count = draw(st.integers(1, 5))
    queries = [
        QueryWithPositives(
            Query(draw(st.sampled_from([f"q{n}", f"d1-q{n}"])) + f"-{n}", draw(st.sampled_from(TEXTS))), positives
        )
        for n in range(count)
        for positives in [tuple(draw(st.lists(ids, min_size=1, max_size=2, unique=True)))]
    ]
    judged_texts = draw(st.dictionaries(st.sampled_from(["q0-0", "q1-1", "t"]), st.sampled_from(TEXTS)))
    qrels = {query_id: draw(GRADES) for query_id in judged_texts}
    return shelf, queries, judged_texts, qrels


def all_mined(case, draw, rescored, size, order):
    shelf, _, judged_texts, qrels = case
    judged = RelevantDocuments()
    judged.add(judged_texts, qrels)
    searches = {"bm25": noisy(shelf, "b"), "dense": noisy(shelf, "d")}
    miner = NegativeMiner(shelf, draw, searches, judged=judged, scorer=Noise() if rescored else None)
    mined = [one for block in chunks(order, size) for one in miner.mine(block)[0]]
    return {(one.query.query_id, one.positive.doc_id): list(one.negatives) for one in mined}, miner.counts


@given(cases(), DRAWS, st.booleans(), st.integers(1, 5), st.randoms(use_true_random=False))
def test_no_triple_breaks_a_rule_on_adversarial_corpora(case, draw, rescored, size, shuffler):
    shelf, queries, judged_texts, qrels = case
    result, counts = all_mined(case, draw, rescored, 500, queries)
    by_id = {one.query.query_id: one for one in queries}
    for (query_id, positive), negatives in result.items():
        text = by_id[query_id].query.text
        relevant = {positive, *by_id[query_id].positives} | {
            doc_id
            for judged_id, grades in qrels.items()
            if judged_id == query_id or words(judged_texts[judged_id]) == words(text) != ()
            for doc_id, relevance in grades.items()
            if relevance > 0
        }
        squeezed = [" ".join(shelf[doc_id].full_text.split()) for doc_id in relevant if doc_id in shelf]
        assert 1 <= len(negatives) <= draw.per_query
        for negative in negatives:
            assert negative.doc_id not in relevant
            assert " ".join(shelf[negative.doc_id].full_text.split()) not in squeezed
            own = negative.reranker_score if rescored else negative.score
            against = negative.positive_reranker_score if rescored else negative.positive_score
            if draw.rule:
                assert own <= against
                assert draw.rule.margin is None or own <= against - draw.rule.margin
        assert len({shelf.text_key(negative.doc_id) for negative in negatives}) == len(negatives)
    assert len(result) + counts.dropped.total() == sum(len(one.positives) for one in queries) == counts.pairs
    # any block size and order of the input: the same draw
    again, _ = all_mined(case, draw, rescored, size, shuffler.sample(queries, len(queries)))
    assert again == result


def test_a_draw_depends_on_the_seed_and_its_own_query_alone():
    run = {f"q{number}": RUN["q1"] for number in range(20)}
    everything = triples(dict.fromkeys(run, "d1"), run, seed=3)
    assert [triples({query_id: "d1"}, run, seed=3)[0] for query_id in run] == everything
    assert len({triple.negative_doc_id for triple in everything}) > 1
    assert triples(dict.fromkeys(run, "d1"), run, seed=4) != everything


@pytest.mark.parametrize(("text", "ranks"), [("1-100", (1, 100)), ("7-7", (7, 7)), ("10-1000", (10, 1000))])
def test_ranks_are_parsed(text, ranks):
    assert parse_ranks(text) == ranks


@pytest.mark.parametrize("text", ["", "5", "0-9", "9-5", "a-b", "1-", "-5", "1-2-3", "1.5-2", "²-³"])
def test_ranks_that_make_no_sense(text):
    with pytest.raises(ConfigError, match=r"--ranks is .*; .*1-100"):
        parse_ranks(text)


def test_at_least_one_negative_is_drawn():
    with pytest.raises(ConfigError, match=r"--per-query is 0; .*at least 1"):
        MiningConfig(per_query=0)


class Titled(Shelf):
    """Documents with titles: doc_id -> (title, text)."""

    def __getitem__(self, doc_id):
        title, text = dict.__getitem__(self, doc_id)
        return Document(doc_id, text, title)


def test_a_query_that_is_a_heading_is_mined_without_titles_and_not_below_itself():
    shelf = Titled(
        {"d1": ("Hot Bread", "one"), "d2": ("Hot Bread", "two"), "d3": ("Bread", "three"), "d4": ("Hot", "")}
    )
    run = {"q1": {"d1": 4.0, "d2": 3.0, "d3": 2.0, "d4": 1.0}}
    for may_stand_above, result in ((True, ["d3"]), (False, ["d2", "d3", "d4"])):
        query = QueryWithPositives(Query("q1", "hot bread!"), ("d1",), may_stand_above)
        miner = NegativeMiner(shelf, MiningConfig(per_query=5), {"bm25": finds(run)})
        (mined,), _ = miner.mine([query])
        assert sorted(triple.negative_doc_id for triple in mined.triples) == result
        assert mined.text_of(mined.positive) == ("one" if may_stand_above else "Hot Bread one")
        reasons = {"below_the_same_heading": 1, "empty_text": 1} if may_stand_above else {}
        assert miner.counts.skipped == reasons
    miner = NegativeMiner(shelf, MiningConfig(per_query=5), {"bm25": finds(run)})
    (other,), _ = miner.mine([QueryWithPositives(Query("q1", "warm loaf"), ("d1",), True)])  # an FAQ's own question
    assert other.text_of(other.positive) == "Hot Bread one"
