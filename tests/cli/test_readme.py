"""What the README shows is what there is: commands parse, files of the tree exist, scripts know their flags."""

import argparse
import importlib
import re
import shlex
from pathlib import Path

import pytest

from inpars.cli import COMMANDS, module_of

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def commands(text):
    """Every `inpars ...` in backticks or at the beginning of a line, comments and continued lines dealt with."""
    joined = text.replace("\\\n", " ")
    fenced = "\n".join(joined.split("```")[1::2]) if "```" in joined else joined
    found = re.findall(r"`(inpars [a-z][^`]*)`", joined) + re.findall(
        r"^\s*(inpars [a-z][^\n]*)$", fenced, re.MULTILINE
    )
    return sorted({re.sub(r"\s+#.*", "", line).strip() for line in found})


def parse(line):
    name, *rest = shlex.split(line)[1:]
    assert name in COMMANDS, line
    command = importlib.import_module(module_of(name))
    parser = argparse.ArgumentParser(prog=f"inpars {name}", allow_abbrev=False)
    command.add_arguments(parser)
    return parser.parse_args(rest)


@pytest.mark.parametrize("line", [line for line in commands(README) if "COMMAND" not in line])
def test_commands_of_the_readme_parse(line):
    parse(line)


@pytest.mark.parametrize("script", sorted(path.name for path in (ROOT / "scripts").glob("0*.sh")))
def test_numbered_scripts_use_flags_that_exist(script):
    text = (ROOT / "scripts" / script).read_text(encoding="utf-8")
    lines = commands(text)
    assert lines, "a numbered script calls inpars"
    for line in lines:
        filled = re.sub(r'"\$@"', "", line).replace('"${runs[@]}"', "--run a.trec")
        filled = re.sub(r"\$\{?RANKS\}?", "1-100", filled)
        filled = re.sub(r"\$\{?(TOP_K|PER_QUERY|DEPTH|K|DOCUMENTS)\}?\b", "5", filled)
        parse(re.sub(r"\$\{?SCORE\}?", "mean_log_probs", filled))


def test_the_tree_names_what_exists():
    tree = README.split("## What is where")[1].split("```")[1]
    lines = [line.removeprefix("inpars/").strip() for line in tree[: tree.index("\nprompts/")].splitlines()]
    names = [name for line in lines if line for name in re.split(r"\s{2,}", line)[0].split()]
    assert len(names) > 20
    package = ROOT / "inpars"
    assert not [name for name in names if not ((package / name).is_dir() or (package / f"{name}.py").exists())]
    named = {name.rstrip("/") for name in names}
    assert named >= {path.parent.name for path in package.glob("*/__init__.py")} - {"data"}
