"""Root mean square normalisation against its formula in float64."""

import pytest
import torch

from inpars.models.norms import rms_norm


@pytest.mark.parametrize("offset", [0.0, 30.0])
@pytest.mark.parametrize("size", [1e-4, 1.0, 1e4])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 2**-6), (torch.float32, 1e-5)])
def test_values(dtype, tolerance, size, offset):
    torch.manual_seed(0)
    hidden, weight = (torch.randn(3, 5, 96) + offset).mul(size).to(dtype), torch.rand(96).to(dtype)
    exact = hidden.double()
    exact = exact * (exact.square().mean(-1, keepdim=True) + 1e-6).rsqrt() * weight.double()
    found = rms_norm(hidden, weight, 1e-6)
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), exact, rtol=tolerance, atol=0)


def test_nothing_stays_nothing():
    assert not rms_norm(torch.zeros(2, 32, dtype=torch.bfloat16), torch.ones(32, dtype=torch.bfloat16), 1e-6).any()
