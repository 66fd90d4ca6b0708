"""Score rules and the selection of candidates, by hand."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inpars.errors import ConfigError
from inpars.io.corpus import text_key
from inpars.negatives.rules import (
    ExcludedDocuments,
    MarginRule,
    Negative,
    RelevantDocuments,
    interleave_shuffled,
    random_documents,
    rank_window,
    select_negatives,
)
from inpars.records import Document


class Shelf(dict):
    """A corpus in memory: doc_id -> text."""

    def __getitem__(self, doc_id):
        return Document(doc_id, super().__getitem__(doc_id))

    def at(self, position):
        return self[sorted(self)[position]]

    def text_key(self, doc_id):
        return text_key(self[doc_id].full_text)


SHELF = Shelf({f"d{number}": f"text {number}" for number in range(1, 6)})
SCORES = {"d1": 9.0, "d2": 8.0, "d3": 7.0, "d4": 6.0, "d5": 5.0}


def names(candidates):
    return [candidate.doc_id for candidate in candidates]


@pytest.mark.parametrize(
    ("margin", "share", "positive", "limit"),
    [
        (2.0, None, 10.0, 8.0),
        (None, 0.9, 10.0, 9.0),
        (2.0, 0.9, 10.0, 8.0),  # both hold: the lower one
        (0.5, 0.9, 10.0, 9.0),
        (2.0, None, -10.0, -12.0),
        (None, 0.8, -10.0, -12.5),  # 0.8 of -10 would be -8, above the positive; -10 / 0.8 is below it
        (None, 0.8, 0.0, 0.0),
        (None, 1.0, -10.0, -10.0),
    ],
)
def test_limits_by_hand(margin, share, positive, limit):
    rule = MarginRule(margin, share)
    assert rule.limit(positive) == pytest.approx(limit)
    assert rule.allows(limit, positive)
    assert not rule.allows(limit + 0.001, positive)


@given(st.floats(-1e6, 1e6), st.floats(0, 100), st.floats(0.01, 1))
def test_no_limit_lies_above_the_positive(positive, margin, share):
    assert MarginRule(margin, share).limit(positive) <= positive


def test_without_a_rule_everything_passes_and_with_one_nothing_without_scores():
    assert MarginRule().allows(None, None)
    assert not MarginRule()
    rule = MarginRule(0.0)  # a margin of nothing is a rule: no better than the positive
    assert rule
    assert rule.allows(1.0, 1.0)
    assert not rule.allows(1.0, None)
    assert not rule.allows(None, 1.0)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"margin": -1.0}, "--margin is -1.0"),
        ({"margin": float("nan")}, "--margin is nan"),
        ({"max_score_share": 0.0}, "--max-score-share is 0.0; it must be above 0 and at most 1"),
        ({"max_score_share": 1.5}, "--max-score-share is 1.5"),
    ],
)
def test_rules_that_make_no_sense(settings, problem):
    with pytest.raises(ConfigError, match=problem):
        MarginRule(**settings)


def test_ranks_are_counted_without_what_is_forbidden():
    forbidden = ExcludedDocuments.of(SHELF, ["d1", "d3"])
    result = rank_window("bm25", SCORES, forbidden, SHELF, ranks=(2, 2), per_query=1)
    assert result == [Negative("d4", "bm25", rank=2, score=6.0)]  # d2 is first, d4 second


def test_a_window_beyond_a_ranking_moves_to_its_last_allowed_documents():
    shelf = Shelf(SHELF | {"d5": "text 1"})  # the last one has the positive's text
    result = rank_window("bm25", SCORES, ExcludedDocuments.of(shelf, ["d1"]), shelf, ranks=(50, 60), per_query=2)
    assert names(result) == ["d4", "d3"]


def test_sources_take_turns_and_a_document_comes_once():
    bm25 = [Negative(f"b{n}", "bm25") for n in range(4)] + [Negative("x", "bm25")]
    dense = [Negative(f"c{n}", "dense") for n in range(4)] + [Negative("x", "dense")]
    firsts = set()
    for key in range(40):
        result = list(interleave_shuffled([bm25, dense], key))
        assert len(result) == len(set(names(result))) == 9
        assert Counter(candidate.source for candidate in result[:4])["bm25"] in (2, 1, 3)
        firsts.add(result[0].source)
    assert firsts == {"bm25", "dense"}
    without = [Negative(f"b{n}", "bm25") for n in range(4)], [Negative(f"c{n}", "dense") for n in range(4)]
    assert all(
        {result[n].source, result[n + 1].source} == {"bm25", "dense"}
        for key in range(20)
        for result in [list(interleave_shuffled(without, key))]
        for n in (0, 2, 4, 6)
    )


def chosen(candidates, shelf=SHELF, forbidden=("d1",), **settings):
    skipped = Counter()
    result = select_negatives(candidates, ExcludedDocuments.of(shelf, forbidden), shelf, skipped=skipped, **settings)
    return names(result), dict(skipped)


def test_what_is_passed_over_is_counted():
    shelf = Shelf({"d1": "one", "d2": " one\n", "d3": "two", "d4": "two", "d5": "", "d6": "three"})
    candidates = [Negative(doc_id, "random") for doc_id in ("d1", "d2", "d3", "d4", "d5", "d6")]
    assert chosen(candidates, shelf, count=9) == (
        ["d3", "d6"],
        {"positive_or_relevant": 1, "text_of_a_positive": 1, "text_drawn_already": 1, "empty_text": 1},
    )
    assert chosen(candidates, shelf, count=1) == (["d3"], {"positive_or_relevant": 1, "text_of_a_positive": 1})


def test_rules_compare_scores_of_one_retriever():
    # BM25 gives the positive 10, the bi-encoder 0.5: a margin of 1 lets in at most 9, and at most -0.5
    candidates = [Negative("d2", "bm25", 1, 9.5), Negative("d3", "bm25", 2, 9.0), Negative("d4", "dense", 1, 0.4)]
    settings = {"rule": MarginRule(1.0), "positive_scores": {"bm25": 10.0, "dense": 0.5}, "count": 3}
    assert chosen(candidates, **settings) == (["d3"], {"too_near_the_positive": 2})


def test_random_documents_are_few_tries_and_all_different():
    shelf = Shelf({f"d{number}": str(number) for number in range(500)})
    result = names(random_documents(shelf, 3, count=1))
    assert len(set(result)) == len(result) == 100
    assert result == names(random_documents(shelf, 3, count=1))
    assert result != names(random_documents(shelf, 4, count=1))
    assert sorted(names(random_documents(SHELF, 3, count=1))) == sorted(SHELF)


def test_what_is_relevant_by_id_or_by_words():
    judged = RelevantDocuments()
    judged.add({"q1": "What is bread?", "q2": "???"}, {"q1": {"d1": 2, "d2": 0}, "q2": {"d4": 1}, "q9": {"d5": 1}})
    judged.add({"t1": "what IS bread"}, {"t1": {"d3": 1}})
    assert judged.relevant("q1", "") == {"d1"}
    assert judged.relevant("other", "what is, bread") == {"d1", "d3"}  # both splits
    assert judged.relevant("other", "???") == {"d4"}
    assert judged.relevant("q9", "unknown words") == {"d5"}  # a judged query whose text is not known
    assert judged.relevant("other", "") == frozenset()
