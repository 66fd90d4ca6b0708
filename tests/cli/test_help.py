"""The help of every command and subcommand matches tests/data/help/, flag by flag.

After a change that is meant, `INPARS_RENEW=help python -m pytest tests/cli/test_help.py` writes the files anew, and
`git diff tests/data/help` shows what users will see.
"""

import argparse
import difflib
import os
from pathlib import Path

import help_texts
import pytest

from inpars.cli import main as cli

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
    """The real help contains every flag and sentence of the files."""
    monkeypatch.setenv("COLUMNS", "100")
    parser = help_texts.shown(cli.main, ["train", "reranker"])
    words = "".join(parser.format_help(all_flags=True).split())
    for action in parser._actions:
        if action.help is not argparse.SUPPRESS:
            assert action.option_strings[0].removeprefix("--") in words
            assert "".join((action.help or "").replace("%%", "%").split())[:40] in words
    assert "--help-all" not in words


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_help_fits_a_screen_and_names_the_rest(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    parser = help_texts.shown(cli.main, [command])
    text = parser.format_help()
    assert len(text.splitlines()) <= 60
    hidden = [action for action in parser._actions if getattr(action, "advanced", False)]
    assert not [flag for flag in hidden if f"\n  {flag.option_strings[0]} " in text]
    assert ("--help-all" in text) == bool(hidden)


def test_help_all_has_the_rest(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["run", "--help-all"])
    text = capsys.readouterr().out
    assert stopped.value.code == 0
    assert "--window-tokens" in text
    assert "more flags" not in text


def test_a_flag_a_default_and_a_word_are_seen(texts):
    """What the files would miss, the test would miss: each change of a parser changes the text."""

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
