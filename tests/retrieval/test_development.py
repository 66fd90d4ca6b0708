"""Given dev queries get BM25 candidates; the command validates with them and pushes its model."""

import importlib.util
import json
from pathlib import Path

import huggingface_hub
import pytest

from inpars.cli import main as cli
from inpars.retrieval.java import find_jar, find_java

TOY = Path(__file__).parents[1] / "data" / "toy"
needs_bm25 = pytest.mark.skipif(
    not (find_java() and find_jar() and importlib.util.find_spec("jnius")),
    reason="pyserini, pyjnius or Java is missing",
)


class FakeHub:
    def create_repo(self, name, **_):
        return huggingface_hub.RepoUrl(f"https://hub.invalid/me/{name}", endpoint="https://hub.invalid")

    def upload_folder(self, **_):
        pass


@needs_bm25
@pytest.mark.parametrize(("what", "model"), [("reranker", "bert_classifier"), ("retriever", "sentence_transformer")])
def test_the_command_validates_by_given_queries_and_pushes(tiny, tmp_path, capsys, monkeypatch, what, model):
    monkeypatch.setattr(huggingface_hub, "HfApi", FakeHub)
    triples = tmp_path / "triples.tsv"
    triples.write_text("".join(f"amber {n}\triver lake {n}\tanchor {n}\n" for n in range(8)), encoding="utf-8")
    given = ["--triples", str(triples), "--output", str(tmp_path / "model"), "--model", tiny(model)]
    dev = ["--dev-queries", str(TOY / "queries.tsv"), "--dev-qrels", str(TOY / "qrels.trec")]
    more = ["--corpus", str(TOY / "corpus.tsv"), "--validate-every", "1", "--max-steps", "2", "--batch-size", "4"]
    where = ["--device", "cpu", "--dtype", "float32", "--dev-depth", "3", "--push-to-hub", "tuned", "--json"]
    assert cli.main(["train", what, *given, *dev, *more, *where]) == 0, capsys.readouterr().err
    result = json.loads(capsys.readouterr().out)
    assert [step for step, _ in result["validation"]] == [0, 1, 2]
    assert 0 < max(value for _, value in result["validation"]) <= 1
    assert result["hub"] == "https://hub.invalid/me/tuned"
    manifest = json.loads((tmp_path / "model.manifest.json").read_text())
    assert manifest["inputs"].keys() == {"triples", "model", "dev queries", "dev qrels", "dev corpus"}
    assert "given dev queries" in (tmp_path / "model" / "README.md").read_text()
