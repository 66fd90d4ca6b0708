"""Packed query likelihood: same scores as the plain model, and queries do not see each other."""

from importlib.util import find_spec

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import sentence

from inpars.models import compute_options
from inpars.records import Run
from inpars.rerankers import load_scorer
from inpars.rerankers.load import load_pair_model
from inpars.rerankers.packed_likelihood import ROW_QUERY_TOKENS, PackedLikelihood, PackedRows, packed
from inpars.rerankers.pair_model import ModelScorer
from inpars.rerankers.rerank import score_run

DOCUMENTS = [sentence(50 + n, 3 + 7 * n) for n in range(5)]
PAIRS = [(sentence(n, 1 + n % 4)[:-1], DOCUMENTS[n * 3 % 5]) for n in range(17)]


def model(tiny, **settings):
    return load_pair_model(tiny("llama"), kind="query-likelihood", device="cpu", dtype="float32", **settings)


def packed_in_float32(plain, batch_tokens=None):
    return PackedLikelihood(plain, PackedRows(plain.network), "tiny", batch_tokens)


@pytest.mark.parametrize("batch_tokens", [1, 64, 4096])
@pytest.mark.parametrize("prefix", ["Document: ", "Examples come first, a good many words of them.\n\nDocument: ", ""])
def test_scores_are_the_plain_ones(tiny, prefix, batch_tokens):
    plain = model(tiny)
    plain = type(plain)(plain.network, plain.tokenizer, prefix=prefix)
    expected = ModelScorer(plain, "tiny").score(PAIRS)
    assert packed_in_float32(plain, batch_tokens).score(PAIRS) == pytest.approx(expected, abs=1e-4)
    assert len({round(score, 3) for score in expected}) > 10


def test_the_mean_is_over_the_querys_tokens(tiny):
    plain = model(tiny)
    plain.reduction = "mean"
    expected = ModelScorer(plain, "tiny").score(PAIRS)
    assert packed_in_float32(plain).score(PAIRS) == pytest.approx(expected, abs=1e-4)


@given(st.lists(st.integers(0, len(PAIRS) - 1), min_size=1, max_size=40))
def test_a_score_does_not_depend_on_what_else_is_asked(tiny, chosen):
    scorer = packed_in_float32(model(tiny))
    alone = {number: scorer.score([PAIRS[number]])[0] for number in set(chosen)}
    together = scorer.score([PAIRS[number] for number in chosen])
    assert together == pytest.approx([alone[number] for number in chosen], abs=1e-4)


def test_a_document_cut_to_fit_a_long_query_is_cut_for_that_query_alone(tiny):
    plain = model(tiny, max_length=40)
    pairs = [(sentence(1, 2), DOCUMENTS[4]), (sentence(2, 20), DOCUMENTS[4]), ("", DOCUMENTS[4])]
    expected = ModelScorer(plain, "tiny").score(pairs)
    assert packed_in_float32(plain).score(pairs) == pytest.approx(expected, abs=1e-4)


def test_many_queries_of_one_document_take_several_rows(tiny):
    plain = model(tiny)
    pairs = [(sentence(n, 6), DOCUMENTS[0]) for n in range(ROW_QUERY_TOKENS // 4)]
    expected = ModelScorer(plain, "tiny").score(pairs)
    assert packed_in_float32(plain).score(pairs) == pytest.approx(expected, abs=1e-4)


def test_bfloat16_and_float32_on_a_processor_are_packed(tiny):
    assert isinstance(packed(model(tiny), "tiny"), PackedLikelihood)
    settings = {"kind": "query-likelihood", "device": "cpu"}
    scorer = load_scorer(tiny("llama"), dtype="bfloat16", **settings)
    assert isinstance(scorer, PackedLikelihood)
    exact = load_scorer(tiny("llama"), dtype="float32", **settings).score(PAIRS)
    spread = torch.tensor(exact).std().item()
    assert scorer.score(PAIRS) == pytest.approx(exact, abs=0.1 * spread)


@pytest.mark.parametrize("kind", ["gpt2", "gpt_neox"])
def test_other_decoders_are_packed_too(tiny, kind):
    plain = load_pair_model(tiny(kind), kind="query-likelihood", device="cpu", dtype="float32")
    expected = ModelScorer(plain, "tiny").score(PAIRS)
    scorer = packed(plain, "tiny")
    assert scorer.score(PAIRS) == pytest.approx(expected, abs=1e-4)
    assert ModelScorer(plain, "tiny").score(PAIRS) == expected  # the network is left as it was


def test_a_network_of_another_kind_is_left_as_it_is(tiny):
    other = load_pair_model(tiny("bloom"), kind="query-likelihood", device="cpu", dtype="bfloat16")
    assert packed(other, "tiny") is None


@pytest.mark.skipif(not find_spec("openvino"), reason="the extra `openvino` is not installed")
@pytest.mark.parametrize("prefix", ["Document: ", ""])
def test_openvino_gives_torchs_scores(tiny, prefix, monkeypatch, tmp_path):
    plain = model(tiny)
    plain = type(plain)(plain.network, plain.tokenizer, prefix=prefix)
    expected = ModelScorer(plain, "tiny").score(PAIRS)
    monkeypatch.setenv(compute_options.VARIABLE, "openvino")
    monkeypatch.setenv("INPARS_CACHE", str(tmp_path))
    scorer = packed(plain, "tiny", dtype="float32")
    assert not isinstance(scorer._read, PackedRows)
    assert scorer.score(PAIRS) == pytest.approx(expected, abs=1e-3)


@pytest.mark.skipif(not find_spec("openvino"), reason="the extra `openvino` is not installed")
@pytest.mark.parametrize("prefix", ["Document: ", "Examples come first, a good many words of them.\n\nDocument: ", ""])
def test_openvino_gives_a_pair_the_same_bits_alone_and_beside_others(tiny, prefix, monkeypatch, tmp_path):
    plain = load_pair_model(tiny("llama"), kind="query-likelihood", device="cpu")
    plain = type(plain)(plain.network, plain.tokenizer, prefix=prefix)
    monkeypatch.setenv(compute_options.VARIABLE, "openvino")
    monkeypatch.setenv("INPARS_CACHE", str(tmp_path))
    scorer = packed(plain, "tiny")
    pairs = [(sentence(n, 1 + n % 9)[:-1], document) for n in range(7) for document in DOCUMENTS]
    together = scorer.score(pairs)
    assert together == [scorer.score([pair])[0] for pair in pairs]
    assert len(set(together)) > len(pairs) / 2


class Recorder:
    name = "recorder"

    def __init__(self, once):
        self.reads_documents_once, self.asked = once, []

    def score(self, pairs):
        self.asked += [document for _, document in pairs]
        return [float(len(query)) for query, _ in pairs]


class Texts(dict):
    def texts(self, doc_ids):
        return [self[doc_id] for doc_id in doc_ids]


def test_reranking_keeps_a_documents_queries_together_where_that_helps():
    run: Run = {"q1": {"a": 3.0, "b": 2.0}, "q2": {"b": 3.0, "a": 2.0}, "q3": {"c": 9.0, "a": 1.0}}
    texts, queries = Texts(a="A", b="B", c="C"), {"q1": "x", "q2": "yy", "q3": "zzz"}
    once, each = Recorder(once=True), Recorder(once=False)
    scored = [row for batch in score_run(run, queries, texts, once, pairs_per_batch=4) for row in batch]
    list(score_run(run, queries, texts, each))
    assert once.asked == ["A", "A", "A", "B", "B", "C"]
    assert each.asked == ["A", "B", "B", "A", "C", "A"]
    assert {(row.query_id, row.doc_id): row.score for row in scored} == {
        ("q1", "a"): 1.0,
        ("q1", "b"): 1.0,
        ("q2", "b"): 2.0,
        ("q2", "a"): 2.0,
        ("q3", "c"): 3.0,
        ("q3", "a"): 3.0,
    }


@pytest.mark.parametrize("keeps", [True, False])
def test_networks_that_were_trained_are_packed_too(tiny, keeps):
    plain = load_pair_model(tiny("llama"), kind="query-likelihood", device="cpu", dtype="bfloat16")
    plain.network.config.use_cache = keeps  # False is what trainers leave behind
    assert isinstance(packed(plain, "tiny"), PackedLikelihood)
