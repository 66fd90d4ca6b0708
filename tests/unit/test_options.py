"""Options: dataclass to flags and back."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import pytest

from inpars.cli.usage import Parser
from inpars.errors import ConfigError
from inpars.options import Bounds, FlagGroup, add_flags, check, from_flags, option, result_settings


@dataclass(frozen=True)
class Options:
    output: Path = option(help="where to write", metavar="FILE")
    max_doc_tokens: int = option(256, help="longest document, 50% of the prompt")
    threshold: float | None = option(None, help="least score")
    measure: Literal["sum", "mean"] = option("mean", help="which score")
    stop: tuple[str, ...] = option((), help="where to stop")
    layer: tuple[int, ...] = option((1, 2), help="layers")
    dedup: bool = option(True, help="drop duplicates")
    batch_size: int = option(8, help="documents at a time", changes_result=False)
    secret: str = "not a flag"


def parse(*arguments):
    parser = argparse.ArgumentParser(prog="x", exit_on_error=False)
    add_flags(parser, Options)
    return from_flags(Options, parser.parse_args(arguments))


def test_defaults_are_those_of_the_dataclass():
    assert parse("--output", "o") == Options(Path("o"))


def test_all_flags():
    options = parse(
        *("--output", "o", "--max-doc-tokens", "9", "--threshold", "-1.5", "--measure", "sum"),
        *("--stop", "a", "--stop", "b", "--layer", "7", "--no-dedup", "--batch-size", "1"),
    )
    assert options == Options(Path("o"), 9, -1.5, "sum", ("a", "b"), (7,), dedup=False, batch_size=1)


def test_repeated_flags_replace_the_default_once():
    assert parse("--output", "o", "--layer", "1", "--layer", "2", "--layer", "2").layer == (1, 2, 2)
    assert parse("--output", "o").layer == (1, 2)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--output", "o", "--max-doc-tokens", "many"], "invalid int value: 'many'"),
        (["--output", "o", "--measure", "median"], "invalid choice: 'median'"),
        ([], "--output"),
    ],
)
def test_bad_flags_are_refused(arguments, said, capsys):
    with pytest.raises((argparse.ArgumentError, SystemExit)) as caught:
        parse(*arguments)
    assert said in str(caught.value) + capsys.readouterr().err


def test_a_flag_without_default_must_be_given_even_if_it_is_a_switch(capsys):
    @dataclass(frozen=True)
    class Switch:
        sure: bool = option(help="say so")

    parser = argparse.ArgumentParser(prog="x")
    add_flags(parser, Switch)
    assert from_flags(Switch, parser.parse_args(["--no-sure"])) == Switch(sure=False)
    with pytest.raises(SystemExit):
        parser.parse_args([])
    assert "--sure" in capsys.readouterr().err


def test_help_shows_every_default_and_escapes_percent_signs():
    parser = argparse.ArgumentParser(prog="x")
    add_flags(parser, Options)
    shown = " ".join(parser.format_help().split())
    for line in (
        "--output FILE where to write --max",
        "--max-doc-tokens N longest document, 50% of the prompt (default: 256)",
        "--threshold X least score --",  # None says nothing
        "--measure {sum,mean} which score (default: mean)",
        "--stop TEXT where to stop --",
        "--layer N layers (default: 1 2)",
        "--dedup, --no-dedup drop duplicates (default: on)",
    ):
        assert line in shown
    assert "secret" not in shown


def test_fixed_values_win_and_foreign_flags_are_ignored():
    flags = argparse.Namespace(output=Path("o"), max_doc_tokens=9, command="generate")
    assert from_flags(Options, flags, max_doc_tokens=7, secret="s") == Options(Path("o"), 7, secret="s")


def test_settings_that_decide_the_result():
    # without the path, which is compared by content, and the batch size, which changes nothing
    assert result_settings(Options(Path("o"), stop=("a",))) == {
        "max_doc_tokens": 256,
        "threshold": None,
        "measure": "mean",
        "stop": ("a",),
        "layer": (1, 2),
        "dedup": True,
        "secret": "not a flag",
    }


@dataclass(frozen=True)
class Bounded:
    depth: int = option(100, help="depth", minimum=1)
    limit: int | None = option(None, help="limit", minimum=1)
    weight: float = option(0.5, help="weight", minimum=0)


def test_numbers_below_their_minimum_are_named_at_once():
    check(Bounded())
    check(Bounded(depth=1, limit=1, weight=0))
    with pytest.raises(ConfigError) as caught:
        check(Bounded(depth=0, limit=-1, weight=-0.1))
    assert caught.value.problems == [
        "--depth is 0; it must be at least 1",
        "--limit is -1; it must be at least 1",
        "--weight is -0.1; it must be at least 0",
    ]


def test_bounds_in_words():
    share = Bounds(above=0, below=1)
    assert share.problem("--x", 0.5) is share.problem("--x", None) is None
    for value in (0.0, 1.0, -2.0):
        assert share.problem("--x", value) == f"--x is {value}; it must be above 0 and below 1"
    for value in (float("nan"), float("inf"), -float("inf")):
        assert Bounds().problem("--x", value) == f"--x is {value}; it must be a finite number"
    assert Bounds().problem("--x", 2**31 - 1) is None
    assert Bounds().problem("--x", 2**31) == "--x is 2147483648; it must be at most 2147483647"
    assert Bounds(maximum=2**40).problem("--x", 2**40) is None
    assert Bounds(minimum=1).problem("--x", True) is None  # a switch is no number


def test_groups_and_advanced_flags():
    @dataclass(frozen=True)
    class Machine:
        FLAG_GROUP: ClassVar = FlagGroup("machine", advanced=True)

        threads: int = option(2, help="threads")

    @dataclass(frozen=True)
    class Search(Machine):
        k: int = option(10, help="results")
        b: float = option(0.4, help="length normalisation", advanced=True)

    parser = Parser(prog="x")
    add_flags(parser, Search)
    short, full = parser.format_help(), parser.format_help(all_flags=True)
    assert "--k N" in short
    assert "2 more flags: x --help-all" in short
    assert all(text not in short for text in ("--b", "--threads", "machine:"))
    assert full.index("--b X") < full.index("machine:") < full.index("--threads N")
    assert from_flags(Search, parser.parse_args(["--threads", "3"])).threads == 3


def test_a_help_that_names_its_own_default_is_left_alone():
    @dataclass(frozen=True)
    class Own:
        depth: int | None = option(None, help="documents (default: the run's)")

    parser = argparse.ArgumentParser(prog="x")
    add_flags(parser, Own)
    assert parser.format_help().count("default") == 1


def test_choices_of_two_lists_are_all_taken():
    @dataclass(frozen=True)
    class Two:
        kind: Literal["monot5", "causal"] | Literal["auto"] = option("auto", help="what it is")

    parser = argparse.ArgumentParser(prog="x")
    add_flags(parser, Two)
    assert parser.parse_args(["--kind", "auto"]).kind == "auto"
    assert parser.parse_args(["--kind", "causal"]).kind == "causal"
