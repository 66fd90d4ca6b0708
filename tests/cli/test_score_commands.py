"""`inpars score --kind ...` with tiny models, each followed by a filter that chooses by what was scored."""

import json
from pathlib import Path

import pytest
import tiny_models

from inpars.cli import main as cli

TOY = Path(__file__).parents[1] / "data" / "toy"
SOURCE = TOY / "queries.synthetic.jsonl"


@pytest.fixture(autouse=True)
def workdir(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INPARS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path


@pytest.fixture
def run(capsys):
    def call(*arguments):
        capsys.readouterr()
        assert cli.main([str(argument) for argument in arguments]) == 0
        return capsys.readouterr().out

    return call


MODELS = {
    "reranker": tiny_models.bert_classifier,
    "dense-rank": tiny_models.sentence_transformer,
    "answerability": tiny_models.bert_reader,
    "cluster": tiny_models.sentence_transformer,
}


@pytest.mark.parametrize("kind", MODELS)
def test_every_kind_is_scored_and_filtered_by(run, workdir, kind):
    model = MODELS[kind](workdir / "model")
    common = ("--input", SOURCE, "--model", model, "--dataset", TOY / "beir", "--device", "cpu", "--dtype", "float32")
    out = run("score", "--kind", kind, *common, "--output", "s.jsonl")
    assert out.startswith("s.jsonl: 6 queries scored by ")
    name = kind.replace("-", "_")
    rows = [json.loads(line) for line in Path("s.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len({row["query_id"] for row in rows}) == 6
    assert all(isinstance(row[name], int | float) for row in rows)
    out = run(
        *("filter", "--input", SOURCE, "--scores", "s.jsonl", "--output", "kept.jsonl", "--no-drop-unstopped"),
        *("--min-tokens", "1", "--no-drop-copied", "--no-drop-duplicates", "--select", f"{name}:top-k=2"),
    )
    kept = [json.loads(line)["query_id"] for line in Path("kept.jsonl").read_text(encoding="utf-8").splitlines()]
    order = sorted(rows, key=lambda row: (row[name] if kind == "dense-rank" else -row[name], row["query_id"]))
    assert kept == [row["query_id"] for row in order[:2]]
    assert out.startswith("kept.jsonl: 2 of 6 queries kept (4 dropped: ")
