"""The fused monoT5 against the network's own forward pass, over T5's variants."""

import pytest
import torch
from tiny_models import sentence
from transformers import MT5Config, MT5ForConditionalGeneration

from inpars.scoring.fused_t5 import FusedMonoT5
from inpars.scoring.loading import for_scoring, load_pair_model
from inpars.scoring.pair_model import ModelScorer, collate

PAIRS = [(sentence(n, 1 + n % 4)[:-1], sentence(50 + n, 1 + n * 7 % 40)) for n in range(12)]
VARIANTS = {
    "T5": {},
    "T5 v1.1 and FLAN-T5": {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    "deeper decoder": {"num_decoder_layers": 3},
    "heads wider than the model": {"d_kv": 16},
}


def model(tiny, **settings):
    return load_pair_model(
        tiny("t5", **settings),
        kind="monot5",
        true_token="▁true",
        false_token="▁false",
        device="cpu",
        dtype="float32",
    )


@pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS)
def test_margins_are_the_networks_own(tiny, settings):
    plain = model(tiny, **settings)
    fused = for_scoring(plain)
    assert type(fused) is FusedMonoT5
    assert (fused.settings(), fused.encode(PAIRS)) == (plain.settings(), plain.encode(PAIRS))
    batch = collate(plain.encode(PAIRS), pad=0)
    assert not batch["attention_mask"].all(), "padding is part of the test"
    with torch.inference_mode():
        expected, found = plain.margins(batch), fused.margins(batch)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert expected.std() > 0.01, "the margins differ, so that equality says something"
    assert torch.equal(found.argsort(), expected.argsort())


def test_mt5_too(tiny):
    plain = model(tiny)
    sizes = {name: getattr(plain.network.config, name) for name in ("vocab_size", "d_model", "d_kv", "d_ff")}
    config = MT5Config(**sizes, num_layers=2, num_heads=4, decoder_start_token_id=0)
    torch.manual_seed(3)
    plain.network = MT5ForConditionalGeneration(config).eval()
    assert type(for_scoring(plain)) is FusedMonoT5
    assert ModelScorer(for_scoring(plain), "x").score(PAIRS) == pytest.approx(
        ModelScorer(plain, "x").score(PAIRS), abs=1e-5
    )


def test_bfloat16_is_close(tiny):
    plain = model(tiny)
    exact = torch.tensor(ModelScorer(plain, "x").score(PAIRS))
    plain.network.to(torch.bfloat16)
    rounded = torch.tensor(ModelScorer(for_scoring(plain), "x").score(PAIRS))
    assert (rounded - exact).abs().max() < 0.1 * exact.std() + 0.02


def test_networks_that_are_built_otherwise_keep_their_own_forward_pass(tiny):
    plain = model(tiny)
    plain.network.encoder.block[0].layer[0].SelfAttention.q = torch.nn.Sequential(torch.nn.Linear(32, 32, bias=False))
    assert for_scoring(plain) is plain
    other = model(tiny)
    other.network.config.model_type = "umt5"  # which has position biases in every layer
    assert for_scoring(other) is other
