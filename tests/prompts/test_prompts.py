"""Prompt files: the shipped ones, one's own, plain text, the InPars toolkit's, and their README."""

import re
from functools import cache
from pathlib import Path

import pytest

from inpars.errors import DataFormatError, PromptError, UnknownNameError
from inpars.prompts.load import load_prompt, prompt_names, read_examples
from inpars.prompts.templates import Example

FOLDER = Path(__file__).resolve().parents[2] / "prompts"
README = (FOLDER / "README.md").read_text(encoding="utf-8")
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
WITH_EXAMPLES = [name for name in NAMES if name != "no-examples"]
DOCUMENT = "Owls turn their heads because their eyes {cannot} move."
TOOLKIT = """\
static-one:
  mode: static
  template: |
    Document: A {document}
    Query:
fever:
  mode: dynamic
  template: |
    {document}
    Is it true that {query}"""

OWN = """\
name: mine
instruction: Go.
form: |
  D {document}
  Q {query}
stop: ["\\n", "##"]
separator: "\\n--\\n"
examples:
  - document: d
    query: q
    doc_id: '7'
"""

shipped = cache(load_prompt)


@pytest.fixture
def write(tmp_path):
    def write_file(name, text):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(path)

    return write_file


def readme_block(language, start):
    """The README's only block of that language that begins so."""
    (block,) = re.findall(rf"```{language}\n({re.escape(start)}.*?)```", README, re.DOTALL)
    return block


def test_every_file_of_the_folder_is_shipped():
    assert prompt_names() == NAMES
    assert len(NAMES) == 12


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_prompt_is_complete(name):
    prompt = shipped(name)
    assert prompt.name == name
    assert prompt.description
    assert prompt.system.endswith(".")
    assert prompt.cue.endswith(":")
    assert prompt.stop == ("\n",)


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_prompt_renders_the_document_once_and_ends_at_its_cue(name):
    prompt = shipped(name)
    text = prompt.render(DOCUMENT)
    assert text == prompt.prefix + DOCUMENT + prompt.suffix
    assert text.count(DOCUMENT) == 1
    assert text.endswith(prompt.cue)
    assert text.count(prompt.cue) == len(prompt.examples) + 1
    assert "{" not in text.replace(DOCUMENT, "")


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_shipped_examples_are_passages_with_queries_of_their_own_words(name):
    examples = shipped(name).examples
    assert 2 <= len(examples) <= 4
    for example in examples:
        least = 12 if name == "code" else 40  # functions are short
        assert least <= len(re.findall(r"[\w'-]+", example.document)) <= 95
        assert example.query.lower() not in example.document.lower()
        assert shipped(name).parse(f" {example.query}\nmore") == example.query


def test_inpars_prompt_has_the_form_of_the_paper():
    lines = shipped("inpars").render(DOCUMENT).splitlines()
    assert lines[0] == "Example 1:"
    assert lines[-3:] == ["Example 4:", f"Document: {DOCUMENT}", "Relevant Query:"]


def test_gbq_prompt_shows_good_and_bad_questions():
    prompt = shipped("inpars-gbq")
    starts = [line.partition(":")[0] for line in prompt.render(DOCUMENT).split("\n") if line]
    one = ["Document", "Good Question", "Bad Question"]
    assert starts == ["Example 1", *one, "Example 2", *one, "Example 3", *one, "Example 4", *one[:2]]
    assert not any("Bad" in turn["content"] for turn in prompt.messages(DOCUMENT)[1:])


def test_keyword_examples_are_two_to_five_words():
    assert all(2 <= len(example.query.split()) <= 5 for example in shipped("keywords").examples)


def test_prompt_without_examples_instructs_in_both_forms():
    prompt = shipped("no-examples")
    assert prompt.examples == ()
    assert prompt.render(DOCUMENT).startswith("Write one query")
    assert [turn["role"] for turn in prompt.messages(DOCUMENT)] == ["system", "user"]


def test_an_unknown_name_suggests_a_known_one():
    with pytest.raises(UnknownNameError, match="did you mean 'counter-argument'") as caught:
        load_prompt("counter-arguments")
    assert all(name in str(caught.value) for name in NAMES)


@pytest.mark.parametrize("path", ["absent.yaml", "folder/inpars", "absent.txt", "absent.yaml:entry"])
def test_an_absent_file_is_named(path):
    with pytest.raises(PromptError, match=re.escape(path.partition(":")[0] + ": no such prompt file")):
        load_prompt(path)


def test_a_file_of_ones_own(write):
    prompt = load_prompt(write("a.yaml", OWN))
    assert (prompt.name, prompt.stop, prompt.examples) == ("mine", ("\n", "##"), (Example("d", "q", doc_id="7"),))
    assert prompt.render("x") == "Go.\n--\nD d\nQ q\n--\nD x\nQ"


def test_the_name_is_the_files_unless_given(write):
    assert load_prompt(write("recipes.yml", "form: '{document} {query}'")).name == "recipes"


def test_an_empty_list_of_stop_strings_is_kept(write):
    assert load_prompt(write("a.yaml", "form: '{document}'\nstop: []")).stop == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a YAML mapping"),
        ("- form", "not a YAML mapping"),
        ("name: x", "no 'form'"),
        ("form: '{document}'\nexample: []", "unknown key example (known: description, examples, form"),
        ("form: '{document} {text}'", "unknown placeholder {text}"),
        ("form: 'Query: {query}'", "has no {document}"),
        ("form: 3", "'form' must be text, not 3"),
        ("form: '{document}'\nstop: END", "'stop' must be a list"),
        ("form: '{document}'\nexamples: {document: d}", "'examples' must be a list"),
        ("form: '{document}{query}'\nexamples: [d]", "example 1: must have 'document' and 'query'"),
        ("form: '{document}{query}'\nexamples: [{document: d}]", "example 1: no 'query'"),
        ("form: '{document}{query}'\nexamples: [{document: d, query: 2024}]", "example 1: 'query' must be text"),
        ("form: '{document}{query}'\nexamples: [{doc: d}]", "example 1: unknown key doc (known: document, query"),
        ("form: x\nexamples:\n  - document: a: b", ":3: not valid YAML: "),
        (b"form: \xff{document}", "not UTF-8 at byte 6"),
        ("form:\n\t'{document}'", ":2: not valid YAML: "),
        ("form: '{document}'\nname: a\nform: '{document}'", ":3: not valid YAML: the key 'form' occurs twice"),
        ("form: '{document}'\nexamples:\n- query: a\n  query: b", ":4: not valid YAML: the key 'query' occurs twice"),
        ("form: '{document}'\nstop: [5]", "'stop' must be text, not 5"),
        ("form: '{document}'\nstop: ['\\n']", "'stop' holds a backslash and an n"),
        ("form: '{document}'\nseparator: '\\n'", "'separator' holds a backslash and an n"),
        ("form: 'D: {document}\\nQ:'", "'form' holds a backslash and an n"),
        ("form: '{document}'\nstop: [yes]", "'stop' must be text, not True"),
        ("form: 2024-99-99", "a value that YAML cannot hold"),
        ("form: !!timestamp x", "a value that YAML cannot hold"),
        ("form: !!int ''", "a value that YAML cannot hold"),
        ("form: !!bool x", "a value that YAML cannot hold"),
        (f"form: {'9' * 5000}", "a value that YAML cannot hold"),
        (f"form: {'[' * 5000}", "nested too deeply"),
        ("form: !!python/object/apply:os.system [x]", ":1: not valid YAML: "),
        ("&a {form: *a}", "'form' must be text"),
        ("form: '{document}'\n---\nform: '{document}'", ":2: not valid YAML: "),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_wrong_file_is_refused_with_its_path(write, text, message):
    path = write("wrong.yaml", text)
    with pytest.raises(PromptError, match=re.escape(message)) as caught:
        load_prompt(path)
    assert str(caught.value).startswith(path)
    assert "\n" not in str(caught.value)


def test_plain_text_is_a_form(write):
    prompt = load_prompt(write("vanilla.txt", '\ufeffSay {"a": 1}.\nDocument: {document}\nQuery:\n'))
    assert prompt.name == "vanilla"
    assert prompt.render("x {y}") == 'Say {"a": 1}.\nDocument: x {y}\nQuery:'


def test_a_template_may_be_json(write):
    path = write("a.JSON", '{"form": "D {document}\\nQ {query}", "stop": ["\\n"]}')
    assert (load_prompt(path).render("x"), load_prompt(path).stop) == ("D x\nQ", ("\n",))


def test_plain_text_on_one_line_with_its_breaks_spelt_is_refused(write):
    with pytest.raises(PromptError, match=r"vanilla\.txt: 'form' holds"):
        load_prompt(write("vanilla.txt", "D: {document}\\nQ:"))


def test_plain_text_without_a_document_is_refused(write):
    with pytest.raises(PromptError, match=r"vanilla\.txt: the template has no {document}"):
        load_prompt(write("vanilla.txt", "Query:"))


def test_an_entry_of_the_toolkits_templates(write):
    path = write("templates.yaml", TOOLKIT)
    prompt = load_prompt(f"{path}:static-one")
    assert (prompt.name, prompt.wants_examples) == ("static-one", False)
    assert prompt.render("x") == "Document: A x\nQuery:"


def test_fever_template_takes_examples_that_do_not_run_together(write):
    # Without the line break at its end, the toolkit glues one example's query to the next one's document.
    prompt = load_prompt(write("templates.yaml", TOOLKIT) + ":fever")
    assert prompt.wants_examples
    filled = prompt.with_examples([Example("d1", "q1"), Example("d2", "q2")])
    assert filled.render("d3") == "d1\nIs it true that q1\nd2\nIs it true that q2\nd3\nIs it true that"


def test_a_template_file_of_one_entry_needs_no_entry_name(write):
    path = write("templates.yaml", "only:\n  mode: static\n  template: '{document}\\nQ:'\n")
    assert load_prompt(path).name == "only"


@pytest.mark.parametrize(
    ("entry", "error", "message"),
    [
        ("", PromptError, "holds 2 templates; name one, "),
        (":fevr", UnknownNameError, "did you mean 'fever'"),
    ],
)
def test_an_entry_must_be_named_and_known(write, entry, error, message):
    with pytest.raises(error, match=message):
        load_prompt(write("templates.yaml", TOOLKIT) + entry)


def test_an_unknown_mode_is_refused(write):
    with pytest.raises(PromptError, match=r"unknown mode 'dynamic_v2'; .*static or dynamic"):
        load_prompt(write("templates.yaml", "a:\n  mode: dynamic_v2\n  template: '{document}'"))


def test_an_entry_of_a_single_prompt_is_refused(write):
    with pytest.raises(PromptError, match="a file of several"):
        load_prompt(write("a.yaml", "form: '{document}'") + ":entry")


def test_examples_are_read_from_json_lines(write):
    path = write("e.jsonl", '{"document": "d {x}", "query": "q", "query_id": "4"}\n\n{"document": "e", "query": "r"}\n')
    assert read_examples(Path(path)) == [Example("d {x}", "q", query_id="4"), Example("e", "r")]


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ('{"document": "d", "query": "q"}\n{"document": "d"}\n', PromptError, "e.jsonl:2: no 'query'"),
        ('{"document": "d", "query": null}\n', PromptError, "e.jsonl:1: 'query' must be text, not None"),
        ("{\n", DataFormatError, "e.jsonl:1: "),
    ],
)
def test_a_wrong_example_is_refused_with_its_line(write, text, error, message):
    with pytest.raises(error, match=re.escape(message)):
        read_examples(Path(write("e.jsonl", text)))


def test_readme_names_each_shipped_prompt_once():
    assert sorted(re.findall(r"^\| `([a-z-]+)` \| .* \| .* \| .* \|$", README, re.MULTILINE)) == NAMES


def test_readme_describes_each_key(write):
    with pytest.raises(PromptError) as caught:
        load_prompt(write("a.yaml", "form: '{document}'\nother: x"))
    (known,) = re.findall(r"known: (.*)\)", str(caught.value))
    assert sorted(re.findall(r"^\| `([a-z]+)` \| (?:yes|no) \|", README, re.MULTILINE)) == known.split(", ")


def test_readme_example_renders_as_shown(write):
    prompt = load_prompt(write("recipes.yaml", readme_block("yaml", "description:")))
    shown = readme_block("text", "Recipe:").rstrip("\n")
    assert prompt.render("Boil potatoes, slice them, dress while warm.") == shown


def test_readme_examples_file_and_plain_text_are_read(write):
    examples = read_examples(Path(write("examples.jsonl", readme_block("json", "{"))))
    assert (
        shipped("no-examples").with_examples(examples).render("x").endswith("Query: sticky rice\n\nDocument: x\nQuery:")
    )
    plain = load_prompt(write("plain.txt", readme_block("text", "Document:")))
    assert plain.render("x").endswith("kettle\n\nDocument: x\nQuery:")


def test_aliases_that_multiply_are_refused_in_few_words(write):
    """Nine lines of nine aliases each are 3 * 10^8 texts, were they written out."""
    lines = ["- &a [x, x, x, x, x, x, x, x, x]"]
    lines += [f"- &{name} [{', '.join([f'*{chr(ord(name) - 1)}'] * 9)}]" for name in "bcdefghi"]
    for text in ("form: '{document}'\nstop:\n" + "\n".join(lines), "form:\n" + "\n".join(lines)):
        with pytest.raises(PromptError, match="must be text") as caught:
            load_prompt(write("bomb.yaml", text))
        assert len(str(caught.value)) < 300


def test_escapes_that_are_half_a_character_are_made_whole(write):
    path = write("a.yaml", 'form: "\\ud83d\\ude00 \\ud800 {document}"')
    assert load_prompt(path).form == "\U0001f600 \ufffd {document}"


def test_an_entry_whose_name_is_a_number(write):
    path = write("t.yaml", "1:\n  template: 'one {document}'\n2:\n  template: 'two {document}'\n")
    assert load_prompt(f"{path}:2").form == "two {document}"
