"""The commands with --engine ray: the files of --engine local."""

import json

import pytest
from tiny_models import sentence

from inpars.cli.main import main
from inpars.io.formats import write_documents, write_queries, write_run
from inpars.records import Document, Query

RAY = ["--engine", "ray", "--workers", "2", "--cpus-per-worker", "0.5"]
SAME = ["--dtype", "float32", "--threads", "1", "--quiet"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("commands")
    write_documents(folder / "corpus.jsonl", (Document(f"d{n}", sentence(n, 3 + n % 9)) for n in range(80)))
    write_queries(folder / "queries.jsonl", (Query(f"q{n}", sentence(n, 3)) for n in range(10)))
    write_run(folder / "run.trec", {f"q{q}": {f"d{q + n}": 9.0 - n for n in range(70)} for q in range(10)}, "first")
    return folder


def test_generate_and_score(ray_here, folder, tiny, capsys):
    common = ["--corpus", str(folder / "corpus.jsonl"), "--model", tiny("llama"), *SAME]
    common += ["--prompt", "no-examples", "--max-doc-tokens", "32"]
    capsys.readouterr()  # what was said while the model was made
    for engine, flags in (("local", []), ("ray", RAY)):
        written, scored = str(folder / f"queries.{engine}.jsonl"), str(folder / f"scores.{engine}.jsonl")
        assert main(["generate", *common, "--max-new-tokens", "4", "--no-canary", "--output", written, *flags]) == 0
        local = str(folder / "queries.local.jsonl")
        assert main(["score", *common, "--input", local, "--output", scored, *flags]) == 0
    for name in ("queries", "scores"):
        assert (folder / f"{name}.ray.jsonl").read_bytes() == (folder / f"{name}.local.jsonl").read_bytes()
    manifest = json.loads((folder / "queries.ray.jsonl.manifest.json").read_text())
    assert sum(worker["items"] for worker in manifest["results"]["workers"]) == 80
    assert capsys.readouterr().err == ""


def test_rerank(ray_here, folder, tiny):
    common = ["--corpus", str(folder / "corpus.jsonl"), "--queries", str(folder / "queries.jsonl"), *SAME]
    common += ["--run", str(folder / "run.trec"), "--model", tiny("bert_classifier"), "--depth", "60"]
    for engine, flags in (("local", []), ("ray", RAY)):
        assert main(["rerank", *common, "--output", str(folder / f"{engine}.trec"), *flags]) == 0
    assert (folder / "ray.trec").read_bytes() == (folder / "local.trec").read_bytes()


def test_other_scores_are_not_done_by_workers(folder, capsys):
    flags = ["--input", str(folder / "corpus.jsonl"), "--output", str(folder / "x.jsonl"), *RAY]
    assert main(["score", "--kind", "bm25-rank", *flags]) == 1
    assert "--kind bm25-rank does not" in capsys.readouterr().err
