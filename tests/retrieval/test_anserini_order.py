"""The order and scores of ties, worked out by hand."""

import math

import numpy as np
import pytest

from inpars.retrieval.lucene import Hits, cut_inside_tie, decreasing, ids_in_order, unequal_scores


def hits(*rows, depth):
    """Rows of (document, score)."""
    documents, scores = np.full((len(rows), depth), -1), np.full((len(rows), depth), -np.inf, dtype=np.float32)
    for number, row in enumerate(rows):
        for place, (document, score) in enumerate(row):
            documents[number, place], scores[number, place] = document, score
    return Hits(documents, scores, np.array([len(row) for row in rows]))


def test_equal_scores_are_ordered_by_id():
    found = hits([(4, 3.0), (1, 2.0), (2, 2.0), (3, 2.0)], [], [(7, 1.0)], depth=4)
    names = ["top", "猫", "b", "a", "lone"]
    assert ids_in_order(found, names, 3) == [["top", "a", "b"], [], ["lone"]]
    assert ids_in_order(found, names, 1) == [["top"], [], ["lone"]]


def test_a_list_is_undecided_only_where_its_last_hits_equal_the_k_th():
    tied, apart = [(0, 2.0), (1, 1.0), (2, 1.0)], [(0, 2.0), (1, 1.0), (2, 0.5)]
    whole = [(0, 1.0), (1, 1.0)]  # Lucene had no more than these
    found = hits(tied, apart, whole, [], depth=3)
    assert cut_inside_tie(found, 2) == [0]
    assert cut_inside_tie(found, 1) == []


def test_ties_are_lowered_by_a_millionth_each():
    """Rounded to 1e-4; each further hit within 1e-4 of the one before loses another 1e-6."""
    found = hits([(0, 22.087432), (1, 22.087432), (2, 22.087401), (3, 21.602508)], [(0, 1.5)], depth=4)
    scores = unequal_scores(found)
    # 22.0874, then once and twice 1e-6 less; in single precision a step at 22 is 2**-19 = 1.9e-6
    exact = [np.float32(22.0874) - np.float32(1e-6) * np.float32(lowered) for lowered in range(3)]
    assert scores[0].astype(np.float32).tolist() == [*map(float, exact), float(np.float32(21.6025))]
    assert scores[1, 0] == 1.5
    assert (np.diff(scores[0]) < 0).all()


def test_no_score_equals_the_one_before():
    scores = decreasing(np.array([[30.0, 30.0, 30.0, 2.0]], dtype=np.float32))[0]
    assert scores.tolist() == [30.0, math.nextafter(30, 0), math.nextafter(math.nextafter(30, 0), 0), 2.0]


def test_small_scores_keep_their_order():
    scores = unequal_scores(hits([(n, 0.5) for n in range(50)], depth=50))[0]
    assert (np.diff(scores) < 0).all()
    assert scores[-1] == pytest.approx(0.5 - 49e-6, abs=1e-7)
