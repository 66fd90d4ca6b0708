"""The exchanged attention in reduced precision, against the textbook formula in float64."""

import pytest
import torch

from inpars.generation.shared_prefix import _attend_one, _attend_prompts

ROWS, HEADS, KINDS, WIDTH = 3, 6, 2, 16


def tensors(tokens, prefix_tokens, dtype, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator).to(dtype)

    own = draw(ROWS, HEADS, tokens, WIDTH), draw(ROWS, KINDS, tokens, WIDTH), draw(ROWS, KINDS, tokens, WIDTH)
    prefix = (draw(KINDS, prefix_tokens, WIDTH), draw(KINDS, prefix_tokens, WIDTH)) if prefix_tokens else None
    return *own, prefix


def textbook(query, key, value, prefix, scale):
    """softmax(q k / scale) v with a causal mask behind the prefix, every head with its own copy of the keys."""
    query, key, value = query.double(), key.double(), value.double()
    before = 0
    if prefix is not None:
        keys, values = (part.double().expand(ROWS, -1, -1, -1) for part in prefix)
        key, value, before = torch.cat([keys, key], 2), torch.cat([values, value], 2), keys.shape[2]
    key, value = (part.repeat_interleave(HEADS // KINDS, dim=1) for part in (key, value))
    tokens = query.shape[2]
    seen = torch.ones(tokens, before + tokens).tril(before).bool()
    return (query @ key.transpose(2, 3) * scale).masked_fill(~seen, -torch.inf).softmax(-1) @ value


@pytest.mark.parametrize("prefix_tokens", [0, 1, 7])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.03)])
@pytest.mark.parametrize("tokens", [1, 5])
def test_prompts_attend_to_prefix_and_their_own_past(prefix_tokens, dtype, tolerance, tokens):
    query, key, value, prefix = tensors(tokens, prefix_tokens, dtype)
    found = _attend_prompts(query, key, value, prefix, scale=0.25)
    expected = textbook(query, key, value, prefix, 0.25)
    assert found.shape == expected.shape
    assert (found.double() - expected).abs().max() < tolerance


def test_scores_far_apart_stay_numbers_in_bfloat16():
    query, key, value, prefix = tensors(4, 6, torch.bfloat16)
    keys, values = prefix
    prefix = (keys * 300, values)  # the first key's weight vanishes beside others'
    found = _attend_prompts(query * 10, key, value, prefix, scale=0.25)
    assert torch.isfinite(found).all()


@pytest.mark.parametrize("prefix_tokens", [0, 7])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.03)])
def test_one_token_attends_to_all_before_it(prefix_tokens, dtype, tolerance):
    query, key, value, prefix = tensors(5, prefix_tokens, dtype)
    hidden = torch.zeros(ROWS, 1, 1, 5, dtype=torch.bool)
    found = _attend_one(query[:, :, -1:], key, value, prefix, hidden, scale=0.25)
    expected = textbook(query, key, value, prefix, 0.25)[:, :, -1:]
    assert (found.double() - expected).abs().max() < tolerance
