"""monoT5's margins by OpenVINO against the network's own forward pass, over T5's variants."""

from importlib.util import find_spec

import pytest
import torch
from tiny_models import sentence
from transformers import MT5Config, MT5ForConditionalGeneration

from inpars.models import compute_options
from inpars.rerankers.compiled import compiled
from inpars.rerankers.load import load_pair_model
from inpars.rerankers.pair_model import ModelScorer

if not find_spec("openvino"):
    pytest.skip("the extra `openvino` is not installed", allow_module_level=True)

PAIRS = [(sentence(n, 1 + n % 4)[:-1], sentence(50 + n, 1 + n * 7 % 40)) for n in range(12)]
VARIANTS = {
    "T5": {},
    "T5 v1.1 and FLAN-T5": {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    "deeper decoder": {"num_decoder_layers": 3},
    "heads wider than the model": {"d_kv": 16},
}


@pytest.fixture(autouse=True)
def _openvino(monkeypatch, tmp_path):
    monkeypatch.setenv(compute_options.VARIABLE, "openvino")
    monkeypatch.setenv("INPARS_CACHE", str(tmp_path))


def model(tiny, **settings):
    return load_pair_model(
        tiny("t5", **settings),
        kind="monot5",
        true_token="▁true",
        false_token="▁false",
        device="cpu",
        dtype="float32",
    )


def check(plain):
    form = compiled(plain, "tiny", "float32")
    assert form is not None
    expected = torch.tensor(ModelScorer(plain, "x", batch_tokens=256).score(PAIRS))
    for batch_tokens in (64, 4096):  # with more and with less padding
        found = torch.tensor(ModelScorer(plain, "x", batch_tokens, form).score(PAIRS))
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert expected.std() > 0.01, "the margins differ, so that equality says something"


@pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS)
def test_margins_are_the_networks_own(tiny, settings):
    check(model(tiny, **settings))


@pytest.mark.parametrize("engine", ["openvino", "openvino-int8"])
def test_a_pair_has_the_same_bits_alone_and_in_any_batch(tiny, monkeypatch, engine):
    if engine == "openvino-int8" and not find_spec("nncf"):
        pytest.skip("nncf is not installed")
    monkeypatch.setenv(compute_options.VARIABLE, engine)
    monkeypatch.setattr("inpars.rerankers.compiled.tolerance", lambda *_: 1.0)  # an untrained head's margins are close
    plain = model(tiny, d_model=128, d_ff=256)  # narrower 8-bit products round by the number of rows
    scorer = ModelScorer(plain, "x", form=compiled(plain, "tiny"))
    assert scorer.score(PAIRS) == [scorer.score([pair])[0] for pair in PAIRS]


def test_mt5_too(tiny):
    plain = model(tiny)
    sizes = {name: getattr(plain.network.config, name) for name in ("vocab_size", "d_model", "d_kv", "d_ff")}
    config = MT5Config(**sizes, num_layers=2, num_heads=4, decoder_start_token_id=0)
    torch.manual_seed(3)
    plain.network = MT5ForConditionalGeneration(config).eval()
    check(plain)


def test_torch_scores_where_it_is_named(tiny, monkeypatch):
    monkeypatch.setenv(compute_options.VARIABLE, "torch")
    plain = model(tiny)
    assert compiled(plain, "tiny") is None
