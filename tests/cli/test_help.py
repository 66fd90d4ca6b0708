"""The help of every command and subcommand is what tests/data/help/ has, flag by flag.

After a change that is meant, `INPARS_RENEW=help python -m pytest tests/cli/test_help.py` writes the files anew, and
`git diff tests/data/help` shows what users will see.
"""

import difflib
import os
from pathlib import Path

import help_texts
import pytest

from inpars import cli

FOLDER = Path(__file__).parents[1] / "data" / "help"


@pytest.fixture(scope="module")
def texts():
    made = help_texts.help_texts()
    if os.environ.get("INPARS_RENEW") == "help":
        FOLDER.mkdir(exist_ok=True)
        for path in FOLDER.glob("*.txt"):
            path.unlink()
        for name, text in made.items():
            path_of(name).write_text(text, encoding="utf-8")
    return made


def path_of(name):
    return FOLDER / f"{name.replace(' ', '_')}.txt"


def test_every_command_has_its_file_and_no_other_is_there(texts):
    assert {path.name for path in FOLDER.iterdir()} == {path_of(name).name for name in texts}
    assert {*cli.COMMANDS, "train reranker", "index build", "deploy sagemaker", "python -m inpars.train"} <= {*texts}


def test_help_is_as_it_was(texts):
    changed = []
    for name, text in texts.items():
        before = path_of(name).read_text(encoding="utf-8") if path_of(name).exists() else ""
        changed += difflib.unified_diff(before.splitlines(), text.splitlines(), f"{name}, before", name, "", "", 0, "")
    assert not changed, "\n".join(["renew with INPARS_RENEW=help, if this is meant:", *changed])


def test_argparse_shows_the_same_words(texts, monkeypatch, capsys):
    """Nothing of what the files hold is lost on the way to the terminal: the real help has every flag and sentence."""
    monkeypatch.setenv("COLUMNS", "100")
    parser = help_texts.shown(cli.main, ["train", "reranker"])
    words = "".join(parser.format_help().split())
    for action in parser._actions:
        assert all(name in words for name in action.option_strings)
        assert "".join((action.help or "").replace("%%", "%").split())[:40] in words


def test_a_flag_a_default_and_a_word_are_seen(texts):
    """What the files would miss, the test would miss: each change of a parser changes the text."""
    import argparse

    def text(*flags, **settings):
        parser = argparse.ArgumentParser("x")
        parser.add_argument(*flags, **settings)
        return help_texts.written(parser)

    plain = text("--size", default=3, help="size in tokens", metavar="N")
    others = [
        text("--sizes", default=3, help="size in tokens", metavar="N"),
        text("--size", default=4, help="size in tokens", metavar="N"),
        text("--size", default=3, help="size in words", metavar="N"),
        text("--size", default=3, help="size in tokens", metavar="X"),
        text("--size", default=3, help="size in tokens", metavar="N", required=True),
        text("--size", default=3, help="size in tokens", metavar="N", nargs="+"),
        text("--size", "-s", default=3, help="size in tokens", metavar="N"),
        text("--size", default=3, help=argparse.SUPPRESS, metavar="N"),
        text("--size", default=3, help="size in tokens", choices=[3, 4]),
        text("--size", default=3, help="size in tokens", choices=[3, 5]),
        text("--size", default=3, help="size in tokens", metavar="N", choices=[3, 5]),
    ]
    assert len({plain, *others}) == len(others) + 1
