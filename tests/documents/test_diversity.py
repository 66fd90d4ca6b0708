"""Diverse documents: one per cluster of embeddings, independent of the corpus order."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inpars.documents.selection import CANDIDATES, choose_documents
from inpars.errors import ConfigError
from inpars.filtering.clusters import central_positions
from inpars.options import check
from inpars.records import Document
from inpars.stages.generate import GenerateOptions


def test_one_of_each_group_the_most_central():
    """Three groups on a line: around 0, 10 and 20; the mean of each is nearest to its middle document."""
    points = np.array([[0.0], [10.0], [20.0], [1.0], [11.0], [21.0], [-1.0], [9.0], [19.0]], dtype=np.float32)
    assert central_positions(points, 3, seed=0).tolist() == [0, 1, 2]


def test_equal_documents_make_up_the_number():
    points = np.zeros((6, 4), dtype=np.float32)
    assert central_positions(points, 3, seed=0).tolist() == sorted({*central_positions(points, 3, seed=0).tolist()})
    assert len(central_positions(points, 3, seed=0)) == 3


@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 5))
def test_as_many_as_are_wanted_each_once(total, count, seed):
    points = np.random.default_rng(seed).normal(size=(total, 3)).astype(np.float32)
    places = central_positions(points, count, seed).tolist()
    assert len(places) == min(total, count)
    assert places == sorted({*places})
    assert places == central_positions(points, count, seed).tolist()


def test_a_pick_sees_ten_times_as_many_as_are_wanted():
    documents = [Document(f"d{number}", f"text {number}") for number in range(100)]
    seen = []

    def pick(offered, count):
        seen.append([document.doc_id for document in offered])
        return [place for place, document in enumerate(offered) if document.doc_id in seen[0][:count]]

    chosen = choose_documents(documents, maximum=3, seed=1, pick=pick)
    assert len(seen[0]) == 3 * CANDIDATES
    assert [document.doc_id for document in chosen.documents] == seen[0][:3]
    assert chosen.dropped == {"not_sampled": 97}
    known = {document.doc_id for document in choose_documents(documents, maximum=3 * CANDIDATES, seed=1).documents}
    assert {*seen[0]} == known  # the uniform sample of that size
    assert len(choose_documents(documents, maximum=100, pick=pick).documents) == 100


@pytest.mark.parametrize(
    ("settings", "problem"),
    [({}, "--max-documents"), ({"max_documents": 5, "skip_near_duplicates": True}, "--skip-near-duplicates")],
)
def test_what_does_not_go_together(settings, problem):
    with pytest.raises(ConfigError, match=problem):
        check(GenerateOptions(select_documents="diverse", **settings))
