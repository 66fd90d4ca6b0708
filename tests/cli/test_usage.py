"""Wrong command lines: one line that names the flag or the command that was meant, before anything is loaded."""

import importlib
from pathlib import Path

import pytest

from inpars.cli import main as cli
from inpars.cli.usage import Parser, near_flags

TOY = Path(__file__).parents[1] / "data" / "toy"
TOOLKIT = ("generate", "filter", "generate_triples", "train", "rerank", "evaluate")


@pytest.fixture
def wrong(capsys):
    """Runs a command line with a usage error, and returns its one line on stderr."""

    def call(*arguments, main=cli.main):
        with pytest.raises(SystemExit) as exit_:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert (exit_.value.code, out, err.count("\n")) == (2, "", 1), err
        return err.strip()

    return call


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("generate --datset x", "unknown flag --datset; did you mean --dataset? see inpars generate --help"),
        ("generate --output x --max_documents 2", "unknown flag --max_documents; did you mean --max-documents?"),
        ("generate --output x --max-docs 2", "did you mean --max-documents?"),
        ("generate --output x --Prompt y", "did you mean --prompt?"),
        ("generate --output x --batch-siz 2", "did you mean --batch-size?"),
        ("generate --output x --max-doc=2", "did you mean --max-doc-tokens or --max-documents?"),
        ("triples -output x", "unknown flag -output; did you mean --output?"),
        ("filter --input a --output b --no-drop-copies", "did you mean --no-drop-copied?"),
        ("train reranker --triple x", "inpars train reranker: unknown flag --triple; did you mean --triples?"),
        ("train --triples x reranker", "--triples comes after retriever or reranker"),
        ("index build --indx i", "inpars index build: unknown flag --indx; did you mean --index?"),
        ("merge --qqqqqqq", "unknown flag --qqqqqqq; see inpars merge --help"),
        ("--output x run", "--output comes after the command"),
    ],
)
def test_a_flag_that_is_not_known_is_named_before_one_that_is_missing(wrong, line, expected):
    assert expected in wrong(*line.split())


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("genrate", "inpars: unknown command 'genrate'; did you mean 'generate'? see inpars --help"),
        ("eval --run x", "did you mean 'evaluate'?"),
        ("help genrate", "did you mean 'generate'?"),
        ("train retriver", "'retriver'; did you mean 'retriever'?"),
        ("index create", "'create' (known: build, add, delete, info, push)"),
        ("rerank --output x --run y --kind monot", "--kind is 'monot'; did you mean 'monot5'?"),
    ],
)
def test_a_name_that_is_not_known_gets_the_nearest(wrong, line, expected):
    assert expected in wrong(*line.split())


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("filter nope.jsonl --output b", "'nope.jsonl' stands without a flag; did you mean --input nope.jsonl?"),
        ("evaluate --qrels q a.trec", "did you mean --run a.trec?"),
        ("evaluate --qrels q --run a.trec b.trec", "did you mean --run b.trec?"),
        ("evaluate --run a --qrels q --metrics nDCG@10 RR@10", "did you mean --metrics 'nDCG@10 RR@10'?"),
        (f"run {TOY} --output o", f"did you mean --documents {TOY}?"),
        (f"audit {TOY}/corpus.tsv --output o", f"did you mean --triples {TOY}/corpus.tsv?"),
        ("generate --output o --batch 2", "'2' stands without a flag; --batch takes no value"),
        ("doctor extra", "'extra' stands without a flag; see inpars doctor --help"),
    ],
)
def test_a_value_without_a_flag_is_given_one(wrong, line, expected):
    assert expected in wrong(*line.split())


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("filter", "missing: --input, --output"),
        ("search --output x --k many", "--k is 'many'; it must be a whole number"),
        ("search --output x --k1 much", "--k1 is 'much'; it must be a number"),
        ("search --output", "--output needs a value"),
    ],
)
def test_what_argparse_finds_is_said_in_one_line(wrong, line, expected):
    assert expected in wrong(*line.split())


def toolkit(name):
    return importlib.import_module(f"inpars.{name}").main


def test_the_toolkits_commands_do_the_same(wrong):
    assert "unknown flag --datset; did you mean --dataset?" in wrong("--datset", "x", main=toolkit("generate"))
    assert "did you mean --input q?" in wrong(
        "q", "--filter_strategy", "scores", "--output", "o", main=toolkit("filter")
    )
    assert "--output_dri; did you mean --output_dir?" in wrong("--output_dri", "x", main=toolkit("train"))
    assert "missing: --output_run" in wrong(main=toolkit("rerank"))


def test_flags_of_hugging_faces_trainer_are_left_aside_with_the_one_they_may_stand_for(capsys):
    """--logging_strategy is a trainer flag that is not supported, not a misspelt --logging_steps."""
    flags = ["--output_dir", "o", "--triples", "gone.tsv", "--logging_strategy", "no"]
    assert toolkit("train")(flags) == 1
    warning = capsys.readouterr().err.splitlines()[0]
    assert warning == "ignored: --logging_strategy is not known (is --logging_steps meant?)"


def test_help_of_a_command(capsys):
    for arguments in (["help", "merge"], ["help", "train", "retriever"], ["help"], ["generate", "--datset", "-h"]):
        with pytest.raises(SystemExit) as exit_:
            cli.main(arguments)
        out, err = capsys.readouterr()
        assert (exit_.value.code, err) == (0, "")
        name = "generate" if "-h" in arguments else " ".join(arguments[1:])
        assert out.startswith(f"usage: inpars {name}".rstrip())


def test_negative_numbers_in_any_form_are_values():
    parser = Parser(prog="x")
    parser.add_argument("--threshold", type=float)
    for text in ("-1", "-.5", "-1e-3", "-2.5E+4"):
        assert parser.parse_args(["--threshold", text]).threshold == float(text)


def test_no_flags_are_suggested_for_their_own_kind_alone():
    known = ["--names", "--no-names", "--dev_queries"]
    assert near_flags("--no-name", known) == ["--no-names"]
    assert near_flags("--name", known) == ["--names"]
    assert near_flags("--dev-queries", known) == ["--dev_queries"]


def numeric_flags():
    """(command, words before the flag, flag) of every flag of any command that takes a number."""
    for name in cli.COMMANDS:
        parser = Parser(prog=f"inpars {name}")
        importlib.import_module(cli.module_of(name)).add_arguments(parser)
        kinds = parser.kinds() or {"": parser}
        for kind, subparser in kinds.items():
            for action in subparser._actions:
                if action.type in (int, float):
                    yield subparser, kind, action


def test_every_number_has_bounds():
    """NaN and infinity are refused everywhere, integers of more than 31 bits everywhere except for seeds."""
    numeric = list(numeric_flags())
    assert len(numeric) > 150
    for subparser, _, action in numeric:
        flag = action.option_strings[0]
        assert hasattr(action, "bounds"), (subparser.prog, flag)
        beyond = float("nan") if action.type is float else 2**40
        assert action.bounds.problem(flag, beyond), (subparser.prog, flag)
        assert action.bounds.problem(flag, action.default) is None, (subparser.prog, flag)


FREE = {"--threshold", "--port"}  # a margin may be negative; ports are checked where they are bound


def test_every_number_that_counts_or_measures_has_a_least():
    for subparser, _, action in numeric_flags():
        bounds, flag = action.bounds, action.option_strings[0]
        assert flag in FREE or bounds.minimum is not None or bounds.above is not None, (subparser.prog, flag)


RUN = ("run", "--dataset", TOY / "beir", "--output", "made")


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("--rerank-depth -1", "--rerank-depth is -1; it must be at least 0"),
        ("--max-documents 0 --top-k -1", "--max-documents is 0; it must be at least 1; --top-k is -1"),
        ("--ranks 100-1", "--ranks is '100-1'"),
        ("--ranks 0-9", "--ranks is '0-9'"),
        ("--ranks 3-4 --per-query 3", "--per-query is 3, but --ranks 3-4 holds 2"),
        ("--window-tokens 5", "--window-tokens is 5; it must be 0 or at least 8"),
        ("--dev-share 1", "--dev-share is 1.0; it must be at least 0 and below 1"),
        ("--dev-share nan", "--dev-share is nan; it must be a finite number"),
        ("--retriever-epochs 0", "--retriever-epochs is 0.0; it must be above 0"),
        ("--k 99999999999999999999", "--k is 99999999999999999999; it must be at most 2147483647"),
        ("--seed -1", "--seed is -1; it must be at least 0"),
        ("--limit 0", "--limit is 0; it must be at least 1"),
        ("--num-examples 0", "--num-examples is 0; it must be at least 1"),
        ("--metrics nDCG@10,Best", "unknown measure Best"),
    ],
)
def test_values_that_a_later_stage_would_refuse_are_refused_at_once(capsys, tmp_path, monkeypatch, flags, expected):
    monkeypatch.chdir(tmp_path)
    assert cli.main([*map(str, RUN), *flags.split()]) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert expected in err
    assert not Path("made").exists()


def test_commands_of_single_stages_check_theirs_before_they_read_anything(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = {
        "train reranker --triples gone --output o --dropout 1": "--dropout is 1.0; it must be at least 0 and below 1",
        "train retriever --triples gone --output o --learning-rate 0": "--learning-rate is 0.0; it must be above 0",
        "generate --corpus gone --output o --top-p 1.5": "--top-p is 1.5; it must be above 0 and at most 1",
        "search --corpus gone --output o --b 2": "--b is 2.0; it must be at least 0 and at most 1",
        "triples --corpus gone --output o --ranks 9-3": "--ranks is '9-3'",
        "ask what --corpus gone --k 0": "--k is 0; it must be at least 1",
        "compare gone gone --moved -1": "--moved is -1; it must be at least 0",
        "index build --index i --corpus gone --batch-size 0": "--batch-size is 0; it must be at least 1",
    }
    for line, expected in lines.items():
        assert cli.main(line.split()) == 1
        assert expected in capsys.readouterr().err, line
