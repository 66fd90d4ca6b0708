"""Prompts by shares: which document gets which, whatever the order, and what the records and counts say."""

import json
from collections import Counter
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inpars.errors import PromptError
from inpars.generation import GeneratedQuery
from inpars.generation.api.requests import RequestFormat
from inpars.generation.settings import DecodingSettings
from inpars.prompts.load import ExampleOptions, load_prompt, named_prompt
from inpars.prompts.mixture import PromptMixture, example_prompt_of, mixture_parts
from inpars.prompts.templates import Example, Prompt, PromptChoice
from inpars.records import Document
from inpars.stages.query_writer import QueryWriting

ONE = Prompt("one", "One: {document}\nAsk: {query}", (Example("a fox", "what is a fox", doc_id="e1"),))
TWO = Prompt("two", "Two: {document}\nKeywords: {query}", (Example("a cow", "cow", doc_id="e2"),))
MIXTURE = PromptMixture(((ONE, 0.7), (TWO, 0.3)), seed=1)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("claim:0.5,keywords:0.3,inpars:0.2", [("claim", 0.5), ("keywords", 0.3), ("inpars", 0.2)]),
        ("a:1, my.yaml:entry:3", [("a", 0.25), ("my.yaml:entry", 0.75)]),
        ("claim", None),
        ("my.yaml:entry", None),
    ],
)
def test_names_and_shares(text, parts):
    found = mixture_parts(text)
    assert found == parts if parts is None else [(name, pytest.approx(share)) for name, share in found] == parts


@pytest.mark.parametrize("text", ["claim,keywords", "claim:0.5,keywords:", "claim:0,inpars:1", "a:nan,b:1", ":1,b:1"])
def test_what_is_no_share(text):
    with pytest.raises(PromptError, match="write NAME:WEIGHT"):
        mixture_parts(text)


@pytest.mark.parametrize(
    ("parts", "problem"),
    [
        ([(ONE, 0.5), (ONE, 0.5)], "'one' twice"),
        ([(ONE, 0.5), (Prompt("other", "{document}", stop=(".",)), 0.5)], "different `stop`"),
    ],
)
def test_what_cannot_be_mixed(parts, problem):
    with pytest.raises(PromptError, match=problem):
        PromptMixture(tuple(parts))


def test_shares_are_kept_and_depend_on_seed_and_id_alone():
    ids = [f"d{number}" for number in range(4000)]
    names = {doc_id: MIXTURE.name_for(doc_id) for doc_id in ids}
    # 4,000 draws of 0.7: the standard deviation of the share is 0.0072
    assert Counter(names.values())["one"] / len(ids) == pytest.approx(0.7, abs=0.03)
    again = PromptMixture(MIXTURE.parts, seed=1)
    assert {doc_id: again.name_for(doc_id) for doc_id in reversed(ids)} == names
    other = PromptMixture(MIXTURE.parts, seed=2)
    assert {doc_id: other.name_for(doc_id) for doc_id in ids} != names
    assert other.text != MIXTURE.text
    # raising one share moves documents to that prompt alone
    more = PromptMixture(((ONE, 0.8), (TWO, 0.2)), seed=1)
    assert all(more.name_for(doc_id) == "one" for doc_id, name in names.items() if name == "one")


@given(st.text(min_size=1), st.text())
def test_a_document_is_shown_its_prompt(doc_id, text):
    document = Document(doc_id, text)
    part = MIXTURE.part_of(doc_id)
    assert MIXTURE.for_document(document) == part
    assert part.name == MIXTURE.name_for(doc_id)


def test_a_mixture_in_words_and_for_a_reranker():
    assert MIXTURE.name == "one:0.7,two:0.3"
    assert [example.doc_id for example in MIXTURE.examples] == ["e1", "e2"]
    assert MIXTURE.longest() == ONE  # by characters: its example is the longer one
    assert MIXTURE.stop_position("a query\nmore") == 7
    assert example_prompt_of(MIXTURE) == ONE
    assert example_prompt_of(PromptMixture(((PromptChoice(ONE, ONE.examples, "random", 1), 0.9), (TWO, 0.1)))) is None
    shipped = named_prompt("claim:0.5,keywords:0.5", ExampleOptions(), seed=3)
    assert [part for part, _ in shipped.parts] == [load_prompt("claim"), load_prompt("keywords")]
    assert named_prompt("claim", ExampleOptions()) == load_prompt("claim")


class Fake:
    """Writes the document's prompt."""

    name, device, log_prob_kind = "fake", "cpu", "absent"

    def __init__(self, prompt):
        self._prompt = prompt

    def plan(self, documents):
        return [[place] for place in range(len(documents))]

    def generate(self, documents):
        texts = [self._prompt.for_document(document).render("").partition(":")[0] for document in documents]
        return [[GeneratedQuery(text, (), (), None, "stop")] for text in texts]


def test_records_name_the_prompt_that_was_shown():
    documents = [Document(f"d{number}", "text") for number in range(20)]
    writing = QueryWriting(documents, Fake(MIXTURE), MIXTURE, None)
    chunks = iter([SimpleNamespace(positions=[n], shard_positions=[n], first=0, stop=1) for n in range(20)])
    records = [record for found, _ in writing.compute(chunks, None, 0) for record in found]
    assert {(record["prompt"], record["query"]) for record in records} == {("one", "One"), ("two", "Two")}
    assert [record["prompt"] for record in records] == [MIXTURE.name_for(document.doc_id) for document in documents]


def test_a_servers_answer_is_read_as_the_documents_prompt_says():
    adapter = RequestFormat("chat", "m", MIXTURE, DecodingSettings(), "http://localhost")
    doc_ids = {MIXTURE.name_for(f"d{number}"): f"d{number}" for number in range(20)}
    for name, cue in (("one", "Ask:"), ("two", "Keywords:")):
        (request,) = adapter.requests(Document(doc_ids[name], "text"))
        reply = {
            "choices": [{"message": {"role": "assistant", "content": f"{cue} hot bread"}, "finish_reason": "stop"}]
        }
        assert adapter.read(reply, request).query.text == "hot bread"
        assert json.dumps(request.body).count(cue.removesuffix(":")) >= 1


def test_a_mixture_writes_what_each_prompt_writes_alone(tiny):
    """By the tiny model: chunks of one prompt each, and the queries and log-probs of that prompt by itself."""
    from inpars.generation.causal_lm import CausalGenerator

    documents = [Document(f"d{number}", f"amber falcon {'river ' * (number % 4)}{number}") for number in range(12)]
    settings = DecodingSettings(max_doc_tokens=16, max_new_tokens=6)
    where = {"device": "cpu", "dtype": "float32"}
    mixed = CausalGenerator(tiny("llama"), MIXTURE, settings, **where)
    chunks = mixed.plan(documents)
    assert sorted(place for chunk in chunks for place in chunk) == list(range(12))
    assert all(len({MIXTURE.name_for(documents[place].doc_id) for place in chunk}) == 1 for chunk in chunks)
    written = {}
    for chunk in chunks:
        found = mixed.generate([documents[place] for place in chunk])
        written |= {documents[place].doc_id: queries for place, queries in zip(chunk, found, strict=True)}
    for part in (ONE, TWO):
        own = [document for document in documents if MIXTURE.part_of(document.doc_id) is part]
        alone = CausalGenerator(tiny("llama"), part, settings, **where).generate(own)
        assert own
        assert [written[document.doc_id] for document in own] == alone
