"""`inpars search-prompts`: candidates of a prompt, a small run for each, and the winner as a file."""

import json

import pytest
import small_run

from inpars.cli.main import main
from inpars.evaluation.measures import Evaluation
from inpars.pipeline.prompt_search import best_of, candidates_of, write_prompt
from inpars.prompts.load import load_prompt, prompt_names
from inpars.prompts.templates import Example, Prompt
from inpars.retrieval.java import find_jar, find_java

BASE = Prompt("base", "{document} Q: {query}", tuple(Example(f"text {n}", f"ask {n}") for n in range(3)))


@pytest.mark.parametrize("name", prompt_names())
def test_a_written_prompt_reads_as_it_was(tmp_path, name):
    prompt = load_prompt(name)
    write_prompt(tmp_path / "prompt.yaml", prompt)
    assert load_prompt(str(tmp_path / "prompt.yaml")).text == prompt.text


def test_candidates():
    other, bare = Prompt("other", "D {document} W {query}", (Example("a", "b"),)), Prompt("bare", "{document}\nAsk:")
    found = {one.name: [example.query for example in one.examples] for one in candidates_of(BASE, [other, bare])}
    assert found == {
        "base": ["ask 0", "ask 1", "ask 2"],
        "other": ["b"],
        "bare": [],
        "other-by-base": ["ask 0", "ask 1", "ask 2"],  # `bare` cannot show any
        "base-reversed": ["ask 2", "ask 1", "ask 0"],
        "base-without-1": ["ask 1", "ask 2"],
        "base-without-2": ["ask 0", "ask 2"],
        "base-without-3": ["ask 0", "ask 1"],
    }


def of(*values):
    per_query = {f"q{n}": value for n, value in enumerate(values)}
    return Evaluation({"M": sum(values) / len(values)}, {"M": per_query}, len(values), 0, None)


@pytest.mark.parametrize(
    ("others", "best"),
    [
        ({"a": of(0.9, 0.0, 0.4)}, "base"),  # gains .4, -.5, 0: a mean below 0
        ({"a": of(0.6, 0.4, 0.5)}, "base"),  # gains .1, -.1, .1: mean .033, standard error .067
        ({"a": of(0.6, 0.6, 0.5)}, "a"),  # each gains .1, with no error
        ({"a": of(0.6, 0.6, 0.5), "b": of(0.7, 0.7, 0.6)}, "b"),
    ],
)
def test_the_first_stays_unless_another_gains_more_than_a_standard_error(others, best):
    assert best_of({"base": of(0.5, 0.5, 0.4), **others}, "M") == best


@pytest.fixture
def command(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("INPARS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    small_run.dataset(tmp_path / "data")
    small = [*small_run.models(tiny, tmp_path), *small_run.SMALL, "--rerank-depth", "0", "--training", "never"]
    return ["search-prompts", *small, "--output", "found"]


needs_java = pytest.mark.skipif(not (find_jar() and find_java()), reason="needs pyserini with a Java")


@needs_java
def test_candidates_are_measured_on_judged_queries(tmp_path, command, capsys):
    prompt = tmp_path / "two examples.yaml"
    prompt.write_text(prompt.read_text().replace("query: when", "query_id: q0\n    query: when"))
    asked = [*command, "--dataset", "data", "--candidates", "3", "--json"]
    assert main(asked) == 0
    values = json.loads(capsys.readouterr().out)
    names = ["two examples", "two examples-reversed", "two examples-without-1"]
    assert list(values["systems"]) == list(values["seconds"]) == names
    assert "5 test queries" in values["evidence"], "the first two show q0, so that the third is not measured by it"
    winner = load_prompt("found/winner.yaml")
    assert winner.name == values["winner"]
    for name, found in values["systems"].items():
        measured = json.loads((tmp_path / "found" / "runs" / name / "metrics.json").read_text())
        assert measured["systems"]["mix"]["means"] == found["means"]
    before = (tmp_path / "found" / "winner.yaml").read_bytes()
    assert main(asked) == 0
    out, err = capsys.readouterr()
    assert err.count("stages up to date") == 3
    assert json.loads(out) == values
    assert (tmp_path / "found" / "winner.yaml").read_bytes() == before
    assert main(["verify", "found/runs/two examples", "--sample", "1", "--quiet"]) == 0
    capsys.readouterr()
    assert main([*asked, "--limit", "2", "--overwrite"]) == 0
    assert "2 test queries" in json.loads(capsys.readouterr().out)["evidence"]
    assert main([*asked, "--metric", "AP RR@10"]) == 1
    assert "--metric" in capsys.readouterr().err


def test_without_judgements_only_looks_are_compared(tmp_path, command, capsys):
    assert main([*command, "--corpus", "data/corpus.jsonl", "--candidates", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "no measure of search" in lines[0]
    assert [line.partition(":")[0] for line in lines[1:3]] == ["two examples", "two examples-reversed"]
    assert load_prompt("found/winner.yaml").name == lines[-2].removeprefix("winner: ")
