"""Near-duplicate queries: similarity, error of the estimate, and that the order decides which one stays."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inpars.filtering.known_queries import BLOCK, MAX_COMPARED, KnownQueries
from inpars.text.minhash import HASHES, near_duplicates, sketch_queries
from inpars.text.words import words, words_key

LONG = "how does the gluten in dough hold the gas that yeast gives off while it rises"


def similar(*texts, threshold=0.8):
    return near_duplicates(sketch_queries([words(text) for text in texts]), threshold).tolist()


def test_one_word_more_is_near_and_another_question_is_not():
    assert similar(LONG, f"and {LONG}", "how are glaciers formed in the alps") == [False, True, False]
    assert similar("type 1 diabetes diet", "type 2 diabetes diet") == [False, False]
    assert similar("a b", "b a") == [False, False], "the order of words counts"


def test_the_first_in_order_stays_and_a_dropped_one_drops_nobody():
    # each lacks two words more of a long query: similarities 0.87 and 0.85, of the first and the third 0.74
    texts = [LONG.split()[number:] for number in (0, 2, 4)]
    assert similar(*map(" ".join, texts)) == [False, True, False]
    assert similar(*map(" ".join, texts[1:])) == [False, True]


def test_queries_without_words_do_not_break_it():
    assert similar("???", "why", "") == [False, False, True]
    assert near_duplicates(sketch_queries([]), 0.8).tolist() == []


def jaccard(one, other):
    def features(text):
        return {(word,) for word in text} | set(itertools.pairwise(text))

    return len(features(one) & features(other)) / len(features(one) | features(other))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.sampled_from("abcdefghij"), min_size=1, max_size=12), min_size=2, max_size=2))
def test_sketches_estimate_the_share_of_words_and_pairs(texts):
    one, other = sketch_queries(texts)
    # the standard deviation of 64 minima is at most 0.0625; five of them
    assert float((one == other).mean()) == pytest.approx(jaccard(*texts), abs=0.32)


def test_equal_words_have_equal_sketches_in_any_block():
    texts = [words(f"query number {number} about bread") for number in range(50)]
    assert sketch_queries(texts).shape == (50, HASHES)
    assert np.array_equal(sketch_queries(texts)[20:23], sketch_queries(texts[20:23]))


def test_known_queries_of_several_blocks():
    known = KnownQueries([f"query number {number}" for number in range(BLOCK + 3)], 0.8)
    texts = [words(f"Query number {number}.") for number in (0, BLOCK - 1, BLOCK, BLOCK + 2, BLOCK + 3)]
    keys = np.array([words_key(text) for text in texts], dtype=np.uint64)
    assert known.resembled(keys, sketch_queries(texts)).tolist() == [True, True, True, True, False]


def test_known_queries_are_recognised_equal_or_nearly():
    known = KnownQueries([LONG, "what is bread"], 0.8)
    texts = [words(text) for text in (f"and {LONG}", "What is bread?", "how are glaciers formed", "")]
    keys = np.array([words_key(text) for text in texts], dtype=np.uint64)
    assert known.resembled(keys, sketch_queries(texts)).tolist() == [True, True, False, False]
    assert not KnownQueries([], 0.8).resembled(keys, sketch_queries(texts)).any()


def test_many_queries_of_one_band_stay_quick():
    """Every query shares most words with all others; only some of them are compared."""
    texts = [words(f"what is the use of {number} in the making of bread and of cake") for number in range(3000)]
    result = near_duplicates(sketch_queries(texts), 0.95, MAX_COMPARED)
    assert 0 <= result.sum() < 3000
