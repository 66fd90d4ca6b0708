"""The commands a report shows: a shell and the command line itself take them, and they say what was asked for."""

import importlib
import shlex
from pathlib import Path

import pytest

from inpars.cli.main import main, module_of
from inpars.cli.usage import Parser
from inpars.filtering.checks import FilterOptions
from inpars.options import flags_of, from_flags
from inpars.pipeline.commands import Invocation, StageCommands
from inpars.pipeline.options import PipelineOptions
from inpars.prompts.load import ExampleOptions
from inpars.provenance import current_argv, running, shown_command
from inpars.stages.generate import GenerateOptions
from inpars.stages.ingest import IngestOptions
from inpars.stages.rerank import RerankOptions
from inpars.stages.search import SearchOptions
from inpars.stages.split import SplitOptions
from inpars.stages.triples import TriplesOptions
from inpars.training.options import ReaderOptions, RerankerOptions, RetrieverOptions

SOURCE = {"dataset": "toy; rm -rf x", "unknown_judgements": "keep", "split": "dev"}
FOLDER = Path("runs/it's mine")


def words(command):
    return shlex.split(command.replace("\\\n", " "), comments=True)


def parsed(command):
    program, name, *rest = words(command)
    assert program == "inpars"
    parser = Parser(prog="inpars")
    importlib.import_module(module_of(name)).add_arguments(parser)
    return parser.parse_args(rest)


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("generate", GenerateOptions(max_documents=7, skip_near_duplicates=True, temperature=0.5, threads=2)),
        ("filter --input q", FilterOptions(top_k=5, drop_copied=False, select=("a:min=-1", "b:top-k=2"))),
        ("split --input q --output-train t --output-dev d", SplitOptions(by_source=True, dev_share=0.3)),
        ("triples", TriplesOptions(ranks="3-9", negatives="both", margin=0.5)),
        ("train retriever --triples t", RetrieverOptions(epochs=2.5, negatives=False, query_prefix="-- q: ")),
        ("train reranker --triples t", RerankerOptions(kind="query-likelihood", lora_rank=0, max_steps=3)),
        ("train reader --squad s", ReaderOptions(held_out=0.1)),
        ("search", SearchOptions(retriever=("bm25", "minilm"), k1=1.2, window_tokens=96)),
        ("rerank --run r", RerankOptions(depth=3, fuse=True, fusion="rrf", windows="nearest")),
        ("run", PipelineOptions(top_k=3, window_tokens=0, model="-odd", trust_remote_code=True)),
        ("ingest", IngestOptions(max_tokens=50, overlap=0, drop_boilerplate=False)),
        ("generate", ExampleOptions(examples=Path("a b.jsonl"), examples_choice="nearest", num_examples=2)),
    ],
)
def test_the_flags_of_options_give_the_same_options(command, options):
    output = [] if command.startswith("split") else ["--output", "o"]
    flags = parsed(shown_command(["inpars", *command.split(), *flags_of(options), *output]))
    if isinstance(options, RerankerOptions):
        from inpars.cli.train import reranker_options

        assert reranker_options(flags) == options
    else:
        assert from_flags(type(options), flags) == options


def test_a_command_is_shown_as_it_was_typed_without_flags_of_display():
    typed = ["inpars", "run", "--dataset", "it's", "--top-k=3", "--quiet", "--documents", "a b", "c", "--overwrite"]
    shown = shown_command(typed)
    assert words(shown) == ["inpars", "run", "--dataset", "it's", "--top-k=3", "--documents", "a b", "c"]
    long = shown_command(["inpars", "search", *(word for n in range(20) for word in ("--run", f"runs/{n}.trec"))])
    assert all(len(line) <= 100 for line in long.split("\n"))
    assert len(words(long)) == 42


def test_the_command_that_is_carried_out_is_known_while_it_is(tmp_path):
    assert current_argv() == []
    with running(["inpars", "merge"]):
        assert current_argv() == ["inpars", "merge"]
    assert current_argv() == []


def test_flags_of_documents_queries_and_prompt():
    examples = ExampleOptions(examples=Path("e.jsonl"), num_examples=2)
    commands = StageCommands(Invocation("inpars run", SOURCE, "my prompt.yaml", examples=examples))
    commands.add("generate", [*commands.documents, *commands.prompt], FOLDER / "q.jsonl")
    commands.add("filter", ["--input", "q", *commands.example_queries], FOLDER / "kept.jsonl")
    commands.add("search", commands.topics, FOLDER / "bm25.trec")
    commands.hold_out(FOLDER / "dev.queries.jsonl", FOLDER / "dev.qrels.tsv")
    commands.add("search", commands.topics, FOLDER / "bm25.trec")
    generate, kept, search, held_out = map(parsed, commands.lines)
    assert (generate.dataset, generate.prompt, generate.num_examples) == (SOURCE["dataset"], "my prompt.yaml", 2)
    assert (kept.examples, kept.num_examples, kept.prompt) == (Path("e.jsonl"), 2, None)
    assert (search.split, search.unknown_judgements, search.queries) == ("dev", "keep", None)
    assert (held_out.queries, held_out.output) == (FOLDER / "dev.queries.jsonl", FOLDER / "bm25.trec")


def test_comments_are_comments_for_a_shell():
    commands = StageCommands(Invocation())
    commands.say("it's made by `inpars run` alone", "and so is this")
    assert words(commands.lines[0].replace("'", "")) == []
    assert [line[:2] for line in commands.lines[0].splitlines()] == ["# ", "# "]


RUNS = {
    "a.trec": "q1 Q0 d1 1 3.0 a\nq1 Q0 d2 2 1.0 a\n",
    "b.trec": "q1 Q0 d2 1 9.0 b\nq1 Q0 d3 2 7.0 b\n",
    "scores.trec": "q1 Q0 d2 1 0.5 s\nq1 Q0 d1 2 -0.5 s\n",
}


@pytest.fixture
def runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, content in RUNS.items():
        Path(name).write_text(content, encoding="utf-8")


def test_runs_are_fused_by_search(runs, capsys):
    """z-scores: a has d1 1, d2 -1; b has d2 1, d3 -1; what a run lacks has its lowest: d1 0, d2 0, d3 -2."""
    assert main(["search", "--run", "a.trec", "--run", "b.trec", "--k", "2", "--output", "f.trec", "--quiet"]) == 0
    lines = [line.split() for line in Path("f.trec").read_text().splitlines()]
    assert [float(line[4]) for line in lines] == pytest.approx([0, 0], abs=1e-4)  # ties are kept apart
    assert {line[2] for line in lines} == {"d1", "d2"}
    capsys.readouterr()
    both = ["--run", "a.trec", "--run", "b.trec", "--retriever", "minilm"]
    for wrong, named in ((both[:2], "--run a.trec"), (both, "--retriever")):
        assert main(["search", *wrong, "--output", "g.trec"]) == 1
        assert named in capsys.readouterr().err


def test_a_run_is_reordered_by_scores_that_are_there(runs, capsys):
    """d1 has z-scores 1 and -1, d2 -1 and 1: a tie, which the higher id wins."""
    command = ["rerank", "--run", "a.trec", "--scores", "scores.trec", "--depth", "2", "--output", "r.trec"]
    assert main([*command, "--quiet"]) == 0
    assert [line.split()[2] for line in Path("r.trec").read_text().splitlines()] == ["d2", "d1"]
    capsys.readouterr()
    assert main(["rerank", "--run", "b.trec", "--scores", "scores.trec", "--output", "s.trec"]) == 1
    assert "'d3'" in capsys.readouterr().err
    assert not Path("s.trec").exists()
