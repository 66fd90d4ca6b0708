"""Flags from a YAML file and from an earlier run."""

import json
from pathlib import Path

import pytest
import yaml

from inpars.cli import main as cli
from inpars.cli.config_files import add_config_flags, expanded
from inpars.cli.usage import Parser
from inpars.errors import ConfigError


@pytest.fixture
def parser():
    made = Parser(prog="x")
    made.add_argument("--depth", type=int, default=3)
    made.add_argument("--name", action="append", default=[])
    made.add_argument("--files", nargs="+", default=[])
    made.add_argument("--overwrite", action="store_true")
    made.add_argument("--output")
    add_config_flags(made, like=True)
    return made


def expand(parser, tmp_path, text, *typed):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    return expanded(parser, ["--config", str(path), *typed])


def test_values_become_flags(parser, tmp_path):
    text = "depth: 5\nname: [a, b c]\nfiles: [x, 1]\noverwrite: true\noutput: null\n"
    words = ["--depth=5", "--name=a", "--name=b c", "--files", "x", "1", "--overwrite"]
    assert expand(parser, tmp_path, text) == words
    flags = parser.parse_args(words)
    assert (flags.depth, flags.name, flags.files, flags.overwrite) == (5, ["a", "b c"], ["x", "1"], True)


def test_a_typed_flag_replaces_the_files(parser, tmp_path):
    assert expand(parser, tmp_path, "depth: 5\nname: [a, b]\n", "--name", "c") == ["--depth=5", "--name", "c"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("dept: 5", "unknown key 'dept'; did you mean 'depth'?"),
        ("config: other.yaml", "unknown key 'config'"),
        ("depth: [1, 2]", "depth: it takes one value, not 2"),
        ("depth: {a: 1}", "a number, a text or a list of them is needed"),
        ("overwrite: maybe", "'maybe' is not true or false"),
        ("- depth", "a mapping of flags to values is needed"),
        ("depth: [", "not YAML"),
    ],
)
def test_what_is_wrong_is_named_with_the_file(parser, tmp_path, text, problem):
    with pytest.raises(ConfigError) as error:
        expand(parser, tmp_path, text)
    assert problem in str(error.value)
    assert "c.yaml" in str(error.value)


def test_the_flags_of_an_earlier_run_without_its_output(parser, tmp_path):
    command = "inpars run --depth 9 --name a --name 'b c' \\\n    --output old --overwrite"
    (tmp_path / "run.json").write_text(json.dumps({"command": command}))
    words = expanded(parser, ["--like", str(tmp_path), "--output", "new", "--depth=1"])
    assert words == ["--name", "a", "--name", "b c", "--output", "new", "--depth=1"]
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(ConfigError, match="stored command"):
        expanded(parser, ["--like", str(tmp_path)])


def test_what_is_printed_is_a_config_with_sources(tmp_path, capsys):
    path = tmp_path / "run.yaml"
    path.write_text("dataset: python-docs\nmax-documents: 100\nprompt: [inpars, code]\n")
    typed = ["run", "--config", str(path), "--output", "o", "--top-k", "60"]
    assert cli.main([*typed, "--print-config"]) == 0
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    assert {"max-documents: 100  # config", "top-k: 60  # command line", "# rerank-depth: 20  # default"} <= set(lines)
    assert {"max-documents", "top-k"} <= yaml.safe_load(printed).keys()
    assert "rerank-depth" not in yaml.safe_load(printed)  # a default is no choice, which a budget would have to keep
    again = tmp_path / "again.yaml"
    again.write_text(printed)
    assert cli.main(["run", "--config", str(again), "--print-config"]) == 0
    assert yaml.safe_load(capsys.readouterr().out) == yaml.safe_load(printed)
    assert not Path("o").exists()


def test_a_subcommand_takes_it_too(tmp_path, capsys):
    path = tmp_path / "train.yaml"
    path.write_text("epochs: 2\ntriples: t.tsv\noutput: m\n")
    assert cli.main(["train", "retriever", "--config", str(path), "--print-config"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["epochs"] == 2.0


@pytest.mark.parametrize(
    ("text", "problem"), [("depth: 5\nname: a\ndepth: 6\n", "lines 1 and 3"), ("a_b: 1\na-b: 2\n", "twice")]
)
def test_a_flag_has_one_value(parser, tmp_path, text, problem):
    parser.add_argument("--a-b", type=int)
    with pytest.raises(ConfigError, match=problem):
        expand(parser, tmp_path, text)


@pytest.mark.parametrize("flag", ["--config", "--like"])
def test_two_files_are_not_taken_for_one(parser, flag):
    with pytest.raises(ConfigError, match=f"{flag} is given twice"):
        expanded(parser, [flag, "a", f"{flag}=b"])


def test_a_file_replaces_the_flags_of_an_earlier_run(parser, tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({"command": "inpars run --depth 9 --name a"}))
    words = ["--name", "a", "--depth=5"]
    assert expand(parser, tmp_path, "depth: 5\n", "--like", str(tmp_path)) == words
    assert expand(parser, tmp_path, f"depth: 5\nlike: {tmp_path}\n") == words
