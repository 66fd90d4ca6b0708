"""8-bit products in torch: close to float32, and independent of the other rows."""

import numpy as np
import pytest
import tiny_models
import torch
from torch import nn

from inpars.engines.int8_products import Int8Linear, with_int8_products
from inpars.errors import ConfigError
from inpars.models import compute_options
from inpars.rerankers import load_scorer
from inpars.rerankers.load import load_pair_model
from inpars.retrieval.dense import Encoder

TEXTS = [tiny_models.sentence(seed, 3 + 5 * seed) for seed in range(12)]


def can_compute():
    try:
        Int8Linear(nn.Linear(32, 32))(torch.ones(1, 32))
    except (AttributeError, RuntimeError):
        return False
    return True


pytestmark = pytest.mark.skipif(not can_compute(), reason="this torch or processor has no such products")


@pytest.fixture
def use(monkeypatch):
    """`use("torch-int8")` sets the engine until the test ends."""
    return lambda name: monkeypatch.setenv(compute_options.VARIABLE, name)


@pytest.mark.parametrize("bias", [True, False])
def test_a_product_is_near_float32s_and_does_not_depend_on_other_rows(bias):
    torch.manual_seed(0)
    linear, inputs = nn.Linear(96, 64, bias=bias), torch.randn(5, 7, 96)
    with torch.no_grad():
        inputs[0, 0] *= 1000  # a row of another size does not coarsen the others
        expected, found = linear(inputs), Int8Linear(linear)(inputs)
    assert (found - expected)[1:].std() < 0.03 * expected[1:].std()
    for text in range(5):
        for token in range(7):
            assert torch.equal(Int8Linear(linear)(inputs[text, token][None])[0], found[text, token])


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_largest_numbers_do_not_overflow(sign):
    """All weights are 63 steps of 1/63 and all inputs 127 of 1/127: 64 products of 1 give 64, or -64."""
    linear = nn.Linear(64, 32, bias=False)
    nn.init.ones_(linear.weight)
    found = Int8Linear(linear)(torch.full((3, 64), sign))
    torch.testing.assert_close(found, torch.full((3, 32), 64 * sign))


def test_a_row_of_zeros_gives_the_bias():
    linear = nn.Linear(32, 16)
    torch.testing.assert_close(Int8Linear(linear)(torch.zeros(2, 32)), linear.bias.detach().expand(2, -1))


def test_the_network_and_its_head_are_left_as_they_are(tiny):
    network = load_pair_model(tiny("llama"), kind="query-likelihood", device="cpu", dtype="float32").network
    rounded = with_int8_products(network)
    assert not any(isinstance(module, Int8Linear) for module in network.modules())
    assert sum(isinstance(module, Int8Linear) for module in rounded.modules()) == 7 * network.config.num_hidden_layers
    assert rounded.get_output_embeddings().weight is network.get_output_embeddings().weight


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        ("llama", {"kind": "query-likelihood"}),
        ("bert_classifier", {}),
        ("t5", {"true_token": "▁true", "false_token": "▁false"}),
    ],
)
def test_scores_are_near_float32s(tiny, use, model, settings):
    pairs = [(text[:30], other) for text, other in zip(TEXTS, reversed(TEXTS), strict=True)]
    expected = np.array(load_scorer(tiny(model), dtype="float32", **settings).score(pairs))
    use("torch-int8")
    found = np.array(load_scorer(tiny(model), **settings).score(pairs))
    assert not np.array_equal(found, expected)
    assert np.square(found - expected).mean() ** 0.5 < 0.15 * expected.std()


def test_embeddings_are_near_float32s(tiny, use):
    plain = Encoder(tiny("sentence_transformer"), dtype="float32")
    use("torch-int8")
    rounded = Encoder(tiny("sentence_transformer"))
    cosines = (plain.encode_documents(TEXTS) * rounded.encode_documents(TEXTS)).sum(1)
    assert 0.98 < cosines.min() < 1
    assert plain.fingerprint != rounded.fingerprint


def test_other_number_formats_are_refused(tiny, use):
    use("torch-int8")
    with pytest.raises(ConfigError, match=r"--engine-backend torch-int8: .* bfloat16"):
        load_scorer(tiny("bert_classifier"), dtype="bfloat16")
