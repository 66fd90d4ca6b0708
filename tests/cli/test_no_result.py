"""Runs that have nothing in common with the judgements: a message comes first, and the exit code is 1."""

import json
from pathlib import Path

import pytest

from inpars import evaluate as toolkit
from inpars.cli.main import main
from inpars.documents.datasets import Dataset
from inpars.errors import ConfigError
from inpars.evaluation.measures import Evaluation
from inpars.io.corpus import Corpus
from inpars.io.topics import Topics
from inpars.pipeline import run as pipeline
from inpars.pipeline.measurement import judge
from inpars.pipeline.options import PipelineOptions
from inpars.pipeline.run import PipelineResult, run_pipeline
from inpars.progress import SILENT
from inpars.prompts.load import load_prompt

TOY = Path(__file__).parents[1] / "data" / "toy"
QRELS = TOY / "qrels.trec"
RUNS = {
    "other": "101 Q0 d01 1 2.0 t\n",  # none of the judged queries
    "unknown": "q1 Q0 D-01 1 2.0 t\n",  # none of the judged documents
    "empty": "\n",
}


@pytest.fixture
def runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, text in RUNS.items():
        Path(f"{name}.trec").write_text(text, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("name", RUNS)
def test_a_run_that_has_nothing_to_do_with_the_judgements(runs, capsys, name):
    flags = ["--run", f"{name}.trec", "--qrels", str(QRELS)]
    assert main(["evaluate", *flags, "--output", "out.json", "--report", "page.html"]) == 1
    out, err = capsys.readouterr()
    assert out.startswith("not a result: ")
    assert name in out.splitlines()[0]
    assert err == f"inpars: {out.splitlines()[0].removeprefix('not a result: ')}\n"
    assert main(["evaluate", *flags, "--json"]) == 1
    (problem,) = json.loads(capsys.readouterr().out)["problems"]
    assert json.loads(Path("out.json").read_text())["problems"] == [problem]
    assert problem[1:20] in Path("page.html").read_text()


def test_one_such_run_of_two_is_named(runs, capsys):
    flags = ["--run", str(TOY / "run.trec"), "--run", "unknown.trec", "--qrels", str(QRELS)]
    assert main(["evaluate", *flags]) == 1
    assert "unknown" in capsys.readouterr().err


def test_leaving_unjudged_documents_out_is_no_way_around(runs):
    assert main(["evaluate", "--run", "unknown.trec", "--qrels", str(QRELS), "--judged-only"]) == 1


@pytest.mark.parametrize("name", RUNS)
def test_the_toolkits_command_says_it_too(runs, capsys, name):
    assert toolkit.main(["--run", f"{name}.trec", "--qrels", str(QRELS)]) == 1
    assert name in capsys.readouterr().err.splitlines()[-1]


TOPICS = Topics("test", {"q1": "what is it"}, {"q1": {"d01": 1}})


def test_a_whole_run_knows_systems_without_result(runs):
    paths = {"bm25": Path("unknown.trec"), "dense": TOY / "run.trec"}
    judged = judge(runs / "made", TOPICS, paths, ["RR@10"], progress=SILENT)
    assert ["bm25" in problem for problem in judged.problems] == [True]


@pytest.mark.parametrize(("broken", "code"), [(("bm25",), 0), (("bm25", "dense"), 1)])
def test_a_whole_run_without_any_result_exits_1(runs, monkeypatch, capsys, broken, code):
    results = {name: Evaluation({"RR@10": 0.0}, {"RR@10": {"q1": 0.0}}, 1, 0) for name in ("bm25", "dense")}
    problems = [f"{name} has no results" for name in broken]
    finished = PipelineResult(results, {"RR@10": {}}, Path("report.html"), problems=problems)
    monkeypatch.setattr("inpars.cli.whole_run.run_pipeline", lambda *_, **__: finished)
    monkeypatch.setattr("inpars.cli.whole_run.table", lambda *_: "the table")
    flags = ["--corpus", str(TOY / "corpus.tsv"), "--metrics", "RR@10", "--output", "made", "--quiet"]
    assert main(["run", *flags, "--prompt", "inpars"]) == code
    out, err = capsys.readouterr()
    assert out.startswith("not a result: bm25 has no results\n")
    assert ("dense has no results" in err) == (code == 1)


def test_judgements_of_other_documents_stop_a_whole_run_before_its_work(runs, monkeypatch):
    monkeypatch.setattr(pipeline, "_generate", None)  # whoever begins fails
    strange = Topics("test", {"q1": "what"}, {"q1": {"x1": 1, "x2": 0}})
    dataset = Dataset("toy", Corpus(TOY / "corpus.tsv"), {"test": lambda: strange})
    with pytest.raises(ConfigError, match=r"none of the 2 judged documents .*'x1'"):
        run_pipeline(dataset, load_prompt("inpars"), PipelineOptions(), output=runs / "made")
    assert not (runs / "made").exists()


def test_unknown_documents_stop_a_whole_run_before_its_prompt_is_tried(runs, monkeypatch, capsys):
    monkeypatch.setattr("inpars.cli.whole_run.PromptTrials", None)  # whoever tries a prompt fails
    (runs / "qrels.txt").write_text("q1 0 d01 1\nq1 0 d99 1\n")
    (runs / "queries.tsv").write_text("q1\twhat is it\n")
    arguments = ["--corpus", str(TOY / "corpus.tsv"), "--queries", "queries.tsv", "--qrels", "qrels.txt"]
    assert main(["run", *arguments, "--output", "made", "--quiet"]) == 1
    assert "'d99' first" in capsys.readouterr().err
