"""Light commands stay light: no torch, no transformers, no JVM before a command needs them."""

import importlib.util
import json
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import inpars
from inpars import cli

HEAVY = ("torch", "transformers", "sentence_transformers", "jnius", "ray", "pyserini", "openai")
LIGHT = [
    "records",
    "errors",
    "io.runs",
    "io.formats",
    "io.storage",
    "io.manifest",
    "io.corpus",
    "documents.datasets",
    "options",
    "console",
    "progress",
    "extras",
    "contrib.doctor",
    "generate",
    "documents.python_docs",
    "documents.blocks",
    "documents.collection",
    "documents.web_pages",
    "documents.readers",
    "documents.selection",
    "text.minhash",
    "prompts.load",
    "prompts.templates",
    "retrieval.bm25",
    "retrieval.java",
    "evaluation.measures",
    "evaluation.significance",
    "evaluation.run_files",
    "evaluation.presets",
    "evaluation.run_diff",
    "evaluation.contamination",
    "evaluation.verdicts",
    "evaluate",
    "stages.caveats",
    "stages.evaluate",
    "models.folders",
    "models.processor",
    "generation",
    "generation.degeneration_monitor",
    "negatives.rules",
    "negatives.miner",
    "negatives.audit",
    "negatives.split",
    "filtering.filters",
    "filtering.checks",
    "filtering.query_table",
    "filtering.selections",
    "filtering.known_queries",
    "filtering.score_files",
    "filtering.filter_comparison",
    "report.render",
    "stages.partial",
    "stages.query_scores",
    "apps.qa.engine",
    "apps.qa.build_engine",
    "apps.qa.retrievers",
    "apps.qa.extractive",
    "apps.qa.generative",
    "apps.qa.measured",
    "apps.qa.formatting",
    "apps.qa.repl",
    "evaluation.squad_metrics",
    "retrieval.vector_index",
    "retrieval.index_writer",
    "stages.rerank",
    "stages.search",
    "stages.system_search",
    "distributed",
    "stages.query_writer",
    "stages.score",
    "rerankers",
    "contrib.comparison.filters",
    "contrib.interchange",
    "contrib.interchange.stage",
    "apps.serve.options",
    "apps.serve.feedback",
    "apps.serve.metrics",
    "apps.serve.batcher",
]
COMMANDS = [f"cli.{module.name}" for module in pkgutil.iter_modules(cli.__path__)]


def run(program, *arguments, **environment):
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )
    return done


LOADED = f"loaded = [name for name in {HEAVY!r} if name in sys.modules]"


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["ingest", "--help"], ["generate", "--help"]])
def test_help_and_version_load_nothing_heavy(arguments):
    program = f"""
import json, sys
from inpars.cli.main import main
try:
    main(sys.argv[1:])
except SystemExit as exit_:
    assert exit_.code == 0
{LOADED}
print(json.dumps(loaded), file=sys.stderr)
"""
    done = run(program, *arguments)
    assert done.stderr == "[]\n"
    assert done.stdout


def test_version_is_the_packages():
    assert run("from inpars.cli.main import main; main(['--version'])").stdout == f"inpars {inpars.__version__}\n"


def test_light_modules_load_nothing_heavy():
    """Imports the modules in one process, one after another, and names the first that loads a heavy package."""
    names = [f"inpars.{name}" for name in ["cli.main", *LIGHT, *COMMANDS]]
    program = f"""
import importlib, json, sys
offenders = {{}}
for module in sys.argv[1:]:
    importlib.import_module(module)
    {LOADED}
    if loaded:
        offenders[module] = loaded
        break
print(json.dumps(offenders))
"""
    done = run(program, *names)
    assert done.stderr == ""
    assert json.loads(done.stdout) == {}


def test_every_command_has_its_module():
    from inpars.cli.main import COMMANDS as NAMES
    from inpars.cli.main import module_of

    written = {f"inpars.{name}" for name in COMMANDS} - {
        f"inpars.cli.{name}" for name in ("common", "config_files", "main", "measured", "usage", "whole_run")
    }
    assert written == {module_of(name) for name in NAMES}
    assert all(importlib.util.find_spec(name) for name in written)


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None  # as if it were not installed
from inpars.cli.main import main
sys.exit(main(sys.argv[1:]))
"""
CORPUS = Path(__file__).parents[1] / "data" / "toy" / "corpus.tsv"


def test_without_torch_the_pip_line_is_given(tmp_path):
    done = run(
        *(WITHOUT_TORCH, "generate", "--quiet", "--corpus", str(CORPUS), "--output", str(tmp_path / "q.jsonl")),
        INPARS_CACHE=str(tmp_path),
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("inpars: torch is needed for")
    assert "with: pip install " in done.stderr
    assert done.stderr.count("\n") == 1


def test_without_torch_the_light_commands_work(tmp_path):
    done = run(
        *(WITHOUT_TORCH, "ingest", "--quiet", "--corpus", str(CORPUS), "--output", str(tmp_path / "c.jsonl")),
        INPARS_CACHE=str(tmp_path),
    )
    assert (done.returncode, done.stderr) == (0, "")
    done = run(WITHOUT_TORCH, "doctor", HF_HUB_OFFLINE="1", INPARS_CACHE=str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    assert "torch cannot be used" in done.stdout


def heavy_after(lines):
    """The exit code of each command line and what is loaded by the time it ends; in one process, one after another."""
    program = f"""
import json, sys
from inpars.cli.main import main
ended = []
for line in json.loads(sys.argv[1]):
    try:
        code = main(line)
    except SystemExit as exit_:
        code = exit_.code
    {LOADED}
    ended.append([code, loaded])
print(json.dumps(ended))
"""
    ended = json.loads(run(program, json.dumps(lines)).stdout.splitlines()[-1])
    return dict(zip(lines, ended, strict=True))


HELP = [
    (*name.split(), "--help") for name in ("train reranker", "train retriever", "train reader", "serve", "index add")
]
WRONG = [
    ("train", "retriver"),
    ("train", "reranker", "--tripels", "x"),
    ("serve",),
    ("serve", "--prot", "1"),
    ("run", "--output", "x"),
    ("generate", "--output", "x"),
    ("search", "--k", "0", "--output", "x"),
    ("ask", "what"),
    ("rerank", "--run", "x", "--output", "y"),
    ("index", "build", "--index", "i"),
    ("export-model", "--model", "m", "--output", "o"),
    ("deploy", "folder", "--output", "o"),
    ("train", "retriever", "--triples", "x", "--output", "o", "--seed", "-1"),
]


def test_help_of_every_part_of_a_command_loads_nothing_heavy():
    assert heavy_after(HELP) == {line: [0, []] for line in HELP}


def test_help_of_every_command_loads_nothing_heavy():
    """In one process, each after the others."""
    program = f"""
import contextlib, io, json, sys
from inpars.cli.main import COMMANDS, main
for name in COMMANDS:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        main([name, "--help"])
{LOADED}
print(json.dumps(loaded))
"""
    assert json.loads(run(program).stdout) == []


def test_wrong_command_lines_load_nothing_heavy():
    for line, (code, loaded) in heavy_after(WRONG).items():
        assert code in (1, 2), line
        assert loaded == [], line


def test_every_command_and_a_search_work_without_what_windows_lacks(tmp_path):
    (tmp_path / "corpus.jsonl").write_text(
        '{"_id": "a", "text": "amber is resin"}\n{"_id": "b", "text": "basalt is rock"}\n'
    )
    (tmp_path / "queries.jsonl").write_text('{"_id": "q", "text": "amber resin"}\n')
    program = f"""
import importlib, sys, warnings
warnings.filterwarnings("ignore", "only soft file lock")  # filelock has another one on Windows
for name in ("fcntl", "resource", "pwd", "grp", "termios"):
    sys.modules[name] = None
import os
del os.fork
from inpars.cli.main import COMMANDS, main, module_of
for name in COMMANDS:
    importlib.import_module(module_of(name))
files = ["--corpus", {str(tmp_path / "corpus.jsonl")!r}, "--queries", {str(tmp_path / "queries.jsonl")!r}]
assert main(["search", *files, "--k", "1", "--quiet", "--output", {str(tmp_path / "run.trec")!r}]) == 0
from inpars.retrieval import index_state
from pathlib import Path
with index_state.writing(Path({str(tmp_path / "index")!r})):
    pass
"""
    done = run(program)
    assert done.stderr == ""
    assert (tmp_path / "run.trec").read_text().startswith("q Q0 a 1 ")
