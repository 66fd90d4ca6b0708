"""Filtering: each reason by example, and properties."""

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inpars.errors import ConfigError
from inpars.filtering.checks import FilterContext, FilterOptions
from inpars.filtering.filters import filter_queries as filter_with_options
from inpars.records import SyntheticQuery
from inpars.text.words import COPIED_WORDS, count_words, is_copied, words


def query(query_id="d1-q0", text="why does bread rise", log_probs=(-0.5, -0.5, -0.5, -0.5), **changes):
    made = SyntheticQuery(query_id, query_id.split("-")[0], text, tuple(log_probs), -0.1, "stop", "raw", "inpars", "lm")
    return replace(made, **changes)


def filter_queries(queries, scores=None, example_queries=(), document_text=None, **settings):
    around = FilterContext(example_queries=example_queries, document_text=document_text)
    return filter_with_options(queries, FilterOptions(**settings), around, scores)


DOCUMENT = "Bread rises because yeast eats sugar in the dough and gives off gas."
COPIED = "yeast eats sugar in the dough"
REASONS = {
    "failed": (query(finish_reason="error"), {}),
    "empty": (query(text="  "), {}),
    "no_stop": (query(finish_reason="length", stop_log_prob=None), {}),
    "too_short": (query(log_probs=(-0.5, -0.5)), {}),
    "too_long": (query(), {"max_tokens": 3}),
    "prompt_example": (query(text="How TALL is it?"), {"example_queries": ["how tall is it"]}),
    "copied": (query(text=COPIED), {}),
}


@pytest.mark.parametrize("reason", REASONS)
def test_each_reason(reason):
    wrong, settings = REASONS[reason]
    good = query("d2-q0", "how does dough grow", (-1.0, -1.0, -1.0))
    result = filter_queries([wrong, good], document_text=lambda _: DOCUMENT, **settings)
    assert dict(result.dropped) == {reason: 1}
    assert [verdict.query for verdict in result.kept] == [good]
    assert [verdict.reason for verdict in result.verdicts] == [reason, None]


def test_a_query_without_tokens_is_empty_and_scores_least():
    result = filter_queries([query(log_probs=())], min_tokens=0)
    assert dict(result.dropped) == {"empty": 1}
    assert result.verdicts[0].score == -math.inf


@pytest.mark.parametrize(
    ("reason", "switch"), [("copied", "drop_copied"), ("no_stop", "drop_unstopped"), ("duplicate", "drop_duplicates")]
)
def test_guards_can_be_switched_off(reason, switch):
    queries = {
        "copied": [query(text=COPIED)],
        "no_stop": [query(finish_reason="length")],
        "duplicate": [query(), query("d2-q0")],
    }[reason]
    assert filter_queries(queries, document_text=lambda _: DOCUMENT).dropped[reason] == 1
    assert not filter_queries(queries, document_text=lambda _: DOCUMENT, **{switch: False}).dropped


def test_of_the_same_words_the_best_stays():
    worse, best, other = (
        query("d1-q0", "Why does bread rise", (-2.0,) * 4),
        query("d2-q0", "why does bread rise?", (-1.0,) * 4),
        query("d3-q0", "how is bread baked", (-3.0,) * 4),
    )
    result = filter_queries([worse, best, other], top_k=2)
    assert [verdict.query for verdict in result.kept] == [best, other]
    assert dict(result.dropped) == {"duplicate": 1}


# mean of logs: a (-1-1)/2 = -1, b (-0.1*5)/5 = -0.1 ; sums: a -2, b -0.5 ; c one sure and one odd token
SCORED = {
    "a": (-1.0, -1.0),  # sum -2, mean -1, mean prob 0.3679
    "b": (-0.5,) * 5,  # sum -2.5, mean -0.5, mean prob 0.6065
    "c": (0.0, -3.0),  # sum -3, mean -1.5, mean prob (1 + 0.0498) / 2 = 0.5249
}


@pytest.mark.parametrize(
    ("function", "order"), [("sum_log_probs", "abc"), ("mean_log_probs", "bac"), ("mean_probs", "bca")]
)
def test_scoring_functions_by_hand(function, order):
    queries = [query(name, f"query {name}", values) for name, values in SCORED.items()]
    result = filter_queries(queries, scoring_function=function, min_tokens=1)
    assert "".join(verdict.query.query_id for verdict in result.kept) == order
    if function == "mean_probs":
        assert result.kept[1].score == pytest.approx((1 + math.exp(-3)) / 2)


def test_top_k_counts_the_rest():
    queries = [query(f"d{number}-q0", f"query number {number}", (-float(number),) * 3) for number in range(5)]
    result = filter_queries(queries, top_k=2)
    assert [verdict.query.query_id for verdict in result.kept] == ["d0-q0", "d1-q0"]
    assert dict(result.dropped) == {"below_top_k": 3}
    assert len(filter_queries(queries, top_k=9).kept) == 5


def test_equal_scores_are_ordered_by_id_not_by_place():
    queries = [query(f"d{number}-q0", f"query number {number}") for number in (2, 0, 1)]
    assert [verdict.query.query_id for verdict in filter_queries(queries, top_k=2).kept] == ["d0-q0", "d1-q0"]


def test_settings_that_cannot_work():
    with pytest.raises(ConfigError, match=r"--top-k is 0; .*at least 1"):
        filter_queries([], top_k=0)
    with pytest.raises(ConfigError, match="have no log-probabilities; have them scored"):
        filter_queries([query(), query("d2-q0", log_prob_kind="absent", log_probs=())])


TEXTS = st.sampled_from(["", "why does bread rise", "Why does bread rise?", "how is bread baked", COPIED, "tall"])
QUERIES = st.lists(
    st.builds(
        query,
        st.integers(0, 10**6).map(lambda number: f"d{number}-q0"),
        TEXTS,
        st.lists(st.floats(-5, 0), max_size=6),
        finish_reason=st.sampled_from(["stop", "length", "error"]),
    ),
    max_size=12,
    unique_by=lambda made: made.query_id,
)
SETTINGS = st.fixed_dictionaries(
    {
        "scoring_function": st.sampled_from(["sum_log_probs", "mean_log_probs", "mean_probs"]),
        "top_k": st.none() | st.integers(1, 4),
        "min_tokens": st.integers(0, 4),
        "drop_copied": st.booleans(),
        "drop_unstopped": st.booleans(),
        "drop_duplicates": st.booleans(),
    }
)


@settings(deadline=None)
@given(QUERIES, SETTINGS, st.randoms(use_true_random=False))
def test_what_always_holds(queries, chosen, shuffler: random.Random):
    result = filter_queries(queries, document_text=lambda _: DOCUMENT, **chosen)
    kept = [verdict.query for verdict in result.kept]
    assert all(one in queries for one in kept)
    assert len(kept) + result.dropped.total() == len(queries)
    assert [verdict.query for verdict in result.verdicts] == queries
    assert [verdict.score for verdict in result.kept] == sorted((v.score for v in result.kept), reverse=True)
    assert chosen["top_k"] is None or len(kept) <= chosen["top_k"]
    if chosen["drop_duplicates"]:
        assert len({words(one.text) for one in kept}) == len(kept)
    worst_kept = min((verdict.score for verdict in result.kept), default=math.inf)
    assert all(verdict.score <= worst_kept for verdict in result.verdicts if verdict.reason == "below_top_k")
    shuffled = shuffler.sample(queries, len(queries))
    again = filter_queries(shuffled, document_text=lambda _: DOCUMENT, **chosen)
    assert [verdict.query for verdict in again.kept] == kept
    assert again.dropped == result.dropped


def test_vowel_signs_are_parts_of_words():
    """Three words of Hindi, which `\\w+` cuts into seven pieces, are no copy of six words."""
    assert words("हिन्दी की किताब?") == ("हिन्दी", "की", "किताब")
    assert words("cafe\u0301 1\ufe0f\u20e3") == ("cafe\u0301", "1")
    assert not is_copied("हिन्दी की किताब", "यह हिन्दी की किताब है")


@pytest.mark.parametrize(
    ("query", "document", "copied"),
    [
        ("酵母在面团中吃糖产生气体吗?", "面包师知道, 酵母在面团中吃糖产生气体吗。是的", True),
        ("酵母在面团中吃什么产生气体?", "面包师知道, 酵母在面团中吃糖产生气体。是的", False),
        ("酵母吃糖吗", "酵母吃糖吗", False),  # too short for a copy
        ("パン生地の中で酵母は砂糖を食べます", "昔から、パン生地の中で酵母は砂糖を食べます。", True),
        ("ยีสต์กินน้ำตาลในแป้งขนมปัง", "เราเห็นว่า ยีสต์กินน้ำตาลในแป้งขนมปัง ทุกวัน", True),
    ],
)
def test_copies_in_scripts_without_spaces_are_counted_by_characters(query, document, copied):
    assert is_copied(query, document) is copied


@pytest.mark.parametrize(
    ("text", "count"),
    [("", 0), ("what does yeast eat?", 4), ("酵母吃什么", 3), ("BM25 是什么?", 3), ("हिन्दी की किताब", 3)],
)
def test_two_characters_of_scripts_without_spaces_count_as_a_word(text, count):
    assert count_words(text) == count


def test_copies_are_whole_words_and_long_enough():
    assert is_copied("Yeast eats sugar, in the dough!", DOCUMENT)
    assert not is_copied("east eats sugar in the dough", DOCUMENT)
    assert not is_copied("yeast eats sugar in the", DOCUMENT)  # five words of the six that make a copy
    assert len(words(COPIED)) == COPIED_WORDS
    assert not is_copied(COPIED, "")
