"""Products over weights laid out once against plain linear layers, with each activation and with a sum."""

import pytest
import torch
from torch import nn

from inpars.models.products import ACTIVATIONS, can_pack, product, product_and_sum

needs_packing = pytest.mark.skipif(not can_pack(), reason="this processor has no bfloat16 products in oneDNN's layout")
DTYPES = [torch.float32, pytest.param(torch.bfloat16, marks=needs_packing)]


def layers(dtype, bias):
    torch.manual_seed(0)
    return [nn.Linear(48, width, bias=bias, dtype=dtype).requires_grad_(requires_grad=False) for width in (64, 32)]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_modules_side_by_side_with_an_activation(activation, dtype, bias):
    modules, hidden = layers(dtype, bias), 3 * torch.randn(2, 5, 48).to(dtype)
    expected = ACTIVATIONS[activation](torch.cat([module(hidden).float() for module in modules], dim=-1))
    found = product(modules, activation)(hidden)
    assert (found.dtype, found.shape) == (dtype, (2, 5, 96))
    torch.testing.assert_close(found.float(), expected, atol=0.03, rtol=0.02)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_sum(dtype, bias):
    (module, _), hidden, other = layers(dtype, bias), torch.randn(7, 48).to(dtype), torch.randn(7, 64).to(dtype)
    before = other.clone()
    found = product_and_sum([module])(hidden, other)
    torch.testing.assert_close(found.float(), (module(hidden).float() + other.float()), atol=0.03, rtol=0.02)
    assert torch.equal(other, before), "what is added stays as it was"
