"""scripts/README.md matches the code: commands parse, flags in the right-hand columns exist, every script is listed."""

import argparse
import importlib
import re
from pathlib import Path

import pytest
from test_readme import commands, parse

from inpars.cli.main import module_of

SCRIPTS = Path(__file__).parents[2] / "scripts"
README = (SCRIPTS / "README.md").read_text(encoding="utf-8")
GIVEN = ("--input", "--dataset", "--triples")
WHOLE = [line for line in commands(README) if "--output" in line and any(flag in line for flag in GIVEN)]


def parser_of(name):
    """The parser of `train reranker`, `filter` and so on."""
    word, *rest = name.split()
    parser = argparse.ArgumentParser(allow_abbrev=False)
    importlib.import_module(module_of(word)).add_arguments(parser)
    for kind in rest:
        kinds = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
        parser = kinds.choices[kind]
    return parser


def flags_of(name):
    return {option for action in parser_of(name)._actions for option in action.option_strings}


def sections():
    """Heading's commands of ours, and the right-hand cells of its table."""
    for section in re.split(r"^### ", README, flags=re.MULTILINE)[1:]:
        heading, _, body = section.partition("\n")
        ours = re.findall(r"`inpars ((?:train )?[a-z]+)`", heading.partition("→")[2])
        rows = [line.strip("|").split(" | ") for line in body.splitlines() if line.startswith("| ")]
        yield heading, ours, [row[-1] for row in rows[1:]]


SECTIONS = list(sections())


@pytest.mark.parametrize(("heading", "ours", "cells"), SECTIONS, ids=[heading for heading, *_ in SECTIONS])
def test_flags_that_are_named_as_ours_exist(heading, ours, cells):
    assert ours, "the heading names our commands"
    assert len(cells) > 3
    for cell in cells:
        named = re.findall(r"inpars ((?:train )?[a-z]+)", cell) or ours
        known = {flag for name in (named if set(named) & set(ours) else ours + named) for flag in flags_of(name)}
        flags = [flag for code in re.findall(r"`([^`]*)`", cell) for flag in re.findall(r"--[a-z0-9-]+", code)]
        assert set(flags) <= known | flags_of(ours[0]), cell
        assert not [flag for code in re.findall(r"`([^`]*)`", cell) for flag in re.findall(r"--\w+_\w+", code)], cell


def test_every_toolkit_command_has_its_section():
    headings = " ".join(heading for heading, *_ in SECTIONS)
    for theirs in ("generate", "filter", "generate_triples", "train", "rerank", "evaluate"):
        assert f"`python -m inpars.{theirs}`" in headings
    for script in ("generate_queries_openai", "filter_queries_by_score", "generate_triples_train", "train_t5"):
        assert f"`{script}.py`" in headings


def test_measures_that_are_named_exist():
    from inpars.evaluation.measures import parse_metrics

    named = re.findall(r'`--metrics "([^"]+)"`', README)
    assert len(named) == 2
    assert all(parse_metrics(text) for text in named)


@pytest.mark.parametrize("line", WHOLE)
def test_whole_commands_parse(line):
    assert parse(line).output


def test_there_are_whole_commands():
    assert len(WHOLE) > 6


def test_every_script_is_named():
    assert not [path.name for path in SCRIPTS.glob("*.sh") if f"`{path.name}`" not in README]


@pytest.mark.parametrize("name", ["generate", "filter", "generate_triples", "rerank", "evaluate"])
def test_the_toolkits_commands_shown_can_be_parsed(name):
    module = importlib.import_module(f"inpars.{name}")
    (line,) = re.findall(rf"^python -m inpars\.{name} (.*)$", README, re.MULTILINE)
    flags = module._parser().parse_args(line.split())
    assert module.translate(flags)


def theirs_of(heading):
    """The toolkit's flags that a section's left-hand column names."""
    section = README.partition(f"### {heading}\n")[2].partition("\n### ")[0].partition("\n## ")[0]
    cells = [line.strip("|").split(" | ")[0] for line in section.splitlines() if line.startswith("| ")]
    return {flag for cell in cells for flag in re.findall(r"--\w+", cell)}


@pytest.mark.parametrize("name", ["generate", "filter", "generate_triples", "rerank", "evaluate"])
def test_every_flag_of_the_toolkit_is_mapped(name):
    heading = next(heading for heading, *_ in SECTIONS if heading.startswith(f"`python -m inpars.{name}`"))
    parser = importlib.import_module(f"inpars.{name}")._parser()
    taken = {option for action in parser._actions for option in action.option_strings} - {"-h", "--help", "--examples"}
    assert taken == theirs_of(heading)


@pytest.mark.parametrize(
    ("script", "flags"),
    [
        ("03_filter_queries.sh", "--scoring-function sum_log_probs --top-k 50000 --min-tokens 3 --max-tokens 9"),
        ("04_generate_triples.sh", "--ranks 1-1000 --per-query 100 --threads 2"),
    ],
)
def test_numbered_scripts_pass_flags_on_and_the_last_counts(script, flags):
    text = (SCRIPTS / script).read_text(encoding="utf-8")
    (line,) = [line for line in commands(text) if line.startswith("inpars ")]
    assert line.endswith('"$@"')
    filled = re.sub(r"\$\{?RANKS\}?", "1-5", re.sub(r"\$\{?(TOP_K|PER_QUERY)\}?\b", "5", line)).replace('"$@"', flags)
    parsed = vars(parse(re.sub(r"\$\{?SCORE\}?", "mean_probs", filled)))
    values = dict(zip(flags.split()[::2], flags.split()[1::2], strict=True))
    assert {name: str(parsed[name.strip("-").replace("-", "_")]) for name in values} == values
