"""Encoders and cross-encoders in OpenVINO: they agree with torch, or report that they cannot be converted."""

import os
import subprocess
import sys
import threading
from importlib.util import find_spec

import numpy as np
import pytest
import tiny_models
import torch

if not (find_spec("openvino") and find_spec("nncf")):
    pytest.skip("the extra `openvino` is not installed", allow_module_level=True)

from inpars.engines import choice, openvino_network
from inpars.engines.openvino_network import OpenVinoNetwork, agrees, probe, weights_fingerprint
from inpars.errors import ConfigError
from inpars.models import compute_options
from inpars.models.loading import load_sentence_transformer
from inpars.rerankers import compiled, load_scorer
from inpars.rerankers.load import load_pair_model
from inpars.retrieval.dense import Encoder

TEXTS = [tiny_models.sentence(seed, 3 + 5 * seed) for seed in range(12)]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    """One cache for the module: a conversion takes seconds."""
    monkeypatch.setenv("INPARS_CACHE", str(tmp_path_factory.getbasetemp() / "openvino-cache"))


@pytest.fixture
def use(monkeypatch):
    """`use("openvino")` sets the engine until the test ends."""
    return lambda name: monkeypatch.setenv(compute_options.VARIABLE, name)


def bert(tiny):
    model = load_sentence_transformer(tiny("sentence_transformer"), device=torch.device("cpu"), dtype=torch.float32)
    return model[0].auto_model


def cosines(one, other):
    return (one * other).sum(1)


@pytest.mark.parametrize(("name", "least"), [("openvino", 0.9995), ("openvino-int8", 0.98)])
def test_embeddings_are_those_of_torch(tiny, use, name, least):
    expected = Encoder(tiny("sentence_transformer"), dtype="float32").encode_documents(TEXTS)
    use(name)
    encoder = Encoder(tiny("sentence_transformer"))
    assert isinstance(encoder._model[0].auto_model, OpenVinoNetwork)
    assert cosines(expected, encoder.encode_documents(TEXTS)).min() > least


@pytest.mark.parametrize("name", ["openvino", "openvino-int8"])
def test_a_text_has_the_same_bits_alone_and_in_any_batch(tiny, use, name):
    use(name)
    encoder = Encoder(tiny("sentence_transformer"))
    together = encoder.encode_documents(TEXTS)
    alone = np.concatenate([encoder.encode_documents([text]) for text in TEXTS])
    assert np.array_equal(together, alone)
    assert cosines(together[:-1], together[1:]).max() < 0.99, "texts differ, so that equality says something"


def test_padding_stays_within_the_positions_of_the_network(tiny, use):
    use("openvino")
    network = bert(tiny)
    form = OpenVinoNetwork(network, "last_hidden_state")
    for tokens in (1, 15, 16, 17, network.config.max_position_embeddings):
        inputs = probe(network, 2, tokens)
        assert form(**inputs).last_hidden_state.shape == network(**inputs).last_hidden_state.shape


def test_vectors_of_another_engine_are_not_taken_from_the_cache(tiny, use):
    prints = {Encoder(tiny("sentence_transformer")).fingerprint}
    for name in ("openvino", "openvino-int8"):
        use(name)
        prints.add(Encoder(tiny("sentence_transformer")).fingerprint)
    assert len(prints) == 3


def test_several_threads_embed_at_once(tiny, use, use_threads):
    use_threads(2)
    use("openvino")
    encoder = Encoder(tiny("sentence_transformer"), batch_size=2)
    expected, found = encoder.encode_documents(TEXTS), {}

    def embed(number):
        found[number] = encoder.encode_documents(TEXTS)

    threads = [threading.Thread(target=embed, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for vectors in found.values():
        np.testing.assert_array_equal(vectors, expected)
    assert len(found) == 4


@pytest.mark.parametrize("name", ["openvino", "openvino-int8"])
def test_a_pair_has_the_same_bits_alone_and_in_any_batch(tiny, use, name):
    use(name)
    scorer = load_scorer(tiny("bert_classifier"))
    pairs = [(TEXTS[number % 3], text) for number, text in enumerate(TEXTS)]
    together = scorer.score(pairs)
    assert together == [scorer.score([pair])[0] for pair in pairs]
    assert len(set(together)) == len(pairs), "scores differ, so that equality says something"


def test_examples_of_the_shipped_prompts_are_what_margins_are_compared_on(tiny):
    model = load_pair_model(tiny("bert_classifier"), kind="cross-encoder", device="cpu", dtype="float32")
    batches = compiled._example_batches(model)
    assert sum(len(batch["input_ids"]) for batch in batches) >= 30
    assert compiled._margins(model, model, batches).std() > 0.01


@pytest.mark.parametrize("labels", [1, 2])
def test_scores_are_those_of_torch(tiny, use, labels):
    pairs = [(TEXTS[0], text) for text in TEXTS]
    expected = np.array(load_scorer(tiny("bert_classifier", labels=labels), dtype="float32").score(pairs))
    use("openvino")
    found = np.array(load_scorer(tiny("bert_classifier", labels=labels), dtype="float32").score(pairs))
    assert found == pytest.approx(expected, abs=1e-4)


def test_shuffled_weights_are_other_weights(tiny):
    network = bert(tiny)
    before = weights_fingerprint(network)
    with torch.no_grad():
        weight = network.encoder.layer[0].attention.self.query.weight
        weight.copy_(weight.flip(0))  # the same sum, and the same sum of squares
    assert weights_fingerprint(network) != before


def test_a_network_that_gives_something_else_does_not_agree(tiny):
    network, other = bert(tiny), bert(tiny)
    with torch.no_grad():
        other.encoder.layer[1].output.dense.weight.mul_(1.5)
    assert agrees(network, network, "last_hidden_state", 0.01)
    assert not agrees(network, OpenVinoNetwork(other, "last_hidden_state"), "last_hidden_state", 0.05)


def test_what_openvino_cannot_compute_is_refused_where_it_was_named(tiny, use, monkeypatch):
    monkeypatch.setattr(openvino_network, "_converted", lambda *_, **__: (_ for _ in ()).throw(RuntimeError("no")))
    monkeypatch.setattr(openvino_network, "_graph", openvino_network._converted)
    use("openvino")
    with pytest.raises(ConfigError, match=r"cannot compute a BertModel \(no\)"):
        Encoder(tiny("sentence_transformer"))


@pytest.mark.parametrize(("dtype", "shown"), [("float32", "f32"), ("bfloat16", "bf16")])
def test_a_named_number_format_is_the_one_computed_in(tiny, use, dtype, shown):
    if not openvino_network.computes_in(dtype):
        pytest.skip(f"OpenVINO does not compute in {dtype} here")
    use("openvino")
    encoder = Encoder(tiny("sentence_transformer"), dtype=dtype)
    assert str(encoder._model[0].auto_model).endswith(shown)


def test_a_number_format_that_openvino_does_not_have_is_refused(tiny, use, monkeypatch):
    use("openvino")
    with pytest.raises(ConfigError, match="not compute in float64"):
        Encoder(tiny("sentence_transformer"), dtype="float64")
    monkeypatch.setattr(choice, "computes_in", lambda dtype: dtype != "bfloat16")
    with pytest.raises(ConfigError, match="not compute in bfloat16"):
        Encoder(tiny("sentence_transformer"), dtype="bfloat16")


def test_float32_is_as_near_as_float32_is(tiny, use):
    expected = Encoder(tiny("sentence_transformer"), dtype="float32").encode_documents(TEXTS)
    use("openvino")
    found = Encoder(tiny("sentence_transformer"), dtype="float32").encode_documents(TEXTS)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_small_network_and_a_named_number_format_are_left_to_torch(tiny, use, monkeypatch):
    use("auto")

    def refuse(*_, **__):
        raise AssertionError("a trial was held")

    monkeypatch.setattr(choice.trial, "fastest", refuse)
    assert not isinstance(Encoder(tiny("sentence_transformer"))._model[0].auto_model, OpenVinoNetwork)
    monkeypatch.setattr(choice, "MIN_PARAMETERS", 1)
    assert not isinstance(Encoder(tiny("sentence_transformer"), dtype="float32")._model[0].auto_model, OpenVinoNetwork)
    with pytest.raises(AssertionError, match="a trial was held"):
        Encoder(tiny("sentence_transformer"))


def tried_forms(monkeypatch, **replaced):
    """The engines that a trial compared, without those that cannot compute the network."""
    names = []

    def fastest(_model, _subject, trials):
        names.extend(name for name, trial in trials.items() if trial() is not None)
        return "torch"

    monkeypatch.setattr(choice, "MIN_PARAMETERS", 1)
    monkeypatch.setattr(choice.trial, "fastest", fastest)
    for name, value in replaced.items():
        monkeypatch.setattr(choice, name, value)
    return names


@pytest.mark.parametrize("kind", ["sentence_transformer", "bert_classifier", "t5"])
def test_8_bit_weights_are_tried_where_these_are_near_enough(tiny, use, monkeypatch, kind):
    use("auto")
    is_encoder = kind == "sentence_transformer"
    answers = {"true_token": "▁true", "false_token": "▁false"} if kind == "t5" else {}
    for nearest, last in ((1.0, ["openvino-int8"]), (1e-9, [])):
        names = tried_forms(monkeypatch)
        monkeypatch.setattr(choice if is_encoder else compiled, "MAX_UNNAMED_INT8", nearest)
        (Encoder if is_encoder else load_scorer)(tiny(kind), **answers)
        assert names == ["torch", "openvino", *last]


def test_8_bit_weights_are_not_tried_where_nothing_makes_them(tiny, use, monkeypatch):
    use("auto")
    names = tried_forms(monkeypatch, has_openvino=lambda *, int8: not int8)
    Encoder(tiny("sentence_transformer"))
    assert names == ["torch", "openvino"]


def test_a_trial_leaves_the_network_as_it_was(tiny, use, monkeypatch):
    expected = Encoder(tiny("sentence_transformer")).encode_documents(TEXTS)
    use("auto")
    monkeypatch.setattr(choice, "MIN_PARAMETERS", 1)
    monkeypatch.setattr(choice.trial, "MIN_GAIN", 1e9)  # torch is taken whatever the trial says
    monkeypatch.setattr(choice.trial, "MIN_INT8_GAIN", 1e9)
    encoder = Encoder(tiny("sentence_transformer"))
    assert not isinstance(encoder._model[0].auto_model, OpenVinoNetwork)
    np.testing.assert_array_equal(encoder.encode_documents(TEXTS), expected)


def test_the_network_fits_its_probe(tiny):
    inputs = probe(bert(tiny), 3, 40)
    assert inputs["input_ids"].shape == (3, 40)
    assert int(inputs["input_ids"].max()) < len(tiny_models.bert_tokenizer())


def test_nobody_is_told_that_it_is_used(tiny, tmp_path):
    """OpenVINO's telemetry is opt-out; tested in a fresh process."""
    program = (
        "import sys\n"
        "from inpars.retrieval.dense import Encoder\n"
        "Encoder(sys.argv[1], dtype='float32').encode_queries(['a lake'])\n"
        "import nncf, openvino, openvino_genai\n"
        "assert 'nncf' in sys.modules and sys.modules['openvino_telemetry'] is None\n"
    )
    environment = os.environ | {compute_options.VARIABLE: "openvino-int8", "INPARS_CACHE": str(tmp_path)}
    subprocess.run([sys.executable, "-c", program, tiny("sentence_transformer")], env=environment, check=True)


GATED_MLP = """
import sys, torch
from torch import nn
from inpars.engines import openvino_network

class Mlp(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.down = nn.Linear(256, 256), nn.Linear(512, 256, bias=False)
        self.gate, self.up = nn.Linear(256, 512, bias=False), nn.Linear(256, 512, bias=False)
        self.dtype = torch.float32

    def forward(self, states):
        states = self.first(states)
        return states + self.down(nn.functional.silu(self.gate(states)) * self.up(states))

torch.set_num_threads(1)
network, states = Mlp().eval(), torch.randn(2, 7, 256)
with torch.inference_mode():
    form = openvino_network.OpenVinoFunction(network, lambda whole: whole, {"states": states}, "mlp")
    print(float((form(states) - network(states)).abs().max()))
"""


def test_a_gated_mlp_with_one_thread():
    """On AMX with bfloat16, OpenVINO's fused kernel of a gated MLP divided by zero and killed the process."""
    done = subprocess.run([sys.executable, "-c", GATED_MLP], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 0.05
