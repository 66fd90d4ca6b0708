"""The device of `auto`, and rejected names."""

import pytest
import torch

from inpars.errors import ConfigError
from inpars.models import hardware
from inpars.models.hardware import devices_here, pick_device, pick_dtype


@pytest.fixture
def here(monkeypatch):
    """Pretend to have these numbers of devices per kind."""

    def counts(**found):
        monkeypatch.setattr(hardware, "_count", lambda kind: found.get(kind, int(kind == "cpu")))

    return counts


def test_auto_takes_cuda_then_mps_then_the_processor(here):
    for found, expected in (({"cuda": 2, "mps": 1}, "cuda"), ({"mps": 1}, "mps"), ({}, "cpu")):
        here(**found)
        assert pick_device("auto").type == expected


def test_only_devices_that_are_here_can_be_named(here):
    here(cuda=2)
    assert devices_here() == ["cpu", "cuda", "cuda:0", "cuda:1"]
    assert pick_device("cuda:1") == torch.device("cuda:1")
    for name in ("cuda:2", "mps", "abacus"):
        with pytest.raises(ConfigError, match=f"'{name}'"):
            pick_device(name)


def test_mps_computes_in_float32_unless_told_otherwise():
    assert pick_dtype("auto", torch.device("mps")) == torch.float32
    assert pick_dtype("bfloat16", torch.device("mps")) == torch.bfloat16
