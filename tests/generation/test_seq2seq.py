"""A tiny T5 as query generator, against transformers' own `generate` and a teacher-forced pass."""

import pytest
import torch
from tiny_models import sentence
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from inpars.cli.main import main
from inpars.errors import ConfigError
from inpars.generation.seq2seq import Seq2SeqGenerator
from inpars.generation.settings import DecodingSettings
from inpars.io.formats import read_synthetic_queries, write_documents
from inpars.records import Document

DOCUMENTS = [Document(f"d{number}", sentence(number, 2 + number % 5 * 3)) for number in range(11)]
NEW_TOKENS = 10


def generator(tiny, **settings):
    limits = {"max_doc_tokens": 20, "max_new_tokens": NEW_TOKENS} | settings
    return Seq2SeqGenerator(str(tiny("t5")), DecodingSettings(**limits), device="cpu", dtype="float32")


def test_greedy_queries_are_those_of_generate(tiny):
    network = AutoModelForSeq2SeqLM.from_pretrained(tiny("t5")).eval()
    tokenizer = AutoTokenizer.from_pretrained(tiny("t5"))
    found = generator(tiny).generate(DOCUMENTS)
    for document, (query,) in zip(DOCUMENTS, found, strict=True):
        inputs = tokenizer([document.text], truncation=True, max_length=20, return_tensors="pt")
        expected = network.generate(**inputs, max_new_tokens=NEW_TOKENS, do_sample=False, num_beams=1)[0, 1:]
        kept = [token for token in expected.tolist() if token != tokenizer.eos_token_id]
        assert list(query.token_ids) == kept


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_log_probs_are_those_of_a_teacher_forced_pass(tiny, temperature):
    network = AutoModelForSeq2SeqLM.from_pretrained(tiny("t5")).eval()
    tokenizer = AutoTokenizer.from_pretrained(tiny("t5"))
    several = 3 if temperature else 1
    found = generator(tiny, num_queries=several, temperature=temperature, top_p=0.95).generate(DOCUMENTS)
    assert all(len(queries) == several for queries in found)
    for document, queries in zip(DOCUMENTS, found, strict=True):
        inputs = tokenizer([document.text], truncation=True, max_length=20, return_tensors="pt")
        for query in queries:
            labels = torch.tensor([[network.config.decoder_start_token_id, *query.token_ids]])
            with torch.no_grad():
                logits = network(**inputs, decoder_input_ids=labels[:, :-1]).logits[0] if query.token_ids else None
            if logits is not None:
                expected = logits.log_softmax(-1).gather(1, labels[0, 1:, None])[:, 0]
                assert list(query.token_log_probs) == pytest.approx(expected.tolist(), abs=1e-4)


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_any_batch_size_draws_the_same_queries(tiny, batch_size):
    settings = {"num_queries": 3, "temperature": 1.0, "top_p": 0.95}
    expected = generator(tiny, **settings).generate(DOCUMENTS)
    found = generator(tiny, **settings, batch_size=batch_size).generate(DOCUMENTS)
    texts = [[query.text for query in queries] for queries in found]
    assert texts == [[query.text for query in queries] for queries in expected]
    assert any(len(set(queries)) > 1 for queries in texts), "samples of a document differ"


def test_by_the_command_line_three_queries_a_document_are_the_default(tiny, tmp_path):
    corpus, output = tmp_path / "corpus.jsonl", tmp_path / "queries.jsonl"
    write_documents(corpus, DOCUMENTS)
    flags = ["--backend", "seq2seq", "--model", str(tiny("t5")), "--max-new-tokens", "6", "--dtype", "float32"]
    assert main(["generate", "--corpus", str(corpus), "--output", str(output), "--quiet", *flags]) == 0
    queries = list(read_synthetic_queries(output))
    assert [query.query_id for query in queries[:4]] == ["d0-q0", "d0-q1", "d0-q2", "d1-q0"]
    assert {query.prompt for query in queries} == {"document"}
    assert len(queries) == 3 * len(DOCUMENTS)


def test_a_long_document_is_cut_and_the_prompt_around_it_stays_whole(tiny):
    settings = DecodingSettings(max_doc_tokens=20, max_new_tokens=4)
    writer = Seq2SeqGenerator(
        str(tiny("t5")), settings, render=lambda _, text: f"Document: {text} Query:", device="cpu", dtype="float32"
    )
    (ids,) = writer._inputs([Document("d", sentence(1, 90))])
    text = AutoTokenizer.from_pretrained(tiny("t5")).decode(ids, skip_special_tokens=True)
    assert text.startswith("Document:")
    assert text.endswith("Query:")
    assert 20 <= len(ids) < 60


def test_several_greedy_queries_are_refused(tiny):
    with pytest.raises(ConfigError, match="several queries"):
        generator(tiny, num_queries=3)
