"""Consoles with limited encodings, and unexpected errors: lines without a traceback, whatever the encoding."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from inpars.cli import main as cli
from inpars.retrieval.java import find_jar, find_java

TOY = Path(__file__).parents[1] / "data" / "toy"
HAS_BM25 = bool(find_java() and find_jar() and importlib.util.find_spec("jnius"))
NARROW = {
    "C": {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "cp437": {"PYTHONIOENCODING": "cp437"},
    "strict": {"PYTHONIOENCODING": "ascii:strict"},
}
SHOWS = """
import sys
from inpars.cli import main as cli
from inpars.cli import doctor
from inpars.cli.common import print_result
from inpars.console import Console

def run(flags):
    for _ in Console().track(range(2), total=2, description="encode » … \\U0001f600", unit="queries"):
        pass
    Console().note("noted » \\udcff …")
    print_result(flags, "»so« … \\U0001f600 Müller \\udcff", {"query": "Müller … \\U0001f600"})

doctor.run = run
sys.exit(cli.main(["doctor", *sys.argv[1:]]))
"""


def program(*arguments, **environment):
    return subprocess.run(
        [sys.executable, *map(str, arguments)], capture_output=True, check=False, env=os.environ | environment
    )


@pytest.mark.parametrize("console", NARROW)
def test_letters_that_a_console_lacks_are_escaped(console, tmp_path):
    shows = tmp_path / "shows.py"
    shows.write_text(SHOWS, encoding="utf-8")
    done = program(shows, **NARROW[console])
    assert (done.returncode, b"Traceback" in done.stderr) == (0, False), done.stderr
    assert b"\\U0001f600" in done.stdout
    assert b"\\u2026" in done.stderr
    done = program(shows, "--json", **NARROW[console])
    assert json.loads(done.stdout.decode("cp437")) == {"query": "Müller … \U0001f600"}


def test_paths_with_letters_in_errors_of_all_commands():
    """The toolkit's commands have a separate entry point."""
    for module in (["inpars"], ["inpars.filter"]):
        named = ["filter"] if len(module[0]) == len("inpars") else ["--filter_strategy", "scores"]
        arguments = [*named, "--input", "gone-»….jsonl", "--output", "o.jsonl"]
        done = program("-m", *module, *arguments, **NARROW["C"])
        assert done.returncode == 1
        assert b"Traceback" not in done.stderr
        assert b"no such file" in done.stderr


@pytest.mark.skipif(not HAS_BM25, reason="pyserini, pyjnius or Java is missing")
def test_a_search_that_is_typed_in_where_the_locale_is_c(tmp_path):
    arguments = ["search", "--quiet", "--corpus", TOY / "corpus.tsv", "--retriever", "bm25", "what is a lake, café?"]
    done = program("-m", "inpars", *arguments, INPARS_CACHE=str(tmp_path), **NARROW["C"])
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"[d26]" in done.stdout  # the document about a café


def raising(error):
    def fail(*_, **__):
        raise error

    return fail


EVALUATE = ["evaluate", "--run", str(TOY / "run.trec"), "--qrels", str(TOY / "qrels.trec")]


@pytest.mark.parametrize(
    "error",
    [
        RecursionError("maximum recursion depth exceeded"),
        OverflowError("Python int too large to convert to C long"),
        UnicodeEncodeError("utf-8", "\udcff", 0, 1, "surrogates not allowed"),
    ],
)
def test_what_nobody_foresaw_is_one_line_with_a_way_to_report_it(monkeypatch, capsys, error):
    monkeypatch.delenv("INPARS_TRACEBACK", raising=False)
    monkeypatch.setattr("inpars.cli.evaluate.evaluate_files", raising(error))
    assert cli.main(EVALUATE) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"inpars: {type(error).__name__}: ")
    assert "INPARS_TRACEBACK=1" in err
    monkeypatch.setenv("INPARS_TRACEBACK", "1")
    assert cli.main(EVALUATE) == 1
    assert capsys.readouterr().err.startswith("Traceback (most recent call last):\n")


class OutOfMemoryError(RuntimeError):
    """As torch has it for a GPU."""


ON_PROCESSOR = RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")


@pytest.mark.parametrize("error", [MemoryError(), OutOfMemoryError("CUDA out of memory"), ON_PROCESSOR])
def test_memory_that_is_not_enough_is_no_fault(monkeypatch, capsys, error):
    monkeypatch.setattr("inpars.cli.evaluate.evaluate_files", raising(error))
    assert cli.main(EVALUATE) == 1
    assert capsys.readouterr().err.startswith("inpars: out of memory; ")


def test_a_traceback_is_shown_of_errors_in_one_line_too(monkeypatch, capsys):
    monkeypatch.setenv("INPARS_TRACEBACK", "1")
    assert cli.main(["evaluate", "--run", "gone.trec", "--qrels", "gone"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("Traceback")
    assert err.splitlines()[-1].startswith("inpars: gone")


@pytest.mark.parametrize(
    "error", [AssertionError("ours"), KeyError("ours"), RuntimeError("ours"), ModuleNotFoundError("x", name="inpars.x")]
)
def test_faults_of_ours_are_not_hidden(monkeypatch, error):
    monkeypatch.setattr("inpars.cli.evaluate.evaluate_files", raising(error))
    with pytest.raises(type(error)):
        cli.main(EVALUATE)
