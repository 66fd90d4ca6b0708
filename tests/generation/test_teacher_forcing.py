"""Scores of queries that are there already: those of generation, and those of a plain forward pass."""

from dataclasses import replace

import pytest
import torch
from tiny_models import sentence

from inpars.errors import ConfigError
from inpars.generation import teacher_forcing
from inpars.generation.causal_lm import CausalGenerator
from inpars.generation.settings import DecodingSettings
from inpars.generation.teacher_forcing import KnownQuery, TeacherForcing
from inpars.models import loading as models
from inpars.prompts.mixture import PromptMixture
from inpars.prompts.templates import Example, Prompt, PromptChoice
from inpars.records import Document

PROMPT = Prompt(
    name="test",
    form="Document: {document}\nRelevant Query: {query}",
    examples=(Example("a lake is a body of water.", "what is a lake?"),),
    stop=("\n", "a"),  # a letter that random weights say now and then
)
CHOICE = PromptChoice(
    PROMPT,
    (PROMPT.examples[0], Example(sentence(7, 9), "seven"), Example(sentence(8, 4), "eight")),
    "nearest",
    2,
)
DOCUMENTS = [Document(f"d{n}", sentence(n, 2 + n * 5 % 11), f"Title {n}") for n in range(9)]
KINDS = ["llama", "gpt2", "gpt_neox", "mistral", "bloom", "lfm2"]
SETTINGS = {"max_doc_tokens": 24, "device": "cpu", "dtype": "float32"}


def scorer(tiny, kind="llama", prompt=PROMPT, **settings):
    return TeacherForcing(tiny(kind), prompt, **{**SETTINGS, **settings})


def generated(tiny, kind, prompt=PROMPT, **settings):
    decoding = DecodingSettings(max_doc_tokens=24, max_new_tokens=9, **settings)
    model = CausalGenerator(tiny(kind), prompt, decoding, device="cpu", dtype="float32")
    found = {}
    for chunk in model.plan(DOCUMENTS):  # of one prompt
        found |= zip(chunk, model.generate([DOCUMENTS[place] for place in chunk]), strict=True)
    return [query for place in range(len(DOCUMENTS)) for query in found[place]]


def known(queries):
    return [
        KnownQuery(document, query.text, query.token_ids) for document, query in zip(DOCUMENTS, queries, strict=True)
    ]


def test_of_a_mixture_each_query_is_read_with_its_own_prompt(tiny):
    other = replace(PROMPT, name="other", form="About {document} they ask {query}")
    mixture = PromptMixture(((PROMPT, 0.5), (other, 0.5)), seed=2)
    written = generated(tiny, "llama", mixture)
    named = [replace(q, prompt=mixture.name_for(q.document.doc_id)) for q in known(written)]
    scores = scorer(tiny, prompt=mixture).score(named)
    for query, score in zip(written, scores, strict=True):
        assert list(score.token_log_probs) == pytest.approx(list(query.token_log_probs), abs=1e-3)
    swapped = [replace(q, prompt="other" if q.prompt == "test" else "test") for q in named]  # whatever the seed gives
    for query, score in zip(swapped, scorer(tiny, prompt=mixture).score(swapped), strict=True):
        alone = scorer(tiny, prompt=other if query.prompt == "other" else PROMPT).score([query])[0]
        assert list(score.token_log_probs) == pytest.approx(list(alone.token_log_probs), abs=1e-4)
    assert {query.prompt for query in named} == {"test", "other"}


@pytest.mark.parametrize("sampling", [{}, {"temperature": 1.0, "seed": 3}], ids=["greedy", "drawn"])
@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_those_of_generation(tiny, kind, sampling):
    queries = generated(tiny, kind, **sampling)
    scores = scorer(tiny, kind).score(known(queries))
    assert sum(len(query.token_ids) for query in queries) > len(queries)
    for query, score in zip(queries, scores, strict=True):
        assert score.token_ids == query.token_ids
        assert list(score.token_log_probs) == pytest.approx(list(query.token_log_probs), abs=1e-3)
        if not sampling and query.finish_reason == "stop":  # of tokens that end it, the likeliest was the one chosen
            assert score.stop_log_prob == pytest.approx(query.stop_log_prob, abs=1e-3)


@pytest.mark.parametrize("kind", ["llama", "lfm2"])
def test_examples_of_each_documents_own(tiny, kind):
    queries = generated(tiny, kind, CHOICE)
    for query, score in zip(queries, scorer(tiny, kind, CHOICE).score(known(queries)), strict=True):
        assert list(score.token_log_probs) == pytest.approx(list(query.token_log_probs), abs=1e-3)


def by_hand(folder, document, query):
    """Log-probabilities of the query behind the whole prompt, in one pass of the plain network."""
    network, tokenizer = models.load_causal_lm(folder, device=torch.device("cpu"), dtype=torch.float32)
    prompt = tokenizer(PROMPT.render(document))["input_ids"]
    ids = tokenizer(" " + query, add_special_tokens=False)["input_ids"]
    with torch.inference_mode():
        logits = network(torch.tensor([prompt + ids])).logits[0].log_softmax(-1)
    return ids, [float(logits[len(prompt) + n - 1, token]) for n, token in enumerate(ids)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_is_read_as_it_would_follow_the_prompt(tiny, kind):
    queries = ["what is amber?", "yellow zebra lake", "x"]
    shown = [KnownQuery(Document("d", "amber river"), text) for text in queries]
    for text, score in zip(queries, scorer(tiny, kind).score(shown), strict=True):
        ids, log_probs = by_hand(tiny(kind), "amber river", text)
        assert list(score.token_ids) == ids
        assert list(score.token_log_probs) == pytest.approx(log_probs, abs=1e-4)


def test_token_ids_of_another_text_are_not_used(tiny):
    (query,) = scorer(tiny).score([KnownQuery(DOCUMENTS[0], "yellow zebra", (60, 61, 62))])
    (expected,) = scorer(tiny).score([KnownQuery(DOCUMENTS[0], "yellow zebra")])
    assert query == expected


def test_no_blank_follows_a_line_break(tiny):
    # a form that ends in its document: the model begins a new line, not a blank
    prompt = Prompt(name="bare", form="{document}")
    (score,) = scorer(tiny, prompt=prompt).score([KnownQuery(DOCUMENTS[0], "zebra")])
    assert scorer(tiny)._tokenizer.decode(score.token_ids) == "zebra"


def test_an_empty_query_has_no_values_but_an_end(tiny):
    (score,) = scorer(tiny).score([KnownQuery(DOCUMENTS[0], " ")])
    assert (score.token_ids, score.token_log_probs) == ((), ())
    assert score.stop_log_prob < 0


@pytest.mark.parametrize("kind", ["llama", "mistral"])
def test_scores_do_not_depend_on_what_is_read_together(tiny, kind, monkeypatch):
    queries = known(generated(tiny, kind))
    whole = scorer(tiny, kind).score(queries)
    for small in (scorer(tiny, kind, batch_size=2), scorer(tiny, kind)):
        found = small.score(queries)
        assert [score.token_ids for score in found] == [score.token_ids for score in whole]
        for one, other in zip(found, whole, strict=True):
            assert list(one.token_log_probs) == pytest.approx(list(other.token_log_probs), abs=1e-4)
        monkeypatch.setattr(teacher_forcing, "MAX_LOGITS", 1)  # the second time every query is a batch of its own
    assert [len(batch) for batch in small._forward._batches([([1], [2])] * 3)] == [1, 1, 1]


def test_a_batch_the_gpu_has_no_memory_for_is_halved(tiny, monkeypatch):
    queries, small = known(generated(tiny, "llama")), scorer(tiny)
    expected, logits, sizes = small.score(queries), small._forward._logits, []

    def narrow(rows):
        sizes.append(len(rows))
        if len(rows) > 2:
            raise torch.OutOfMemoryError
        return logits(rows)

    monkeypatch.setattr(small._forward, "_logits", narrow)
    found = small.score(queries)
    assert sizes[:3] == [9, 4, 2]
    for one, other in zip(found, expected, strict=True):
        assert list(one.token_log_probs) == pytest.approx(list(other.token_log_probs), abs=1e-4)


def test_chunks_hold_every_query_once_and_short_ones_first(tiny, monkeypatch):
    monkeypatch.setattr(teacher_forcing, "CHUNK_QUERIES", {"cpu": 4})
    plan = scorer(tiny).plan([KnownQuery(document, "x") for document in DOCUMENTS])
    assert sorted(position for chunk in plan for position in chunk) == list(range(9))
    lengths = [len(DOCUMENTS[position].full_text) for chunk in plan for position in chunk]
    assert lengths[0] == min(lengths)


def test_a_prompt_or_a_query_too_long_for_the_model_is_refused(tiny):
    with pytest.raises(ConfigError, match="reads 512 tokens; prompt"):
        scorer(tiny, max_doc_tokens=500)
    with pytest.raises(ConfigError, match=r"the longest prompt .*\d+: lower --max-doc-tokens"):
        scorer(tiny).score([KnownQuery(DOCUMENTS[0], "amber " * 600)])
