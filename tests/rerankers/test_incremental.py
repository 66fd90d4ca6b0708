"""Scores yielded in parts: pairs left after an interruption get the same bits."""

import itertools

import pytest
from tiny_models import sentence

from inpars.protocols import score_in_parts
from inpars.rerankers import load_scorer, rerank
from inpars.rerankers.load import load_pair_model
from inpars.rerankers.packed_likelihood import PackedLikelihood, PackedRows
from inpars.rerankers.rerank import score_run

DOCUMENTS = {f"d{number}": sentence(number, 3 + number * 5 % 40) for number in range(12)}
QUERIES = {f"q{number}": sentence(100 + number, 2 + number)[:-1] for number in range(4)}
RUN = {query_id: {doc_id: float(-place) for place, doc_id in enumerate(DOCUMENTS)} for query_id in QUERIES}


class Texts(dict):
    def texts(self, doc_ids):
        return [self[doc_id] for doc_id in doc_ids]


def packed(tiny):
    plain = load_pair_model(tiny("llama"), kind="query-likelihood", device="cpu", dtype="float32")
    return PackedLikelihood(plain, PackedRows(plain.network), "tiny", 128)


def classifier(tiny, **settings):
    return load_scorer(tiny("bert_classifier"), device="cpu", dtype="float32", batch_tokens=128, **settings)


SCORERS = {
    "cross-encoder": classifier,
    "windows": lambda tiny: classifier(tiny, windows="maxp", window_tokens=8),
    "packed query likelihood": packed,
}


def parts_of(scorer, **settings):
    return score_run(RUN, QUERIES, Texts(DOCUMENTS), scorer, pairs_per_batch=20, seconds_per_part=0.0, **settings)


@pytest.fixture(params=SCORERS)
def scorer(request, tiny):
    return SCORERS[request.param](tiny)


def test_a_batch_comes_in_several_parts(scorer):
    parts = list(parts_of(scorer))
    assert len(parts) > len(RUN) * len(DOCUMENTS) / 20 + 2
    assert len({(row.query_id, row.doc_id) for part in parts for row in part}) == len(QUERIES) * len(DOCUMENTS)


@pytest.mark.parametrize("stopped_after", [1, 2, 5])
def test_what_is_left_after_an_interruption_gets_the_same_bits(scorer, stopped_after):
    whole = [row for part in parts_of(scorer) for row in part]
    first = [row for part in itertools.islice(parts_of(scorer), stopped_after) for row in part]
    done = {(row.query_id, row.doc_id) for row in first}
    rest = [row for part in parts_of(scorer, done=done) for row in part]
    assert set(first + rest) == set(whole)
    assert len(first + rest) == len(whole)


def test_the_rest_does_not_compute_what_is_done(tiny):
    scorer = classifier(tiny)
    seen = []
    margins = scorer._margins
    scorer._margins = lambda batch: seen.append(len(batch["input_ids"])) or margins(batch)
    pairs = [(query, document) for query in QUERIES.values() for document in DOCUMENTS.values()]
    list(score_in_parts(scorer, pairs, {0}))
    assert len(seen) == 1


def test_parts_are_put_together_until_they_took_long_enough(monkeypatch):
    now = itertools.count(step=1.0)  # a second passes at each look at the clock
    monkeypatch.setattr(rerank.time, "monotonic", lambda: next(now))
    # the clock is read at the start (0), after each part, and when a timed part is handed over
    parts = [[(0, 0.1)], [(1, 0.2)], [(2, 0.3)]]
    assert list(rerank._timed(parts, 2.0)) == [[(0, 0.1), (1, 0.2)], [(2, 0.3)]]


def test_a_scorer_without_parts_is_asked_for_all_as_its_scores_may_depend_on_the_others():
    class Lengths:
        name = "lengths"

        def score(self, pairs):
            return [float(len(document)) for _, document in pairs]

    assert list(score_in_parts(Lengths(), [("q", "a"), ("q", "bb"), ("q", "ccc")], {2, 0})) == [
        [(0, 1.0), (1, 2.0), (2, 3.0)]
    ]
