"""The patched T5 layers: the same numbers up to rounding, and only with bfloat16."""

import pytest
import torch
from transformers import MT5Config, MT5ForConditionalGeneration, T5Config, T5ForConditionalGeneration
from transformers.models.t5.modeling_t5 import T5LayerNorm

from inpars.engines import training_attention
from inpars.engines.training_attention import norm_in_bfloat16, patch_t5_for_bfloat16_training

SIZES = {"d_model": 16, "d_kv": 4, "d_ff": 32, "num_layers": 2, "num_heads": 2, "vocab_size": 60, "dropout_rate": 0.0}
NETWORKS = [
    (T5ForConditionalGeneration, T5Config(**SIZES, decoder_start_token_id=0)),
    (MT5ForConditionalGeneration, MT5Config(**SIZES, decoder_start_token_id=0, feed_forward_proj="gated-gelu")),
]


def far(found, expected):
    return ((found.float() - expected).norm() / expected.norm()).item()


def test_the_norm_and_its_gradients_are_those_of_float32_rounded_once():
    torch.manual_seed(0)
    norm = T5LayerNorm(24, eps=1e-3)
    torch.nn.init.uniform_(norm.weight, 0.5, 2.0)
    hidden, gradient = torch.randn(3, 7, 24, requires_grad=True), torch.randn(3, 7, 24).bfloat16()
    found = norm_in_bfloat16(hidden, norm.weight, 1e-3)
    assert torch.equal(found, norm(hidden).bfloat16()) or far(found, norm(hidden)) < 0.003
    leaves = [hidden, norm.weight]
    expected = torch.autograd.grad(norm(hidden), leaves, gradient.float())
    for ours, theirs in zip(torch.autograd.grad(found, leaves, gradient), expected, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def gradients_of(network, dtype):
    torch.manual_seed(1)
    ids, mask = torch.randint(5, 60, (3, 12)), (torch.arange(12)[None] < torch.tensor([[12], [7], [2]])).long()
    network.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        network(input_ids=ids, attention_mask=mask, labels=ids[:, :1]).loss.backward()
    return {name: weight.grad.clone() for name, weight in network.named_parameters()}


@pytest.mark.parametrize(("kind", "config"), NETWORKS, ids=["relu", "gated"])
def test_a_network_learns_the_same(kind, config, monkeypatch):
    torch.manual_seed(0)
    network = kind(config).train()
    exact, usual = gradients_of(network, torch.float32), gradients_of(network, torch.bfloat16)
    norms, own = [], training_attention.norm_in_bfloat16
    monkeypatch.setattr(training_attention, "norm_in_bfloat16", lambda *given: norms.append(1) or own(*given))
    patch_t5_for_bfloat16_training(network, torch.bfloat16)
    widest, layer = [], network.encoder.block[0].layer
    layer[1].DenseReluDense.wo.register_forward_pre_hook(lambda _, given: widest.append(given[0].dtype))
    found = gradients_of(network, torch.bfloat16)
    assert widest == [torch.bfloat16], "no way over float32"
    assert layer[0].SelfAttention.compute_bias(7, 7).is_contiguous()
    assert len(norms) == 2 * 2 + 1 + 2 * 3 + 1, "all norms of the encoder and the decoder"
    for name, gradient in exact.items():
        assert far(found[name], gradient) < 1.5 * far(usual[name], gradient) + 0.03 or gradient.norm() < 1e-4, name


@pytest.mark.parametrize(("kind", "config"), NETWORKS, ids=["relu", "gated"])
def test_float32_stays_as_it_was(kind, config, tmp_path):
    network = kind(config).train()
    expected = gradients_of(network, torch.float32)
    patch_t5_for_bfloat16_training(network, torch.float32)
    assert all("forward" not in vars(module) for module in network.modules())
    patch_t5_for_bfloat16_training(network, torch.bfloat16)
    for name, gradient in gradients_of(network, torch.float32).items():
        assert torch.equal(gradient, expected[name]), name
    network.save_pretrained(tmp_path)
    again = kind.from_pretrained(tmp_path)
    assert all(torch.equal(one, other) for one, other in zip(network.parameters(), again.parameters(), strict=True))
