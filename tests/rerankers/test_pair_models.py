"""Each kind of scorer against a plain computation with transformers, and the effects of cutting and padding."""

import math

import pytest
import torch
from tiny_models import bert_tokenizer, byte_level_tokenizer, sentence, t5_tokenizer
from tokenizers import processors
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    LlamaConfig,
    LlamaForSequenceClassification,
)

from inpars.errors import ConfigError
from inpars.prompts.templates import Example, Prompt
from inpars.rerankers import load_scorer
from inpars.rerankers.cross_encoder import CrossEncoder
from inpars.rerankers.load import check_prompt_is_read, load_pair_model
from inpars.rerankers.monot5 import MonoT5
from inpars.rerankers.pair_model import ModelScorer, collate, fit, save_pair_model
from inpars.rerankers.query_likelihood import QueryLikelihood
from inpars.rerankers.yes_no import CausalYesNo
from inpars.training.loop import with_less_memory

PAIRS = [(sentence(n, 1 + n % 4)[:-1], sentence(50 + n, 1 + n * 5 % 17)) for n in range(13)]
KINDS = ["monot5", "cross-encoder", "causal", "query-likelihood"]
ANSWERS = {"monot5": ("▁true", "▁false"), "causal": (" yes", " no")}
EXACT = {"device": "cpu", "dtype": "float32"}


def folder_of(tiny, kind):
    return tiny({"monot5": "t5", "cross-encoder": "bert_classifier"}.get(kind, "llama"))


def settings_of(kind):
    true_token, false_token = ANSWERS.get(kind, (None, None))
    return {"kind": kind, "true_token": true_token, "false_token": false_token, **EXACT}


def scorer(tiny, kind, **settings):
    return load_scorer(folder_of(tiny, kind), **settings_of(kind), **settings)


def close(values):
    return pytest.approx(values, abs=1e-4)


def plain(kind, folder):
    return kind.from_pretrained(folder, dtype=torch.float32).eval(), AutoTokenizer.from_pretrained(folder)


def test_monot5_is_the_margin_of_the_first_decoder_step(tiny):
    network, tokenizer = plain(AutoModelForSeq2SeqLM, tiny("t5"))
    true_id, false_id = tokenizer.convert_tokens_to_ids(["▁true", "▁false"])
    expected = []
    for query, document in PAIRS:
        encoded = tokenizer(f"Query: {query} Document: {document} Relevant:", return_tensors="pt")
        with torch.inference_mode():
            logits = network(input_ids=encoded["input_ids"], decoder_input_ids=torch.tensor([[0]])).logits[0, 0]
        expected.append((logits[true_id] - logits[false_id]).item())
    assert scorer(tiny, "monot5").score(PAIRS) == close(expected)


@pytest.mark.parametrize("labels", [1, 2])
def test_a_cross_encoder_is_the_classifiers_logit_or_the_difference_of_two(tiny, labels):
    folder = tiny("bert_classifier", labels=labels)
    network, tokenizer = plain(AutoModelForSequenceClassification, folder)
    expected = []
    for query, document in PAIRS:
        encoded = tokenizer(query, document, truncation="only_second", max_length=128, return_tensors="pt")
        with torch.inference_mode():
            logits = network(**encoded).logits[0]
        expected.append((logits[0] if labels == 1 else logits[1] - logits[0]).item())
    assert load_scorer(folder, **EXACT).score(PAIRS) == close(expected)


def test_a_cross_encoder_pairs_texts_as_its_tokenizer_does_also_without_segments(tiny):
    network, tokenizer = plain(AutoModelForSequenceClassification, tiny("bert_classifier"))
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    encoded = CrossEncoder(network, tokenizer).encode(PAIRS)
    assert [pair.ids for pair in encoded] == [tokenizer(*pair)["input_ids"] for pair in PAIRS]
    with torch.inference_mode():
        expected = [network(torch.tensor([pair.ids])).logits.item() for pair in encoded]
    assert ModelScorer(CrossEncoder(network, tokenizer), "x").score(PAIRS) == close(expected)


def test_a_classifier_with_three_labels_is_no_reranker(tiny):
    with pytest.raises(ConfigError, match=r"one label or two; .*has 3"):
        load_scorer(tiny("bert_classifier", labels=3), **EXACT)


def test_a_classifier_with_two_labels_and_no_plain_head_is_refused(tiny):
    network, tokenizer = plain(AutoModelForSequenceClassification, tiny("bert_classifier", labels=2))
    network.classifier = torch.nn.Bilinear(3, 3, 2)
    with pytest.raises(ConfigError, match="no head"):
        CrossEncoder(network, tokenizer)


def test_a_decoder_is_the_margin_of_yes_over_no_after_the_cue(tiny):
    network, tokenizer = plain(AutoModelForCausalLM, tiny("llama"))
    yes, no = (tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in (" yes", " no"))
    expected = []
    for query, document in PAIRS:
        text = f"Document: {document}\nQuery: {query}\nDoes the document answer the query? Answer:"
        with torch.inference_mode():
            logits = network(**tokenizer(text, return_tensors="pt")).logits[0, -1]
        expected.append((logits[yes] - logits[no]).item())
    assert scorer(tiny, "causal").score(PAIRS) == close(expected)


PROMPT = Prompt(
    name="test",
    form="Document: {document}\nRelevant Query: {query}",
    examples=(Example("a lake is a body of water.", "what is a lake?"),),
)


@pytest.mark.parametrize("kind", ["llama", "mistral", "gpt2"])
@pytest.mark.parametrize("prompt", [PROMPT, None], ids=["prompt", "bare"])
def test_query_likelihood_is_the_log_probability_of_the_querys_tokens(tiny, kind, prompt):
    network, tokenizer = plain(AutoModelForCausalLM, tiny(kind))
    shown = prompt or Prompt(name="bare", form="Document: {document}\nRelevant Query: {query}")
    expected = []
    for query, document in PAIRS:
        before = tokenizer(shown.render(document))["input_ids"]
        after = tokenizer(" " + query, add_special_tokens=False)["input_ids"]
        with torch.inference_mode():
            rows = network(torch.tensor([before + after])).logits[0].log_softmax(-1)[len(before) - 1 : -1]
        expected.append(rows[torch.arange(len(after)), torch.tensor(after)].sum().item())
    found = load_scorer(tiny(kind), kind="query-likelihood", prompt=prompt, **EXACT).score(PAIRS)
    assert found == close(expected)


def test_query_likelihood_as_a_mean(tiny):
    network, tokenizer = plain(AutoModelForCausalLM, tiny("llama"))
    means = ModelScorer(QueryLikelihood(network, tokenizer, reduction="mean"), "x").score(PAIRS)
    sums = ModelScorer(QueryLikelihood(network, tokenizer, reduction="sum"), "x").score(PAIRS)
    lengths = [len(tokenizer(" " + query, add_special_tokens=False)["input_ids"]) for query, _ in PAIRS]
    assert sums == close([mean * length for mean, length in zip(means, lengths, strict=True)])


def test_query_likelihood_scores_the_same_with_and_without_a_cached_prefix(tiny):
    # scoring reads the prefix once for all, training once a pass, and with every pair where no activations are kept
    model = load_pair_model(tiny("llama"), kind="query-likelihood", prompt=PROMPT, **EXACT)
    batch, expected = collate(model.encode(PAIRS), pad=0), close(ModelScorer(model, "x").score(PAIRS))
    found = {}
    for checkpointing in (False, True):
        if checkpointing:
            with_less_memory(model.network)
        model.network.train()
        model.network.zero_grad()
        margins = model.margins(batch)
        assert margins.tolist() == expected
        margins.sum().backward()
        found[checkpointing] = [weight.grad.clone() for weight in model.network.parameters()]
    for shared, each in zip(*found.values(), strict=True):
        torch.testing.assert_close(shared, each, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_neither_batch_nor_order_changes_a_score(tiny, kind):
    alone = [score for pair in PAIRS for score in scorer(tiny, kind).score([pair])]
    for batch_tokens in (1, 64, 100_000):
        assert scorer(tiny, kind, batch_tokens=batch_tokens).score(PAIRS) == close(alone)
    assert scorer(tiny, kind).score(PAIRS[::-1]) == close(alone[::-1])
    assert len({round(score, 4) for score in alone}) > len(PAIRS) // 2, "the scores differ, so that order shows"


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_to_score_is_an_empty_list(tiny, kind):
    assert scorer(tiny, kind).score([]) == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pair", [("amber", ""), ("", "amber"), ("", ""), (" \n", "\t")])
def test_empty_texts_get_a_score_too(tiny, kind, pair):
    first, second = scorer(tiny, kind).score([pair, PAIRS[0]])
    assert math.isfinite(first)
    assert second == close(scorer(tiny, kind).score([PAIRS[0]])[0])


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_document_is_cut(tiny, kind):
    # 60 tokens hold query and cue of every kind, and the beginning of a document of 300 words
    query, long = "amber river lake", sentence(7, 300)
    model = load_pair_model(folder_of(tiny, kind), **settings_of(kind), max_length=60)
    (cut,) = model.encode([(query, long)])
    without_limit = load_pair_model(folder_of(tiny, kind), **settings_of(kind))
    without_limit.max_length = 5000
    (whole,) = without_limit.encode([(query, long)])
    assert len(cut) == 60 < len(whole)
    common = next(place for place, token in enumerate(cut.ids) if token != whole.ids[place])
    tail = 60 - common
    assert cut.ids[common:] == whole.ids[len(whole) - tail :], "a beginning and an end of the whole, no more"
    # of the text after the document nothing is lost: it stands there in full
    after = {
        "monot5": " Relevant:",
        "cross-encoder": "",
        "causal": f"\nQuery: {query}\nDoes the document answer the query? Answer:",
        "query-likelihood": f"\nRelevant Query: {query}",
    }[kind]
    assert tail >= len(model.tokenizer(after, add_special_tokens=False)["input_ids"])
    shown = model.tokenizer.decode(cut.ids)
    assert query in shown
    assert shown.replace("</s>", "").replace("[SEP]", "").rstrip().endswith(after.strip())
    scores = ModelScorer(model, "x").score([(query, long), (query, long + " and more"), (query, "another")])
    assert scores[0] == close(scores[1])
    assert scores[0] != close(scores[2])


def test_a_query_longer_than_the_limit_gives_way_before_the_cue(tiny):
    long = sentence(3, 200)
    model = load_pair_model(tiny("t5"), **settings_of("monot5"), max_length=40)
    (encoded,) = model.encode([(long, "amber")])
    cue = model.tokenizer(" Relevant:")["input_ids"]  # with the end token
    assert len(encoded) == 40
    assert encoded.ids[-len(cue) :] == cue
    crossing = load_pair_model(tiny("bert_classifier"), **settings_of("cross-encoder"), max_length=40)
    (encoded,) = crossing.encode([(long, "amber")])
    assert (len(encoded), encoded.ids[-2:], encoded.second_tokens) == (40, [3, 3], 1)


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (9, [1, 2, 3, 4, 5, 6, 7, 8]),  # all of it
        (7, [1, 2, 3, 4, 5, 7, 8]),  # the document 3..6 loses its end
        (4, [1, 2, 7, 8]),  # and all of it
        (3, [1, 7, 8]),  # then the head its end
        (2, [7, 8]),  # the tail never
    ],
)
def test_what_gives_way_to_the_limit(limit, expected):
    assert fit([1, 2], [3, 4, 5, 6], [7, 8], limit) == expected


def test_toolkit_fault_no_truncation_where_the_tokenizer_names_no_limit(tiny):
    # T5 tokenizers of transformers 5 may know no length; the limit is ours
    network, tokenizer = plain(AutoModelForSeq2SeqLM, tiny("t5"))
    tokenizer.model_max_length = 10**30
    answers = load_pair_model(tiny("t5"), **settings_of("monot5")).answers
    (encoded,) = MonoT5(network, tokenizer, answers).encode([("amber", sentence(1, 2000))])
    assert len(encoded) == 512


def test_toolkit_fault_null_and_na_are_ordinary_texts(tiny):
    pairs = [("null", "NA"), ("NA", "null"), ("NaN", "None")]
    network, tokenizer = plain(AutoModelForSequenceClassification, tiny("bert_classifier"))
    expected = [network(**tokenizer(*pair, return_tensors="pt")).logits.item() for pair in pairs]
    assert scorer(tiny, "cross-encoder").score(pairs) == close(expected)


def test_toolkit_fault_half_precision_margins_tie(tiny):
    # the two logits are computed in float32 even where the network is bfloat16: 8 bits would leave few values
    margins = load_scorer(tiny("t5"), kind="monot5", true_token="▁true", false_token="▁false", dtype="bfloat16").score(
        [("amber", sentence(n, 9)) for n in range(60)]
    )
    assert len(set(margins)) == 60
    assert any(torch.tensor(margin).bfloat16().item() != margin for margin in margins)


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_scorer_scores_as_before(tiny, tmp_path, kind):
    model = load_pair_model(folder_of(tiny, kind), **settings_of(kind), max_length=70)
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter.mul_(0.9)  # it is the weights in memory that are saved
    expected = ModelScorer(model, "x").score(PAIRS)
    save_pair_model(model, tmp_path)
    again = load_scorer(str(tmp_path), **EXACT)  # its kind, answers and length are its own
    assert again.score(PAIRS) == close(expected)
    long = [("amber", sentence(5, 300))]
    assert again.score(long) == close(ModelScorer(model, "x").score(long))
    assert not list(tmp_path.glob("*.bin")), "safetensors only"


def test_query_likelihood_keeps_its_prompt_and_reduction(tiny, tmp_path):
    network, tokenizer = plain(AutoModelForCausalLM, tiny("llama"))
    model = QueryLikelihood(network, tokenizer, prefix=PROMPT.prefix, suffix=PROMPT.suffix, reduction="mean")
    save_pair_model(model, tmp_path)
    assert load_scorer(str(tmp_path), **EXACT).score(PAIRS) == close(ModelScorer(model, "x").score(PAIRS))


@pytest.mark.parametrize(
    ("model", "kind"), [("t5", "auto"), ("llama", "causal"), ("sentence_transformer", "multi-vector")]
)
def test_a_prompt_that_no_kind_reads_is_refused(tiny, model, kind):
    check_prompt_is_read(tiny("llama"))
    with pytest.raises(ConfigError, match=r"--prompt: .* reads no prompt"):
        check_prompt_is_read(tiny(model), kind)


@pytest.mark.parametrize("tokenizer", [byte_level_tokenizer, t5_tokenizer, bert_tokenizer])
def test_pairs_are_tokenised_once_a_text(tokenizer, monkeypatch):
    from inpars.rerankers import pair_model

    seen = []
    real = pair_model.token_ids
    monkeypatch.setattr(
        pair_model, "token_ids", lambda tok, texts, limit: seen.extend(texts) or real(tok, texts, limit)
    )
    texts = ["amber", "lake", "amber", ""]
    found = pair_model.distinct_token_ids(tokenizer(), texts, 9)
    assert seen == ["amber", "lake", ""]
    assert found == real(tokenizer(), texts, 9)


def test_the_kinds_are_what_they_say(tiny):
    kinds = {
        "monot5": MonoT5,
        "cross-encoder": CrossEncoder,
        "causal": CausalYesNo,
        "query-likelihood": QueryLikelihood,
    }
    for kind, expected in kinds.items():
        model = load_pair_model(folder_of(tiny, kind), **settings_of(kind))
        assert type(model) is expected
        assert model.kind == kind


@pytest.mark.parametrize("labels", [1, 2])
def test_a_decoder_that_classifies_needs_no_padding_token(tmp_path, labels):
    tokenizer = byte_level_tokenizer()
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlamaConfig(vocab_size=len(tokenizer), num_labels=labels, initializer_range=0.3, **sizes)
    LlamaForSequenceClassification(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    network = LlamaForSequenceClassification.from_pretrained(tmp_path).eval()
    expected = []
    for query, document in PAIRS:
        with torch.inference_mode():
            logits = network(**tokenizer(query, document, return_tensors="pt")).logits[0]
        expected.append((logits[1] - logits[0] if labels == 2 else logits[0]).item())
    assert load_scorer(str(tmp_path), **EXACT).score(PAIRS) == close(expected)
