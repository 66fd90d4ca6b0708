"""Dev sets without leakage, metrics by hand, the best weights, and the warning when training hurts."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inpars.errors import ConfigError
from inpars.training.examples import TripleTexts
from inpars.training.loop import Curve
from inpars.training.validation import (
    BestWeights,
    DevSet,
    hold_out,
    reranking_value,
    searching_value,
    validation_results,
    worse_than_start,
)

DEV = DevSet(
    {"1": "one", "2": "two"},
    {"1": ["a", "b"], "2": ["b", "c"]},
    {"a": "A", "b": "B", "c": "C"},
    {"1": {"a": 1}, "2": {"c": 1}},
)


def rows(count=40):
    return [TripleTexts(f"q{n}", f"p{n // 2}", f"n{n}-{m}") for n in range(count) for m in range(2)]


class Scorer:
    """Looks up a document's score in a table."""

    name = "table"

    def __init__(self, table):
        self.table = table

    def score(self, pairs):
        return [self.table[pair] for pair in pairs]


def test_the_value_of_a_reranking_by_hand():
    # query 1 has its document first: 1; query 2 second: 1 / log2(3) = .63093; mean .81546
    scorer = Scorer({("one", "A"): 2.0, ("one", "B"): 1.0, ("two", "B"): 5.0, ("two", "C"): 4.0})
    assert reranking_value(DEV, scorer) == pytest.approx(0.81546, abs=1e-5)


def test_the_value_of_a_search_is_among_the_candidates_of_all_queries():
    # query 1: b c a, third: 1 / log2(4) = .5; query 2: c first: 1
    asked = []

    def similarities(queries, documents):
        asked.append((queries, documents))
        return torch.tensor([[0.1, 0.9, 0.5], [0.0, 0.1, 0.2]])

    assert searching_value(DEV, similarities) == pytest.approx(0.75)
    assert asked == [(["one", "two"], ["A", "B", "C"])]


def test_a_query_whose_document_is_no_candidate_scores_zero():
    dev = DevSet(DEV.queries, DEV.candidates | {"2": ["b"]}, DEV.texts, DEV.qrels)
    scorer = Scorer({("one", "A"): 2.0, ("one", "B"): 1.0, ("two", "B"): 5.0})
    assert reranking_value(dev, scorer) == 0.5


@given(
    st.lists(st.tuples(*(st.text("abc", min_size=1, max_size=2) for _ in range(3))), min_size=1, max_size=40),
    st.integers(0, 5),
    st.integers(2, 9),
)
@settings(max_examples=60, deadline=None)
def test_no_document_or_query_is_on_both_sides(texts, seed, depth):
    triples = [TripleTexts(*row) for row in texts]
    try:
        train, dev = hold_out(triples, depth=depth, seed=seed)
    except ConfigError:
        return
    positives = {dev.texts[doc_id] for judged in dev.qrels.values() for doc_id in judged}
    assert not positives & {row.positive for row in train}
    assert not set(dev.queries.values()) & {row.query for row in train}
    assert set(train) <= set(triples)
    assert dev.queries.keys() == dev.candidates.keys() == dev.qrels.keys()
    for query_id, judged in dev.qrels.items():
        assert set(judged) <= set(dev.candidates[query_id])
        assert len(set(dev.candidates[query_id])) == len(dev.candidates[query_id])


def test_a_twentieth_of_the_documents_is_held_out_with_its_queries():
    # 20 documents of 2 queries: one document, two queries with 1 positive, 2 negatives and one of the other's
    train, dev = hold_out(rows(), depth=4, seed=1)
    assert len(train) == 80 - 4
    assert [len(found) for found in dev.candidates.values()] == [4, 4]
    assert dev.describe() == "2 synthetic dev queries"
    assert hold_out(rows(), depth=4, seed=1) == (train, dev)
    assert hold_out(rows()[::-1], depth=4, seed=1)[1].queries == dev.queries, "the order of lines chooses nothing"


def test_at_most_two_hundred_queries_are_held_out():
    many = [TripleTexts(f"q{n}", f"p{n // 2}", "n") for n in range(20_000)]
    train, dev = hold_out(many, depth=3, seed=0)
    assert len(dev.queries) == 200
    assert len(train) == 20_000 - 400


def test_one_document_cannot_be_split():
    with pytest.raises(ConfigError, match=r"1 documents .*too few .*--dev-queries"):
        hold_out([TripleTexts("q", "p", "n")], depth=5, seed=0)


def test_the_best_weights_come_back(tmp_path):
    network = torch.nn.Linear(1, 1)
    network.bias.requires_grad_(False)
    values = iter([0.2, 0.5, 0.5, 0.1])
    best = BestWeights(network, lambda: next(values), tmp_path)
    for weight in (1.0, 2.0, 3.0, 4.0):
        with torch.no_grad():
            network.weight.fill_(weight)
            network.bias.fill_(weight)
        best()
    assert best.best == 0.5
    BestWeights(network, lambda: 0.0, tmp_path).restore()  # as after a restart
    assert network.weight.item() == 2.0, "the earliest of equals"
    assert network.bias.item() == 4.0, "what is not trained is not kept"


def test_without_a_value_nothing_is_restored(tmp_path):
    network = torch.nn.Linear(1, 1)
    before = network.weight.item()
    BestWeights(network, lambda: 0.0, tmp_path).restore()
    assert network.weight.item() == before


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([], False),
        ([0.5], False),
        ([0.5, 0.4], True),
        ([0.5, 0.5, 0.4], True),
        ([0.5, 0.5], False),
        ([0.5, 0.6, 0.4], False),  # a better one was kept
        ([0.5, 0.6], False),
    ],
)
def test_capitals_where_the_start_was_best_and_the_end_worse(values, said):
    curve = Curve([1], [1.0], list(range(len(values))), values)
    warning = worse_than_start(curve)
    assert (warning is not None) == said
    assert validation_results(curve).get("warning") == warning
    if said:
        assert warning == (
            "training made the model worse: dev nDCG@10 0.5000 at the start, 0.4000 at the end; "
            "keeping the weights of the start"
        )


def test_what_the_manifest_is_told():
    curve = Curve([1], [1.0], [0, 10, 20], [0.3, 0.6, 0.6])
    assert validation_results(curve) == {
        "validation": [[0, 0.3], [10, 0.6], [20, 0.6]],
        "start": 0.3,
        "best": {"step": 10, "nDCG@10": 0.6},
    }
    assert validation_results(Curve([1], [1.0])) == {}
