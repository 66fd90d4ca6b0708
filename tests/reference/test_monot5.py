"""A monoT5 trained by the stage on 32 triples: it learns them by heart, and any T5 loader scores as we do."""

import random

import pytest
import torch
from tiny_models import WORDS
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from inpars.errors import DataFormatError
from inpars.rerankers import load_scorer
from inpars.rerankers.monot5 import TRAINING_TOKENS
from inpars.stages.train import train_reranker_from_file
from inpars.training.reranker import RerankerOptions

TRIPLES = 32


def triples():
    """Texts of random words, so that nothing but memory tells positives from negatives."""
    chooser = random.Random(5)
    return [tuple(" ".join(chooser.sample(WORDS, count)) for count in (2, 6, 6)) for _ in range(TRIPLES)]


@pytest.fixture(scope="module")
def trained(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("monot5")
    path = folder / "triples.tsv"
    path.write_text("".join("\t".join(row) + "\n" for row in triples()), encoding="utf-8")
    options = RerankerOptions(
        model=tiny("t5"), epochs=30, batch_size=8, learning_rate=1e-2, device="cpu", dtype="float32"
    )
    manifest = train_reranker_from_file(path, options, output=folder / "model")
    return str(folder / "model"), manifest


def pairs():
    """Every query with its positive, then every query with its negative."""
    return [(query, positive) for query, positive, _ in triples()] + [(query, neg) for query, _, neg in triples()]


@pytest.fixture(scope="module")
def generated(trained):
    """The first generated token and its logits margin for every pair, by transformers alone."""
    network = AutoModelForSeq2SeqLM.from_pretrained(trained[0]).eval()
    tokenizer = AutoTokenizer.from_pretrained(trained[0])
    true_id, false_id = tokenizer.convert_tokens_to_ids(list(TRAINING_TOKENS))
    words, margins = [], []
    for query, document in pairs():
        encoded = tokenizer(f"Query: {query} Document: {document} Relevant:", return_tensors="pt")
        output = network.generate(
            input_ids=encoded["input_ids"],
            max_new_tokens=1,
            do_sample=False,
            output_scores=True,
            return_dict_in_generate=True,
        )
        words.append(tokenizer.decode(output.sequences[0], skip_special_tokens=True).strip())
        margins.append((output.scores[0][0, true_id] - output.scores[0][0, false_id]).item())
    return words, margins


def test_it_answers_true_and_false_for_all_32_triples(generated):
    assert generated[0] == ["true"] * TRIPLES + ["false"] * TRIPLES


def test_its_scores_are_the_margins_of_generates_first_step(trained, generated):
    scores = load_scorer(trained[0], device="cpu", dtype="float32").score(pairs())
    assert scores == pytest.approx(generated[1], abs=1e-4)
    assert all(score > 0 for score in scores[:TRIPLES])
    assert all(score < 0 for score in scores[TRIPLES:])


def test_its_scores_are_pygaggles_but_for_its_softmax(trained):
    # pygaggle: log_softmax of the first step's logits of false and true, of which it keeps that of true
    network = AutoModelForSeq2SeqLM.from_pretrained(trained[0]).eval()
    tokenizer = AutoTokenizer.from_pretrained(trained[0])
    settings = network.config.inpars
    assert (settings["true_token"], settings["false_token"]) == TRAINING_TOKENS
    ids = [settings["false_token_id"], settings["true_token_id"]]
    start = torch.tensor([[network.config.decoder_start_token_id]])
    ours = load_scorer(trained[0], device="cpu", dtype="float32").score(pairs())
    for (query, document), margin in zip(pairs(), ours, strict=True):
        encoded = tokenizer(f"Query: {query} Document: {document} Relevant:", return_tensors="pt")
        with torch.inference_mode():
            logits = network(input_ids=encoded["input_ids"], decoder_input_ids=start).logits[0, 0, ids]
        assert margin == pytest.approx((logits[1] - logits[0]).item(), rel=1e-5, abs=1e-5)
        theirs = logits.log_softmax(0)[1].item()
        assert torch.tensor(margin).sigmoid().log().item() == pytest.approx(theirs, abs=1e-5)


def test_the_curve_is_kept_and_falls(trained):
    curve = trained[1].results["curve"]
    assert trained[1].results["examples"] == TRIPLES
    assert len(curve["losses"]) == len(curve["steps"]) > 10
    assert curve["losses"][-1] < 0.1 < 1 < curve["losses"][0]


def test_golden_loss_of_three_steps(tiny, tmp_path):
    # taken from this code (torch 2.13, transformers 5.23); another value says that training has changed
    path = tmp_path / "triples.tsv"
    path.write_text("".join("\t".join(row) + "\n" for row in triples()[:12]), encoding="utf-8")
    options = RerankerOptions(
        model=tiny("t5"), batch_size=4, learning_rate=1e-3, device="cpu", dtype="float32", warmup=0.0
    )
    results = train_reranker_from_file(path, options, output=tmp_path / "model").results
    assert results["curve"]["steps"] == [1, 2, 3]
    assert results["curve"]["losses"] == pytest.approx([7.63554, 7.30563, 7.02956], abs=2e-3)


def test_the_first_loss_is_the_cross_entropy_of_the_answers(tiny, tmp_path):
    rows = triples()[:4]
    path = tmp_path / "triples.tsv"
    path.write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")
    options = RerankerOptions(model=tiny("t5"), batch_size=4, device="cpu", dtype="float32")
    (loss,) = train_reranker_from_file(path, options, output=tmp_path / "model").results["curve"]["losses"]
    network, tokenizer = AutoModelForSeq2SeqLM.from_pretrained(tiny("t5")), AutoTokenizer.from_pretrained(tiny("t5"))
    losses = []
    for query, *documents in rows:
        for document, answer in zip(documents, TRAINING_TOKENS, strict=True):
            encoded = tokenizer(f"Query: {query} Document: {document} Relevant:", return_tensors="pt")
            labels = torch.tensor([[tokenizer.convert_tokens_to_ids(answer)]])
            losses.append(network(input_ids=encoded["input_ids"], labels=labels).loss.item())
    assert loss == pytest.approx(sum(losses) / len(losses), abs=1e-4)


@pytest.mark.parametrize("line", ["one column", "two\tcolumns", "empty\t\tpositive", "four\tare\ttoo\tmany"])
def test_a_line_that_is_no_triple_is_named(tiny, tmp_path, line):
    path = tmp_path / "triples.tsv"
    path.write_text(f"a\tb\tc\n{line}\n", encoding="utf-8")
    with pytest.raises(DataFormatError, match=r"triples.tsv:2: a triple has 3 tab-separated texts"):
        train_reranker_from_file(path, RerankerOptions(model=tiny("t5")), output=tmp_path / "model")
