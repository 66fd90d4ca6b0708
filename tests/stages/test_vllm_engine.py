"""vLLM's answers become queries as our own engine writes them; vLLM is a stand-in that decodes by transformers.

`tests/reference/test_vllm.py` asks the real one.
"""

import importlib
import sys
from importlib.machinery import ModuleSpec
from pkgutil import resolve_name
from types import ModuleType, SimpleNamespace
from typing import get_args

import pytest
import torch
from tiny_models import sentence

from inpars.errors import BackendError, ConfigError, MissingDependencyError
from inpars.generation.causal_lm import CausalGenerator
from inpars.generation.settings import DecodingSettings
from inpars.models.loading import load_causal_lm
from inpars.prompts.templates import Example, Prompt, PromptChoice
from inpars.records import Document
from inpars.stages import generate as generate_stage
from inpars.stages import generate_locally
from inpars.stages.generate import Backend, GenerateOptions, load_generator, load_on_worker
from inpars.stages.generate_by_api import SERVER_BACKENDS

PROMPT = Prompt(name="test", form="Document: {document}\nRelevant Query: {query}", stop=("\n", "a"))
DOCUMENTS = [Document(f"d{n}", sentence(n, 4 + n)) for n in range(5)]
DRAWN = DecodingSettings(num_queries=3, temperature=1.0, top_p=0.9, seed=7, max_new_tokens=4, batch_size=2)


class StandIn:
    """Takes what `vllm.LLM` takes here, and answers greedily with the likeliest tokens and their log-probs."""

    made, asked = (), []

    def __init__(self, model, **settings):
        type(self).made, type(self).asked = (model, settings), []
        self._network, self._tokenizer = load_causal_lm(model, device=torch.device("cpu"), dtype=torch.float32)

    def reset_prefix_cache(self):
        self.asked.append("reset")
        return True

    def generate(self, prompts, wanted, use_tqdm):
        assert not use_tqdm
        self.asked.append([prompt["prompt_token_ids"] for prompt in prompts])
        return [self._answer(p["prompt_token_ids"], w) for p, w in zip(prompts, wanted, strict=True)]

    def _answer(self, ids, wanted):
        tokens, log_probs = [], []
        with torch.inference_mode():
            while len(tokens) < wanted.max_tokens:
                logits = self._network(torch.tensor([[*ids, *tokens]])).logits[0, -1]
                token = int(logits.argmax())
                tokens.append(token)
                log_probs.append({token: SimpleNamespace(logprob=float(logits.log_softmax(-1)[token]))})
                text = self._tokenizer.decode(tokens)
                if token == self._tokenizer.eos_token_id or any(stop in text for stop in getattr(wanted, "stop", ())):
                    break
        return SimpleNamespace(outputs=[SimpleNamespace(token_ids=tokens, logprobs=log_probs)])


class OutOfMemory(StandIn):
    def __init__(self, model, **settings):
        raise ValueError("No available memory for the cache blocks.\nTry increasing it")


@pytest.fixture
def vllm(monkeypatch):
    module = ModuleType("vllm")
    module.__spec__ = ModuleSpec("vllm", None)
    module.LLM, module.SamplingParams = StandIn, SimpleNamespace
    monkeypatch.setitem(sys.modules, "vllm", module)
    engine = importlib.import_module("inpars.generation.vllm_engine")
    for name, value in engine.ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    return engine


@pytest.mark.parametrize("new_tokens", [2, 12])
def test_queries_are_those_of_our_own_engine(vllm, tiny, new_tokens):
    settings = DecodingSettings(max_new_tokens=new_tokens, max_doc_tokens=20)
    result = vllm.VllmGenerator(tiny("llama"), PROMPT, settings).generate(DOCUMENTS)
    expected = CausalGenerator(tiny("llama"), PROMPT, settings, dtype="float32").generate(DOCUMENTS)
    assert [len(own) for own in result] == [1] * 5
    for (ours,), (theirs,) in zip(expected, result, strict=True):
        assert (theirs.text, theirs.token_ids, theirs.finish_reason) == (ours.text, ours.token_ids, ours.finish_reason)
        assert theirs.token_log_probs == pytest.approx(ours.token_log_probs, abs=1e-4)
        assert theirs.stop_log_prob == pytest.approx(ours.stop_log_prob, abs=1e-4)


def test_vllm_is_asked_for_raw_log_probs_and_for_no_more_room_than_needed(vllm, tiny):
    generator = vllm.VllmGenerator(tiny("llama"), PROMPT, DRAWN, dtype="bfloat16")
    model, given = StandIn.made
    assert model == tiny("llama")
    wanted = {"logprobs_mode": "raw_logprobs", "dtype": "bfloat16", "seed": 7, "max_num_seqs": 2, "max_model_len": 512}
    assert {name: given[name] for name in wanted} == wanted
    assert given["kv_cache_memory_bytes"] <= vllm.CACHE_BYTES
    assert generator.device.startswith("vLLM on cpu")
    short = DecodingSettings(max_doc_tokens=20, max_new_tokens=4)
    vllm.VllmGenerator(tiny("llama"), PROMPT, short)
    assert 50 < StandIn.made[1]["max_model_len"] < 200
    assert "max_num_seqs" not in StandIn.made[1]


def test_draws_of_a_query_depend_on_the_seed_and_its_key_alone(vllm, tiny):
    generator = vllm.VllmGenerator(tiny("llama"), PROMPT, DRAWN)
    first, again, second = (generator._sampling_parameters(key) for key in ("d0-q0", "d0-q0", "d0-q1"))
    assert (first.temperature, first.top_p, first.logprobs, first.stop) == (1.0, 0.9, 0, ["\n", "a"])
    assert first.seed == again.seed != second.seed
    assert first.stop_token_ids == [1]
    assert [len(own) for own in generator.generate(DOCUMENTS[:2])] == [3, 3]
    assert generator.plan(DOCUMENTS) == [[0, 1, 2, 3, 4]]


def test_every_chunk_begins_with_the_prefix_alone_in_the_cache(vllm, tiny):
    generator = vllm.VllmGenerator(tiny("llama"), PROMPT, DecodingSettings(max_new_tokens=2))
    generator.generate(DOCUMENTS[:2])
    generator.generate(DOCUMENTS[2:3])
    reset, (prefix,), two, *rest = StandIn.asked
    assert (reset, len(two)) == ("reset", 2)
    assert all(prompt[: len(prefix)] == prefix for prompt in two)
    assert rest[:2] == ["reset", [prefix]]
    assert len(rest[2]) == 1


def test_a_prompt_with_each_documents_own_examples_has_its_stops(vllm, tiny):
    examples = (Example(document="amber", query="apple"), Example(document="cedar", query="cherry"))
    generator = vllm.VllmGenerator(tiny("llama"), PromptChoice(PROMPT, examples, "random", 1), DecodingSettings())
    assert generator._sampling_parameters("d0-q0").stop == ["\n", "a"]


@pytest.mark.parametrize(
    ("own", "problem"),
    [
        ({"device": "cuda:1"}, "CUDA_VISIBLE_DEVICES"),
        ({"dtype": "float64"}, "float64"),
        ({"max_doc_tokens": 600}, "reads 512 tokens"),
    ],
)
def test_what_vllm_cannot_do_is_refused_before_it_loads(vllm, tiny, monkeypatch, own, problem):
    monkeypatch.setattr(vllm, "_vllm", lambda: pytest.fail("loaded"))
    with pytest.raises(ConfigError, match=problem):
        load_generator(GenerateOptions(model=tiny("llama"), backend="vllm", **own), PROMPT)


def test_what_vllm_raises_is_one_line(vllm, tiny):
    sys.modules["vllm"].LLM = OutOfMemory
    with pytest.raises(BackendError, match=r"No available memory.*--backend causal"):
        load_generator(GenerateOptions(model=tiny("llama"), backend="vllm"), PROMPT)


def test_without_the_package_the_pip_line_is_given(tiny, monkeypatch):
    monkeypatch.setattr(generate_locally, "find_spec", lambda _: None)
    with pytest.raises(MissingDependencyError, match=r"vllm is needed for --backend vllm .* pip install vllm"):
        load_generator(GenerateOptions(model=tiny("llama"), backend="vllm"), PROMPT)


def test_every_backend_has_its_choice_and_loader():
    assert {*generate_locally.BACKENDS, *SERVER_BACKENDS} == set(get_args(Backend))
    assert all(callable(resolve_name(backend.loader)) for backend in generate_locally.BACKENDS.values())


def test_a_worker_takes_vllm_with_a_gpu_alone_and_never_for_float32(vllm, tiny, monkeypatch):
    monkeypatch.setattr(generate_stage, "find_spec", lambda name: name == "vllm")
    common = {"model": tiny("llama"), "max_new_tokens": 2, "device": "cpu", "engine": "ray", "threads": 1}
    kinds = [
        type(load_on_worker(GenerateOptions(**common, **own), PROMPT)).__name__
        for own in ({"gpus_per_worker": 1.0}, {}, {"gpus_per_worker": 1.0, "dtype": "float32"})
    ]
    assert kinds == ["VllmGenerator", "CausalGenerator", "CausalGenerator"]
    monkeypatch.setattr(generate_stage, "find_spec", lambda _: None)
    assert type(load_on_worker(GenerateOptions(**common, gpus_per_worker=1.0), PROMPT)).__name__ == "CausalGenerator"
