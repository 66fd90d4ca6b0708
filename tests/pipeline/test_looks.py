"""What synthetic queries look like, and what a run says of a prompt that does not fit."""

import pytest

from inpars.filtering.looks import Looks, is_code, looks_of
from inpars.pipeline.prompt_choice import ALSO, REMEDIES, WORDS, advice
from inpars.records import SyntheticQuery


@pytest.mark.parametrize(
    "text",
    [
        "def area(self, radius):",
        "class Circle:",
        "from math import pi",
        "import numpy",
        "list_files(path, recursive=True)",
        "x = 3",
        "return self.value;",
        "for (i = 0; i < n; i++) {",
        "@property",
        "get_parent_folder_name",
        "typing.DefaultDict",
        "xml.parsers.expat.ParserCreate",
        "def to_stdout",
    ],
)
def test_lines_of_programs(text):
    assert is_code(text)


@pytest.mark.parametrize(
    "text",
    [
        "how to import a csv file in python",
        "what does return do in a function",
        "python class method vs static method",
        "remove file(s) from a folder",
        "define e-mail; what is it for",
        "is 3 < 5 true in every ring?",
        "from dusk till dawn",
        "numpy array (two dimensions) to list",
        "node.js",
        "pytest_addoption hook example",
        "U.S. visa",
    ],
)
def test_what_people_type(text):
    assert not is_code(text)


def query(number, text):
    return SyntheticQuery(f"q{number}", "d", text, (-1.0,), -0.1, "stop", "raw", "inpars", "tiny")


def test_each_query_counts_once():
    texts = ["", "def f(x):", "the sun is a star near us", "what is the sun", "What is the Sun?", "how far is it"]
    looks = looks_of(map(query, range(6), texts), lambda _: "Know that the sun is a star near us.")
    assert looks == Looks(queries=6, good=2, empty=1, code=1, copied=1, duplicate=1)
    assert looks.share == pytest.approx(1 / 3)


def test_a_prompt_that_does_not_fit_is_said_with_one_to_try():
    assert advice(Looks(queries=4, good=2, empty=0, code=2, copied=0, duplicate=0)) is None
    line = advice(Looks(queries=10, good=2, empty=1, code=6, copied=1, duplicate=0))
    assert line is not None
    for part in ("2 of 10", "6 are lines of programs", "--prompt code or --prompt questions-technical"):
        assert part in line
    assert advice(Looks(queries=0, good=0, empty=0, code=0, copied=0, duplicate=0)) is None
    assert WORDS.keys() == REMEDIES.keys() >= ALSO.keys()
