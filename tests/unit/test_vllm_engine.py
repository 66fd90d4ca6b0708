"""vLLM's answers become queries as our own engine writes them; vLLM is a stand-in that decodes by transformers."""

import importlib
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from tiny_models import sentence

from inpars.generation.causal_lm import CausalGenerator
from inpars.generation.settings import DecodingSettings
from inpars.models.loading import load_causal_lm
from inpars.prompting.templates import Prompt
from inpars.records import Document
from inpars.stages import generating
from inpars.stages.generating import GenerateOptions, load_on_worker

PROMPT = Prompt(name="test", form="Document: {document}\nRelevant Query: {query}", stop=("\n", "a"))
DOCUMENTS = [Document(f"d{n}", sentence(n, 4 + n)) for n in range(5)]


class StandIn:
    """Takes what `vllm.LLM` takes here, and answers greedily with the likeliest tokens and their log-probs."""

    made = ()

    def __init__(self, model, **settings):
        type(self).made = (model, settings)
        self._network, self._tokenizer = load_causal_lm(model, device=torch.device("cpu"), dtype=torch.float32)

    def get_tokenizer(self):
        return self._tokenizer

    def generate(self, prompts, wanted, use_tqdm):
        assert not use_tqdm
        return [self._answer(p["prompt_token_ids"], w) for p, w in zip(prompts, wanted, strict=True)]

    def _answer(self, ids, wanted):
        tokens, found = [], []
        with torch.inference_mode():
            while len(tokens) < wanted.max_tokens:
                logits = self._network(torch.tensor([[*ids, *tokens]])).logits[0, -1]
                token = int(logits.argmax())
                tokens.append(token)
                found.append({token: SimpleNamespace(logprob=float(logits.log_softmax(-1)[token]))})
                text = self._tokenizer.decode(tokens)
                if token == self._tokenizer.eos_token_id or any(stop in text for stop in wanted.stop):
                    break
        sequence = SimpleNamespace(token_ids=tokens, logprobs=found)
        return SimpleNamespace(outputs=[sequence] * wanted.n)


@pytest.fixture
def vllm(monkeypatch):
    module = ModuleType("vllm")
    module.LLM, module.SamplingParams = StandIn, SimpleNamespace
    monkeypatch.setitem(sys.modules, "vllm", module)
    monkeypatch.delitem(sys.modules, "inpars.generation.vllm_engine", raising=False)
    yield importlib.import_module("inpars.generation.vllm_engine")
    sys.modules.pop("inpars.generation.vllm_engine", None)


@pytest.mark.parametrize("new_tokens", [2, 12])
def test_queries_are_those_of_our_own_engine(vllm, tiny, new_tokens):
    settings = DecodingSettings(max_new_tokens=new_tokens, max_doc_tokens=20)
    found = vllm.VllmGenerator(tiny("llama"), PROMPT, settings).generate(DOCUMENTS)
    expected = CausalGenerator(tiny("llama"), PROMPT, settings, dtype="float32").generate(DOCUMENTS)
    assert [len(own) for own in found] == [1] * 5
    for (ours,), (theirs,) in zip(expected, found, strict=True):
        assert (theirs.text, theirs.token_ids, theirs.finish_reason) == (ours.text, ours.token_ids, ours.finish_reason)
        assert theirs.token_log_probs == pytest.approx(ours.token_log_probs, abs=1e-4)
        assert theirs.stop_log_prob == pytest.approx(ours.stop_log_prob, abs=1e-4)


def test_vllm_is_asked_for_raw_log_probs_and_for_draws_of_each_document(vllm, tiny):
    settings = DecodingSettings(num_queries=3, temperature=1.0, top_p=0.9, seed=7, max_new_tokens=4)
    generator = vllm.VllmGenerator(tiny("llama"), PROMPT, settings, dtype="bfloat16")
    model, given = StandIn.made
    assert (model, given["logprobs_mode"], given["dtype"], given["seed"]) == (
        tiny("llama"),
        "raw_logprobs",
        "bfloat16",
        7,
    )
    first, second = (generator._wanted(document) for document in DOCUMENTS[:2])
    assert (first.n, first.temperature, first.top_p, first.logprobs, first.stop) == (3, 1.0, 0.9, 0, ["\n", "a"])
    assert first.seed != second.seed
    assert first.seed == generator._wanted(DOCUMENTS[0]).seed
    assert [len(own) for own in generator.generate(DOCUMENTS[:2])] == [3, 3]
    assert generator.plan(DOCUMENTS) == [[0, 1, 2, 3, 4]]


def test_a_worker_takes_vllm_with_a_gpu_alone_and_never_for_float32(vllm, tiny, monkeypatch):
    monkeypatch.setattr(generating, "find_spec", lambda name: name == "vllm")
    common = {"model": tiny("llama"), "max_new_tokens": 2, "device": "cpu", "engine": "ray", "threads": 1}
    kinds = [
        type(load_on_worker(GenerateOptions(**common, **own), PROMPT)).__name__
        for own in ({"gpus_per_worker": 1.0}, {}, {"gpus_per_worker": 1.0, "dtype": "float32"})
    ]
    assert kinds == ["VllmGenerator", "CausalGenerator", "CausalGenerator"]
    monkeypatch.setattr(generating, "find_spec", lambda _: None)
    assert type(load_on_worker(GenerateOptions(**common, gpus_per_worker=1.0), PROMPT)).__name__ == "CausalGenerator"
