"""The language check on queries, and its error without the package."""

import sys

import pytest

from inpars.errors import MissingDependencyError, UnknownNameError
from inpars.filtering.checks import language_check


@pytest.mark.parametrize(
    ("text", "foreign"),
    [("how is bread baked", False), ("wie wird das Brot gebacken", True), ("что такое хлеб", True), ("folate", False)],
)
def test_english_and_other_queries(text, foreign):
    pytest.importorskip("py3langid")
    assert language_check(["en"])(text) is foreign


def test_several_languages_and_unknown_ones():
    pytest.importorskip("py3langid")
    assert not language_check(["en", "de"])("wie wird das Brot gebacken")
    with pytest.raises(UnknownNameError, match="unknown language 'xx'"):
        language_check(["en", "xx"])


def test_an_absent_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "py3langid.langid", None)
    with pytest.raises(MissingDependencyError, match=r"py3langid is needed for --languages .* pip install py3langid"):
        language_check(["en"])
