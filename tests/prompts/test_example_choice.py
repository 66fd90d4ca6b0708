"""Examples of a file: all, drawn, or nearest; a document's own example is never among them."""

import json
import math
from dataclasses import asdict

import pytest

from inpars.errors import ConfigError, DataFormatError, PromptError
from inpars.prompts.load import ExampleOptions, choose_prompt, load_prompt
from inpars.prompts.templates import BM25Scores, Example, Prompt, PromptChoice
from inpars.records import Document

POOL = [
    Example("bread needs flour and yeast", "bake bread", doc_id="d1", query_id="q1"),
    Example("a bicycle tyre is mended with a patch", "flat tyre"),
    Example("yeast makes dough rise in the warm", "why does dough rise", doc_id="d3"),
    Example("rivers carry sand to the sea", "where sand comes from"),
]
FORM = Prompt("p", "D: {document}\nQ: {query}")


@pytest.fixture
def pool(tmp_path):
    path = tmp_path / "examples.jsonl"
    lines = [{name: value for name, value in asdict(example).items() if value} for example in POOL]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def chosen(choice, document):
    return [example.query for example in choice.for_document(document).examples]


def test_bm25_as_worked_out_by_hand():
    # three texts of 2, 1 and 3 words, mean 2; k1 0.9, b 0.4
    scores = BM25Scores([["a", "b"], ["a"], ["b", "b", "c"]]).scores("a c a")
    # a in 2 of 3: idf ln(1 + 1.5/2.5); c in 1 of 3: idf ln(1 + 2.5/1.5); norms .9, .9(.6 + .4/2) and .9(.6 + .4 * 1.5)
    assert scores == pytest.approx(
        [math.log(1.6) / 1.9, math.log(1.6) / (1 + 0.72), math.log(1 + 2.5 / 1.5) / (1 + 1.08)]
    )
    assert BM25Scores([]).scores("a") == []


def test_all_examples_of_a_file_in_their_order(pool):
    prompt = choose_prompt(load_prompt("inpars"), ExampleOptions(examples=pool))
    assert isinstance(prompt, Prompt)
    assert prompt.examples == tuple(POOL)
    assert choose_prompt(FORM, ExampleOptions(examples=pool, num_examples=2)).examples == tuple(POOL[:2])


def test_a_prompt_keeps_its_own_examples_without_a_file():
    prompt = load_prompt("inpars")
    assert choose_prompt(prompt, ExampleOptions()) == prompt
    drawn = choose_prompt(prompt, ExampleOptions(examples_choice="random", num_examples=2))
    assert set(drawn.for_document(Document("d", "x")).examples) < set(prompt.examples)


def test_the_nearest_stand_last_and_nearest_to_the_document(pool):
    choice = choose_prompt(FORM, ExampleOptions(examples=pool, examples_choice="nearest", num_examples=2))
    assert chosen(choice, Document("x", "warm dough and yeast")) == ["bake bread", "why does dough rise"]
    assert chosen(choice, Document("x", "mended a bicycle in the sea"))[-1] == "flat tyre"


@pytest.mark.parametrize("how", ["nearest", "random"])
def test_a_document_is_never_shown_its_own_example(pool, how):
    choice = choose_prompt(FORM, ExampleOptions(examples=pool, examples_choice=how, num_examples=4))
    assert "bake bread" not in chosen(choice, Document("d1", "anything at all"))
    assert "flat tyre" not in chosen(choice, Document("x", "a bicycle tyre is  mended with a patch"))
    assert "flat tyre" not in chosen(choice, Document("x", "tyre is mended with a patch", "a bicycle"))
    assert len(chosen(choice, Document("d1", "anything at all"))) == 3


def test_toolkit_fault_every_document_sees_the_same_examples(pool):
    options = ExampleOptions(examples=pool, examples_choice="random", num_examples=2)
    documents = [Document(f"x{n}", "some text") for n in range(60)]
    first = [tuple(chosen(choose_prompt(FORM, options), document)) for document in documents]
    assert {frozenset(queries) for queries in first} == {
        frozenset({one.query, other.query}) for one in POOL for other in POOL if one != other
    }, "all six pairs occur"
    assert first == [tuple(chosen(choose_prompt(FORM, options), document)) for document in documents]
    assert first != [tuple(chosen(choose_prompt(FORM, options, seed=1), document)) for document in documents]


def test_the_choice_names_and_hashes_itself(pool):
    options = ExampleOptions(examples=pool, examples_choice="random")
    choice = choose_prompt(FORM, options)
    assert (choice.name, choice.count, choice.examples) == ("p+random3", 3, tuple(POOL))
    texts = {
        choose_prompt(FORM, ExampleOptions(examples=pool, examples_choice=how, num_examples=count), seed).text
        for how in ("random", "nearest")
        for count in (1, 2)
        for seed in (0, 1)
    }
    assert len(texts) == 8
    assert choice.text == choose_prompt(FORM, options).text
    assert choice.longest().examples[0].query == "flat tyre"
    assert choice.stop_position("a\nb") == 1


def test_long_examples_are_cut_at_a_word(tmp_path):
    path = tmp_path / "examples.jsonl"
    path.write_text('{"document": "one  two\\nthree four", "query": "q"}\n', encoding="utf-8")
    prompt = choose_prompt(FORM, ExampleOptions(examples=path, max_example_words=3))
    assert prompt.examples[0].document == "one  two\nthree"


def test_a_prompt_that_wants_examples_is_refused_without_any(tmp_path):
    path = tmp_path / "templates.yaml"
    path.write_text("d:\n  mode: dynamic\n  template: |\n    {document}\n    {query}\n", encoding="utf-8")
    with pytest.raises(PromptError, match=r"templates.yaml:d: needs the .* give some with --examples FILE"):
        choose_prompt(load_prompt(str(path)), ExampleOptions())
    with pytest.raises(PromptError, match="no examples to choose"):
        choose_prompt(FORM, ExampleOptions(examples_choice="nearest"))


def test_too_few_examples_are_refused(pool, tmp_path):
    with pytest.raises(ConfigError, match="--num-examples is 9, but there are 4 examples"):
        choose_prompt(FORM, ExampleOptions(examples=pool, examples_choice="random", num_examples=9))
    with pytest.raises(ConfigError, match=r"--num-examples is 0; .*at least 1"):
        choose_prompt(FORM, ExampleOptions(examples=pool, num_examples=0))
    empty = tmp_path / "empty.jsonl"
    empty.write_text("\n", encoding="utf-8")
    with pytest.raises(PromptError, match="no examples in"):
        choose_prompt(FORM, ExampleOptions(examples=empty))
    with pytest.raises(DataFormatError, match="no such file"):
        choose_prompt(FORM, ExampleOptions(examples=tmp_path / "absent.jsonl"))
    with pytest.raises(PromptError, match=r"the form has no \{query\}"):
        choose_prompt(Prompt("bare", "{document}"), ExampleOptions(examples=pool, examples_choice="nearest"))


def test_a_plain_prompt_is_its_own_choice():
    assert FORM.for_document(Document("d", "x")) is FORM
    assert FORM.longest() is FORM
    assert isinstance(PromptChoice(FORM, tuple(POOL), "nearest", 1).longest(), Prompt)
