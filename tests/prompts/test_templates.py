"""Prompts: filling the form, what follows the query, chat turns, and what is refused."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inpars.errors import PromptError
from inpars.prompts.templates import Example, Prompt

FORM = "Example {number}:\nDocument: {document}\nGood: {query}\nBad: {bad_query}"
TWO = (Example("Cats purr.", "why do cats purr", "cats"), Example(" Dogs bark.\n", "barking dog", "dogs"))
GBQ = Prompt("gbq", FORM, TWO)
PLAIN = Prompt("plain", "Document: {document}\nQuery: {query}")
RENDERED = """\
Example 1:
Document: Cats purr.
Good: why do cats purr
Bad: cats

Example 2:
Document: Dogs bark.
Good: barking dog
Bad: dogs

Example 3:
Document: Owls hoot.
Good:"""

texts = st.text(min_size=1).filter(str.strip)
braced = st.lists(st.sampled_from(["{", "}", "{document}", "{query}", "{{number}}", "%s", "\\1", "$", " ", "a"]))
any_text = texts | braced.map("".join).filter(str.strip)


def test_examples_come_first_and_the_text_ends_at_the_cue():
    assert GBQ.render(" Owls hoot. ") == RENDERED
    assert GBQ.cue == "Good:"


@pytest.mark.parametrize(
    "prompt", [GBQ, PLAIN, Prompt("text", "Say it:\n{document}"), Prompt("q", "{document}{query}")]
)
def test_prefix_document_and_suffix_make_up_the_text(prompt):
    assert prompt.prefix + "Owls hoot." + prompt.suffix == prompt.render("Owls hoot.")


@given(any_text)
def test_any_document_appears_unchanged(document):
    assert GBQ.render(document) == RENDERED.replace("Owls hoot.", document.strip())
    assert PLAIN.messages(document)[-1]["content"] == f"Document: {document.strip()}\nQuery:"


@given(any_text, any_text)
def test_any_example_appears_unchanged(document, query):
    shown = Prompt("p", "D {document} Q {query} {number}", (Example(document, query),), instruction="{query}")
    assert shown.render("x") == f"{{query}}\n\nD {document.strip()} Q {query.strip()} 1\n\nD x Q"


def test_instruction_and_separator():
    prompt = Prompt("p", "{document} -> {query}", (Example("a", "b"),), instruction=" Do.\n", separator="\n#\n")
    assert prompt.render("c") == "Do.\n#\na -> b\n#\nc ->"


def test_system_is_for_chat_only():
    prompt = Prompt("p", "{document}\nQ: {query}", system="Be brief.", instruction="Write.")
    assert prompt.render("d") == "Write.\n\nd\nQ:"
    assert prompt.messages("d")[0] == {"role": "system", "content": "Be brief."}


@pytest.mark.parametrize("form", ["{document}", "{document}\n{query}", "{document}\n\n"])
def test_fiqa_template_without_a_cue_word_ends_in_a_line_break(form):
    # The InPars toolkit strips the text to the document itself; the next token is then the stop token.
    prompt = Prompt("fiqa", form)
    assert prompt.render("Bonds fell.") == "Bonds fell.\n"
    assert prompt.cue == ""


def test_fever_template_examples_do_not_run_together():
    # The toolkit's last template lacks its line break, and its examples have none between them.
    prompt = Prompt("fever", "{document}\nIs it true that {query}", TWO, separator="\n")
    assert prompt.prefix.splitlines() == [
        "Cats purr.",
        "Is it true that why do cats purr",
        "Dogs bark.",
        "Is it true that barking dog",
    ]
    assert prompt.prefix.endswith("\n")


def test_literal_braces_in_a_custom_template_stay():
    # str.format, which the toolkit uses, raises KeyError here.
    prompt = Prompt("json", '{"a": 1, "b": {}} {{query}} { x } {document} {{{document')
    assert prompt.render("d") == '{"a": 1, "b": {}} {query} { x } d {{{document'


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ("", "has no {document}"),
        ("Query: {query}", "has no {document}"),
        ("{{document}} {query}", "has no {document}"),
        ("{document} {document}", "has {document} 2 times"),
        ("{document} {text} {answer}", "unknown placeholder {answer}, {text} (known: {document}, {query}, "),
        ("{document} {text}", "write {{text}} for plain braces"),
        ("{query} {document}", "{query} comes before {document}"),
        ("{document} {bad_query} {query}", "{document} comes before {bad_query}; the order is document, query"),
    ],
)
def test_forms_that_cannot_work_are_refused(form, message):
    with pytest.raises(PromptError, match=re.escape(message)) as caught:
        Prompt("mine", form)
    assert str(caught.value).startswith("prompt 'mine': ")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"form": FORM, "examples": (Example("d", "q"),)}, "example 1 has no 'bad_query', which the form shows"),
        ({"form": FORM, "examples": (*TWO, Example(" ", "q", "b"))}, "example 3 has no 'document'"),
        ({"form": "{document} {query}", "examples": (Example("d", "\n"),)}, "example 1 has no 'query'"),
        ({"form": "{document}", "examples": TWO}, "the form has no {query}"),
        ({"form": "{document}", "stop": ("\n", "")}, "an empty stop string"),
    ],
)
def test_settings_that_cannot_work_are_refused_with_their_source(settings, message):
    with pytest.raises(PromptError, match=re.escape(message)) as caught:
        Prompt("mine", source="my.yaml", **settings)
    assert str(caught.value).startswith("my.yaml: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("generated", "query"),
    [
        (" why do owls hoot\nBad: owls", "why do owls hoot"),
        ("owls", "owls"),
        ("\nowls", ""),
        ("  ", ""),
        ("", ""),
    ],
)
def test_a_query_ends_at_the_first_line_break(generated, query):
    assert GBQ.parse(generated) == query


def test_the_earliest_of_several_stop_strings_ends_the_query():
    prompt = Prompt("p", "{document}", stop=("###", "END", "\n\n"))
    assert prompt.parse("one\ntwo END three ### four") == "one\ntwo"
    assert prompt.stop_position("ab###END") == 2
    assert prompt.stop_position("none") == len("none")


def test_without_stop_strings_everything_is_the_query():
    assert Prompt("p", "{document}", stop=()).parse(" a\n\nb ") == "a\n\nb"


@given(texts, st.text(), st.sampled_from(["\n", "###", "Doc:"]))
def test_what_follows_a_stop_string_never_matters(query, rest, stop):
    prompt = Prompt("p", "{document}", stop=(stop,))
    assert prompt.parse(query + stop + rest) == prompt.parse(query + stop)
    assert stop not in prompt.parse(query + stop + rest)


def test_chat_turns_alternate_and_leave_out_counters_and_bad_queries():
    prompt = Prompt("gbq", FORM, TWO, instruction="Ask.")
    assert prompt.messages("Owls hoot.\n") == [
        {"role": "system", "content": "Ask."},
        {"role": "user", "content": "Document: Cats purr.\nGood:"},
        {"role": "assistant", "content": "why do cats purr"},
        {"role": "user", "content": "Document: Dogs bark.\nGood:"},
        {"role": "assistant", "content": "barking dog"},
        {"role": "user", "content": "Document: Owls hoot.\nGood:"},
    ]


def test_chat_turns_without_instruction_have_no_system_turn():
    assert PLAIN.messages("d") == [{"role": "user", "content": "Document: d\nQuery:"}]


def test_other_examples_make_another_prompt():
    other = GBQ.with_examples(TWO[:1])
    assert other.examples == TWO[:1]
    assert other.render("x").startswith("Example 1:\nDocument: Cats purr.")
    assert other.render("x").endswith("Example 2:\nDocument: x\nGood:")
    assert len(GBQ.examples) == 2


def test_the_hashed_text_follows_what_a_model_is_shown():
    renamed = Prompt("other", FORM, TWO, description="words", source="else.yaml")
    changed = [
        GBQ.with_examples(TWO[::-1]),
        Prompt("gbq", FORM + " ", TWO),
        Prompt("gbq", FORM, TWO, stop=("#",)),
        Prompt("gbq", FORM, TWO, separator="\n"),
        Prompt("gbq", FORM, TWO, system="s"),
        Prompt("gbq", FORM, TWO, instruction="s"),
    ]
    assert renamed.text == GBQ.text
    assert len({GBQ.text, *(prompt.text for prompt in changed)}) == 7
