"""Prompts that ask for a grade: the shipped ones, one's own, and those that cannot work."""

from pathlib import Path

import pytest

from inpars.errors import PromptError, UnknownNameError
from inpars.prompts.judging import FOLDER, JudgingPrompt, load_judging_prompt
from inpars.prompts.load import load_prompt, prompt_names

FILES = Path(__file__).resolve().parents[2] / "prompts" / FOLDER
NAMES = sorted(path.stem for path in FILES.glob("*.yaml"))
OWN = """\
instruction: Grade it.
form: |
  Q {query}
  D {document}
  Grade: {grade}
examples:
  - {query: lake, document: "A lake {is} water.", grade: 3}
"""


def test_the_shipped_ones_are_found_and_are_no_prompts_of_queries():
    assert prompt_names(FOLDER) == NAMES == ["relevance", "relevance-reason"]
    assert not set(NAMES) & set(prompt_names())
    with pytest.raises(UnknownNameError, match="relevance"):
        load_judging_prompt("relevant")


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_prompt_is_complete(name):
    prompt = load_judging_prompt(name)
    text = prompt.render("what {is} a lake ", " A {lake} is water.")
    assert prompt.name == name
    assert prompt.description
    assert (text.count("what {is} a lake"), text.count("A {lake} is water.")) == (1, 1)
    assert text.endswith("Grade:")
    assert prompt.cue == "Grade:"
    assert all(f"\n{grade}: " in prompt.instruction for grade in range(4))
    assert text.startswith(prompt.instruction[:40])
    assert [turn["role"] for turn in prompt.messages("q", "d")] == ["system", "user"]


def test_examples_are_shown_with_their_grades(tmp_path):
    (tmp_path / "own.yaml").write_text(OWN, encoding="utf-8")
    prompt = load_judging_prompt(str(tmp_path / "own.yaml"))
    assert prompt.render("q", "d") == ("Grade it.\n\nQ lake\nD A lake {is} water.\nGrade: 3\n\nQ q\nD d\nGrade:")
    assert [turn["content"] for turn in prompt.messages("q", "d")] == [
        *("Grade it.", "Q lake\nD A lake {is} water.\nGrade:", "3", "Q q\nD d\nGrade:")
    ]
    before, after = prompt.around("q")
    assert before + "d" + after == prompt.render("q", "d")


def test_the_document_may_come_first():
    prompt = JudgingPrompt("own", "{document} // {query} = {grade}")
    assert prompt.around("q") == ("", " // q =")


@pytest.mark.parametrize(
    "form",
    [
        "{query} {document}",
        "{query} {grade}",
        "{query} {document} {grade} {grade}",
        "{grade} {query} {document}",
        "{query} {document} {grade} of 3",
        "{query} {document} {number} {grade}",
    ],
)
def test_forms_that_cannot_work(form):
    with pytest.raises(PromptError, match=r"own.*\{grade\}"):
        JudgingPrompt("own", form)


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ("grade: 3}", "grade: 4}", "example 1.*4"),
        (", grade: 3}", "}", "example 1.*'grade'"),
        ("examples:", "exmples:", "exmples"),
        ("form:", "frm:", "frm"),
    ],
)
def test_a_wrong_file_is_named(tmp_path, old, new, match):
    path = tmp_path / "own.yaml"
    path.write_text(OWN.replace(old, new), encoding="utf-8")
    with pytest.raises(PromptError, match=rf"own\.yaml.*{match}"):
        load_judging_prompt(str(path))


def test_a_prompt_of_queries_and_one_of_grades_are_told_apart():
    with pytest.raises(PromptError, match=r"\{grade\}"):
        load_judging_prompt(str(FILES.parent / "no-examples.yaml"))
    with pytest.raises(PromptError, match=r"\{grade\}"):
        load_prompt(str(FILES / "relevance.yaml"))
