"""Fused BERT layers against the network's own, whatever is padded, and what is left alone."""

import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling
from tiny_models import sentence
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
    GPT2Config,
    GPT2Model,
    RobertaConfig,
    RobertaForSequenceClassification,
    RobertaModel,
)

from inpars.models import fused_bert
from inpars.models.fused_bert import FusedEncoder, fuse_bert
from inpars.models.products import can_pack
from inpars.retrieval.dense import Encoder
from inpars.scoring import load_scorer

needs_packing = pytest.mark.skipif(not can_pack(), reason="this processor has no bfloat16 products in oneDNN's layout")
SMALL = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 96, "vocab_size": 90}


def network(kind=BertModel, config=BertConfig, **settings):
    torch.manual_seed(0)
    return kind(config(**SMALL, **settings)).eval()


def texts(lengths):
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(5, SMALL["vocab_size"], (len(lengths), max(lengths)), generator=generator)
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    return ids, mask


@needs_packing
@pytest.mark.parametrize("lengths", [[7], [9, 9, 9], [1, 30, 12]])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize(("kind", "config"), [(BertModel, BertConfig), (RobertaModel, RobertaConfig)])
def test_states_are_the_networks_own(kind, config, attention, lengths):
    plain = network(kind, config)
    plain.set_attn_implementation(attention)
    ids, mask = texts(lengths)
    with torch.inference_mode():
        expected = plain(input_ids=ids, attention_mask=mask).last_hidden_state[mask > 0]
        assert fuse_bert(plain)
        found = plain(input_ids=ids, attention_mask=mask).last_hidden_state[mask > 0]
    assert isinstance(plain.encoder, FusedEncoder)
    assert found.dtype == expected.dtype
    assert (found - expected).abs().max() < 0.05 * expected.std()
    assert not torch.equal(found, expected)


@needs_packing
@pytest.mark.parametrize(
    ("way", "calls"),
    [
        ({"SAFE_SUMS": (0.0, 0.0)}, [False] * 3),
        ({"BLOCKED_TOKENS": 1, "has_matrix_unit": lambda: True}, []),
        ({}, [True] * 3),
    ],
)
def test_each_way_of_attending_gives_the_networks_own_states(monkeypatch, way, calls):
    plain = network(initializer_range=0.2)  # scores that differ
    ids, mask = texts([1, 30, 12])
    with torch.inference_mode():
        expected = plain(input_ids=ids, attention_mask=mask).last_hidden_state[mask > 0]
        assert fuse_bert(plain)
        for name, value in way.items():
            monkeypatch.setattr(fused_bert, name, value)
        seen, own = [], fused_bert._by_exponentials

        def watched(*given):
            found = own(*given)
            seen.append(found is not None)
            return found

        monkeypatch.setattr(fused_bert, "_by_exponentials", watched)
        found = plain(input_ids=ids, attention_mask=mask).last_hidden_state[mask > 0]
    assert seen == calls
    assert (found - expected).abs().max() < 0.1 * expected.std()


@needs_packing
@pytest.mark.parametrize("size", [100.0, -100.0])
def test_scores_out_of_an_exponentials_range_are_taken_by_softmax(size):
    torch.manual_seed(0)
    value = torch.randn(2, 3, 7, 8).bfloat16()
    query, key = torch.ones_like(value), torch.ones_like(value)
    query[1, 2, 3] = size / 8  # all scores of one row: its softmax is that of the others
    assert fused_bert._by_exponentials(query, key, value, None) is None
    query[1, 2, 3] = size / 16
    found = fused_bert._by_exponentials(query, key, value, None)
    assert (found - value.mean(2, keepdim=True).transpose(1, 2)).abs().max() < 0.01


@needs_packing
def test_padding_changes_nothing():
    plain = network()
    assert fuse_bert(plain)
    ids, mask = texts([4, 20])
    with torch.inference_mode():
        padded = plain(input_ids=ids, attention_mask=mask).last_hidden_state[0, :4]
        alone = plain(input_ids=ids[:1, :4], attention_mask=mask[:1, :4]).last_hidden_state[0]
    assert (padded - alone).abs().max() < 0.02 * alone.std()


@needs_packing
@pytest.mark.parametrize("lengths", [[7], [9, 9, 9], [1, 30, 12]])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize(
    ("kind", "config"),
    [(BertForSequenceClassification, BertConfig), (RobertaForSequenceClassification, RobertaConfig)],
)
def test_a_classifier_of_first_states_has_no_others_in_its_last_layer(kind, config, attention, lengths):
    classifier = network(kind, config, initializer_range=0.2)
    classifier.set_attn_implementation(attention)
    ids, mask = texts(lengths)
    with torch.inference_mode():
        expected = classifier(input_ids=ids, attention_mask=mask).logits
        assert fuse_bert(classifier.base_model, lambda inputs: classifier(**inputs).logits)
        found = classifier(input_ids=ids, attention_mask=mask).logits
        states = classifier.base_model(input_ids=ids, attention_mask=mask).last_hidden_state
    assert states.shape == (len(lengths), 1, SMALL["hidden_size"])
    assert (found - expected).abs().max() < 0.05 * expected.abs().max()


@needs_packing
def test_a_classifier_of_all_states_keeps_them():
    classifier = network(BertForTokenClassification)
    ids, mask = texts([1, 30, 12])
    with torch.inference_mode():
        expected = classifier(input_ids=ids, attention_mask=mask).logits
        assert fuse_bert(classifier.base_model, lambda inputs: classifier(**inputs).logits)
        found = classifier(input_ids=ids, attention_mask=mask).logits
    assert (found - expected)[mask > 0].abs().max() < 0.05 * expected.abs().max()


@needs_packing
def test_what_reads_otherwise_than_it_is_tried_keeps_all_states():
    plain, calls = network(), []

    def read(inputs):
        calls.append(1)
        return plain(**inputs).last_hidden_state[:, 5 if len(calls) > 2 else 0]  # of the first state only twice

    assert fuse_bert(plain, read)
    assert len(calls) == 3
    ids, mask = texts([1, 30, 12])
    with torch.inference_mode():
        assert plain(input_ids=ids, attention_mask=mask).last_hidden_state.shape[:2] == (3, 30)


@needs_packing
@pytest.mark.parametrize(("pooling", "states"), [("cls", 1), ("mean", 8), ("lasttoken", 8)])
def test_bi_encoders_of_first_states_compute_no_others(tiny, tmp_path, pooling, states):
    model = SentenceTransformer(str(tiny("sentence_transformer")), device="cpu")
    model[1] = Pooling(model.get_embedding_dimension(), pooling)
    model.save_pretrained(str(tmp_path), create_model_card=False)
    passages = [sentence(n, 4 + n) for n in range(5)]
    exact = Encoder(str(tmp_path), device="cpu", dtype="float32").encode_documents(passages)
    encoder = Encoder(str(tmp_path), device="cpu", dtype="bfloat16")
    found, network = encoder.encode_documents(passages), encoder._model[0].auto_model
    assert isinstance(network.encoder, FusedEncoder)
    with torch.inference_mode():
        assert network(input_ids=torch.full((2, 8), 7)).last_hidden_state.shape[1] == states
    assert (found * exact).sum(1) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize(
    ("kind", "config", "settings"), [(BertModel, BertConfig, {"hidden_act": "relu"}), (GPT2Model, GPT2Config, {})]
)
def test_other_networks_are_left_as_they_are(kind, config, settings):
    plain = network(kind, config, **settings)
    before = dict(plain.named_modules())
    assert not fuse_bert(plain)
    assert dict(plain.named_modules()) == before


@needs_packing
def test_a_layer_that_differs_is_noticed(monkeypatch):
    plain = network()
    encoder = plain.encoder
    monkeypatch.setattr(FusedEncoder, "_attend", lambda self, layer, hidden, mask: hidden * 3)
    assert not fuse_bert(plain)
    assert plain.encoder is encoder


@needs_packing
def test_cross_encoders_score_as_before_in_bfloat16(tiny):
    folder = tiny("bert_classifier")
    pairs = [(sentence(n, 3), sentence(30 + n, 4 + n)) for n in range(9)]
    exact = load_scorer(folder, kind="cross-encoder", device="cpu", dtype="float32").score(pairs)
    found = load_scorer(folder, kind="cross-encoder", device="cpu", dtype="bfloat16").score(pairs)
    assert found == pytest.approx(exact, abs=0.1 * torch.tensor(exact).std().item() + 1e-3)
    assert found != exact
