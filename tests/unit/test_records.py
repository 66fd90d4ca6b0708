"""Derived values of records."""

import math

import pytest

from inpars.records import Document, SyntheticQuery


def synthetic(log_probs):
    return SyntheticQuery("q", "d", "text", tuple(log_probs), None, "length", "raw", "inpars", "toy")


@pytest.mark.parametrize(
    ("document", "full_text"),
    [
        (Document("d", "body", "Title"), "Title body"),
        (Document("d", "body"), "body"),  # the InPars toolkit puts a blank before it
        (Document("d", "", "Title"), "Title"),
        (Document("d", "", ""), ""),
        (Document("d", " body "), " body "),
    ],
)
def test_full_text_joins_title_and_text(document, full_text):
    assert document.full_text == full_text


def test_scores_of_a_synthetic_query():
    # ln(1/2) + ln(1/8) = -ln 16; mean -ln 16 / 2 = -ln 4; mean probability (1/2 + 1/8) / 2 = 0.3125
    query = synthetic([math.log(0.5), math.log(0.125)])
    assert query.sum_log_probs == pytest.approx(-math.log(16))
    assert query.mean_log_probs == pytest.approx(-math.log(4))
    assert query.mean_probs == pytest.approx(0.3125)


def test_sum_is_not_the_mean():
    # InPars v1 accepted sum_log_probs and computed the mean: -1 -2 -3 = -6, mean -2
    query = synthetic([-1.0, -2.0, -3.0])
    assert (query.sum_log_probs, query.mean_log_probs) == (-6.0, -2.0)


def test_an_empty_query_sorts_last_by_every_score():
    empty = synthetic([])
    assert (empty.sum_log_probs, empty.mean_log_probs, empty.mean_probs) == (-math.inf,) * 3
