"""Fused BERT layers against the network's own, whatever is padded, and what is left alone."""

import pytest
import torch
from tiny_models import sentence
from transformers import BertConfig, BertModel, GPT2Config, GPT2Model, RobertaConfig, RobertaModel

from inpars.models.fused_bert import FusedEncoder, fuse_bert
from inpars.models.products import can_pack
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
def test_padding_changes_nothing():
    plain = network()
    assert fuse_bert(plain)
    ids, mask = texts([4, 20])
    with torch.inference_mode():
        padded = plain(input_ids=ids, attention_mask=mask).last_hidden_state[0, :4]
        alone = plain(input_ids=ids[:1, :4], attention_mask=mask[:1, :4]).last_hidden_state[0]
    assert (padded - alone).abs().max() < 0.02 * alone.std()


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
