"""The whole pipeline by workers: the files of one process, and a report that says what each worker did."""

from pathlib import Path

import pytest

from inpars.cli.main import main
from inpars.models.folders import EMBEDDED
from inpars.retrieval.java import find_jar, find_java

TOY = Path(__file__).parent.parent / "data" / "toy" / "beir"
SMALL = [
    *("--max-documents", "8", "--max-doc-tokens", "48", "--max-new-tokens", "16", "--positive-within", "30"),
    *("--rerank-depth", "2", "--limit", "3", "--k", "10", "--reranker-epochs", "0", "--quiet"),
    *("--dtype", "float32", "--threads", "1"),
]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (EMBEDDED["smollm2-135m"].installed and EMBEDDED["minilm"].installed and find_jar() and find_java()),
        reason="needs the embedded models and pyserini with a Java (inpars doctor says how to install them)",
    ),
]


def test_a_whole_run_by_workers_is_that_of_one_process(ray_here, tmp_path, monkeypatch):
    monkeypatch.setenv("INPARS_CACHE", str(tmp_path / "cache"))
    workers = ["--engine", "ray", "--workers", "2", "--cpus-per-worker", "0.5"]
    for name, engine in (("local", []), ("ray", workers)):
        assert main(["run", "--dataset", str(TOY), "--output", str(tmp_path / name), *SMALL, *engine]) == 0
    made = [path.relative_to(tmp_path / "local") for path in (tmp_path / "local").rglob("*.trec")]
    assert len(made) >= 8
    for path in [Path("queries.synthetic.jsonl"), Path("triples.tsv"), *made]:
        assert (tmp_path / "ray" / path).read_bytes() == (tmp_path / "local" / path).read_bytes(), path
    assert "Throughput of the workers" in (tmp_path / "ray" / "report.html").read_text()
    assert "Throughput of the workers" not in (tmp_path / "local" / "report.html").read_text()
