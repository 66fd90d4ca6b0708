"""Attention with fast gradients: agrees with torch's, and is used only where it is faster."""

import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoModelForSeq2SeqLM

from inpars.engines import training_attention
from inpars.engines.training_attention import (
    ATTENTION_NAME,
    attend_from_few,
    attend_with_biases,
    attend_with_gradients,
    train_with_fast_attention,
)

SHAPE = (3, 2, 17, 8)  # texts, heads, tokens, width


def inputs(seed=0):
    torch.manual_seed(seed)
    parts = [2 * torch.randn(SHAPE).transpose(1, 2).contiguous().transpose(1, 2) for _ in range(4)]
    return [part.bfloat16() for part in parts]


def exact(parts, shown, gradient):
    wide = [part.float().requires_grad_() for part in parts]
    mask = None if shown is None else shown[:, None, None]
    found = torch.nn.functional.scaled_dot_product_attention(*wide, attn_mask=mask, scale=0.7)
    return found, torch.autograd.grad(found, wide, gradient.float())


def far(found, expected):
    return ((found.float() - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize("lengths", [None, (17, 5, 1)])
def test_results_and_gradients_are_those_of_float32_up_to_rounding(lengths):
    *parts, gradient = inputs()
    shown = None if lengths is None else torch.arange(17)[None] < torch.tensor(lengths)[:, None]
    expected, gradients = exact(parts, shown, gradient)
    leaves = [part.requires_grad_() for part in parts]
    found = attend_with_gradients(*leaves, shown, 0.7)
    assert found.dtype == torch.bfloat16
    assert far(found, expected) < 0.01
    for ours, theirs in zip(torch.autograd.grad(found, leaves, gradient), gradients, strict=True):
        assert far(ours, theirs) < 0.02
    if lengths is not None:
        *_, of_values = torch.autograd.grad(attend_with_gradients(*leaves, shown, 0.7), leaves, gradient)
        assert not of_values[2, :, 1:].any(), "what is hidden gets no gradient"


@pytest.mark.parametrize("lengths", [None, (17, 5, 1)])
def test_biases_learn_too(lengths):
    *parts, gradient = inputs()
    shown = None if lengths is None else torch.arange(17)[None] < torch.tensor(lengths)[:, None]
    rows = torch.ones(SHAPE[0], 17, dtype=torch.bool) if shown is None else shown
    gradient = gradient * rows[:, None, :, None]  # what stands at padding is never used
    bias = 3 * torch.randn(1, *SHAPE[1:3], SHAPE[2])
    wide = [part.float().requires_grad_() for part in (*parts, bias)]
    mask = wide[3].expand(SHAPE[0], -1, -1, -1).masked_fill(~rows[:, None, None], -1e9)
    expected = torch.nn.functional.scaled_dot_product_attention(*wide[:3], attn_mask=mask, scale=0.7)
    leaves = [part.requires_grad_() for part in (*parts, bias)]
    found = attend_with_biases(*leaves, shown, 0.7)
    assert far(found * rows[:, None, :, None], expected * rows[:, None, :, None]) < 0.01
    theirs = torch.autograd.grad(expected, wide, gradient.float())
    ours = torch.autograd.grad(found, leaves, gradient)
    assert [part.dtype for part in ours] == [part.dtype for part in leaves]
    for one, other in zip(ours, theirs, strict=True):
        assert far(one, other) < 0.03


@pytest.mark.parametrize("added", [False, True])
def test_few_tokens_attend_to_many_as_torch_has_it(added):
    *parts, gradient = inputs()
    parts[0], gradient = parts[0][:, :, :2], gradient[:, :, :2]
    shown = torch.arange(17)[None, None, None] < torch.tensor([17, 5, 1])[:, None, None, None]
    bias = torch.randn(1, SHAPE[1], 2, 17)
    wide = [part.float().requires_grad_() for part in parts]
    mask = bias.expand(SHAPE[0], -1, -1, -1).masked_fill(~shown, -1e9)
    expected = torch.nn.functional.scaled_dot_product_attention(*wide, attn_mask=mask, scale=0.7)
    leaves = [part.requires_grad_() for part in parts]
    found = attend_from_few(*leaves, torch.zeros(shown.shape).masked_fill(~shown, -1e9) if added else shown, bias, 0.7)
    assert found.dtype == torch.bfloat16
    assert far(found, expected) < 0.01
    theirs = torch.autograd.grad(expected, wide, gradient.float())
    for ours, exact_one in zip(torch.autograd.grad(found, leaves, gradient), theirs, strict=True):
        assert far(ours, exact_one) < 0.03


@pytest.mark.usefixtures("matrix_unit")
def test_a_t5_learns_the_same_with_it(tiny, monkeypatch):
    network = AutoModelForSeq2SeqLM.from_pretrained(tiny("t5")).train()
    for module in network.modules():
        for name in ("dropout", "dropout_rate"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    torch.manual_seed(1)
    ids, mask = torch.randint(5, 90, (3, 12)), (torch.arange(12)[None] < torch.tensor([[12], [7], [2]])).long()
    calls, own = [], training_attention.attend_with_biases
    monkeypatch.setattr(training_attention, "attend_with_biases", lambda *a: calls.append(1) or own(*a))
    found = {}
    for way in ("float32", "eager", "fast"):
        network.set_attn_implementation("sdpa" if way == "fast" else "eager")
        assert way != "fast" or train_with_fast_attention(network, torch.bfloat16)
        network.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=way != "float32"):
            network(input_ids=ids, attention_mask=mask, labels=ids[:, :1]).loss.backward()
        found[way] = {name: weight.grad.clone() for name, weight in network.named_parameters()}
        assert len(calls) == (network.config.num_layers if way == "fast" else 0)
    for name, exact_one in found["float32"].items():
        usual = far(found["eager"][name], exact_one)
        assert far(found["fast"][name], exact_one) < 1.5 * usual + 0.03 or exact_one.norm() < 1e-4, name


def gradients_of(network, mask):
    torch.manual_seed(1)
    ids = torch.randint(5, 90, mask.shape)
    network.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        hidden = network(input_ids=ids, attention_mask=mask).last_hidden_state
    (hidden.float() * mask[..., None]).square().mean().backward()
    return {name: weight.grad.clone() for name, weight in network.named_parameters() if weight.grad is not None}


@pytest.fixture
def encoder(tiny):
    return AutoModel.from_pretrained(f"{tiny('sentence_transformer')}/../encoder").train()


@pytest.fixture
def matrix_unit(monkeypatch):
    monkeypatch.setattr(training_attention, "has_matrix_unit", lambda: True)


@pytest.mark.usefixtures("matrix_unit")
@pytest.mark.parametrize("lengths", [(12, 12), (12, 4)])
def test_a_network_learns_the_same_with_it(encoder, monkeypatch, lengths):
    for module in encoder.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    mask = (torch.arange(12)[None] < torch.tensor(lengths)[:, None]).long()
    expected = gradients_of(encoder, mask)
    train_with_fast_attention(encoder, torch.bfloat16)
    assert encoder.config._attn_implementation == ATTENTION_NAME
    calls, own = [], training_attention.attend_with_gradients
    monkeypatch.setattr(training_attention, "attend_with_gradients", lambda *a: calls.append(1) or own(*a))
    found = gradients_of(encoder, mask)
    assert len(calls) == encoder.config.num_hidden_layers
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        assert far(gradient, expected[name]) < 0.05 or expected[name].norm() < 1e-4, name


@pytest.mark.usefixtures("matrix_unit")
def test_all_else_is_left_to_torch(encoder, monkeypatch, tmp_path):
    monkeypatch.setattr(training_attention, "attend_with_gradients", lambda *_: pytest.fail("not for this"))
    train_with_fast_attention(encoder, torch.bfloat16)
    ids = torch.arange(20, 32).view(2, 6)
    encoder(input_ids=ids)  # float32, and with the checkpoint's dropout
    with torch.autocast("cpu", torch.bfloat16):
        encoder(input_ids=ids)  # dropout
        with torch.no_grad():
            encoder.eval()(input_ids=ids)
    encoder.save_pretrained(tmp_path)
    assert AutoConfig.from_pretrained(tmp_path)._attn_implementation != ATTENTION_NAME


@pytest.mark.parametrize("queries", [2, 17])
def test_heads_that_share_keys_are_left_to_torch(monkeypatch, queries):
    for name in ("attend_with_gradients", "attend_from_few"):
        monkeypatch.setattr(training_attention, name, lambda *_: pytest.fail("not for this"))
    query, key, value, _ = inputs()
    module = torch.nn.Module()
    module.is_causal, module.num_key_value_groups = False, 2
    query, shared = query[:, :, :queries].requires_grad_(), (key[:, :1], value[:, :1])
    found, _ = training_attention._attention(module, query, *shared, None, scaling=0.7)
    expected = torch.nn.functional.scaled_dot_product_attention(query, *shared, scale=0.7, enable_gqa=True)
    assert far(found.transpose(1, 2), expected.float()) < 0.01


def test_it_is_taken_for_bfloat16_with_a_matrix_unit_alone(encoder, monkeypatch):
    monkeypatch.setattr(training_attention, "has_matrix_unit", lambda: False)
    train_with_fast_attention(encoder, torch.bfloat16)
    assert encoder.config._attn_implementation == "sdpa"
    monkeypatch.setattr(training_attention, "has_matrix_unit", lambda: True)
    train_with_fast_attention(encoder, torch.float32)
    assert encoder.config._attn_implementation == "sdpa"
    train_with_fast_attention(torch.nn.Linear(2, 2), torch.bfloat16)  # no network of transformers
    encoder.set_attn_implementation("eager")
    train_with_fast_attention(encoder, torch.bfloat16)
    assert encoder.config._attn_implementation == "eager"
