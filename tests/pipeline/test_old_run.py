"""A run's folder of an older version (tests/data/old_run, its README says which): read, verified, gone on with."""

import json
import shutil
from pathlib import Path

import pytest

from inpars.cli import main as cli
from inpars.io.formats import read_run, read_synthetic_queries
from inpars.io.manifest import read_manifest
from inpars.io.triples import read_triple_ids
from inpars.retrieval.java import find_jar, find_java

DATA = Path(__file__).parents[1] / "data"
PLAIN = ["--device", "cpu", "--dtype", "float32", "--threads", "1"]
SMALL = ["--max-doc-tokens", "40", "--max-new-tokens", "12"]
RUN = [
    *("run", "--dataset", "toy", "--model", "models/words", "--retriever", "models/encoder", *SMALL, *PLAIN),
    *("--reranker", "models/classifier", "--prompt", "form.txt", "--max-documents", "24", "--positive-within", "30"),
    *("--rerank-depth", "3", "--limit", "4", "--k", "10", "--window-tokens", "0", "--reranker-max-length", "96"),
    *("--output", "run"),
]
GENERATE = ["generate", "--corpus", "many.jsonl", "--model", "models/words", "--prompt", "form.txt", *SMALL, *PLAIN]
needs_java = pytest.mark.skipif(not (find_java() and find_jar()), reason="pyserini, pyjnius or Java is missing")


@pytest.fixture
def old(tmp_path, monkeypatch):
    """The folder that it was made in, and the run's folder there."""
    shutil.copytree(DATA / "old_run", tmp_path / "work")
    shutil.copytree(DATA / "toy" / "beir", tmp_path / "work" / "toy")
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("INPARS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "work" / "run"


def moments(folder):
    """Outputs that have manifests, and when these were written."""
    suffix = ".manifest.json"
    found = {path: path.stat().st_mtime_ns for path in folder.rglob(f"*{suffix}")}
    return {path.relative_to(folder).as_posix().removesuffix(suffix): moment for path, moment in found.items()}


def means(metrics):
    systems = json.loads(metrics.read_text(encoding="utf-8"))["systems"]
    return {name: system["means"] for name, system in systems.items()}


def test_its_files_are_read(old):
    queries = list(read_synthetic_queries(old / "queries.synthetic.jsonl"))
    assert len(queries) == 24
    assert all(len(query.token_log_probs) > 0 or not query.text for query in queries)
    assert {query.log_prob_kind for query in queries} == {"raw"}
    assert len(list(read_synthetic_queries(old / "queries.filtered.jsonl"))) == 11
    (triple,) = read_triple_ids(old / "triples.ids.tsv")
    assert {triple.positive_doc_id, triple.negative_doc_id} <= set(read_run(old / "negatives.trec")[triple.query_id])
    stages = {name: read_manifest(old / name).stage for name in moments(old)}
    assert stages["models/reranker"] == "train reranker"
    assert {"generate", "filter", "triples", "train retriever", "search", "rerank", "evaluate"} <= {*stages.values()}


def test_it_is_verified_without_models(old, capsys):
    assert cli.main(["verify", "run", "--sample", "0", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["problems"] == []
    assert sum(found["checked"].values()) > 20


@needs_java
def test_it_is_verified_with_its_scores(old, capsys):
    assert cli.main(["verify", "run", *PLAIN, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["problems"] == []


def test_a_change_of_it_is_found(old, capsys):
    run = old / "runs" / "tuned.trec"
    run.write_text(run.read_text().replace("Q0", "q0", 1))
    assert cli.main(["verify", "run", "--sample", "0", "--json"]) == 1
    assert "runs/tuned.trec" in json.loads(capsys.readouterr().out)["problems"][0]


def test_its_results_are_not_replaced_unasked(old, capsys):
    """They are of other systems than those of this version, whether or not something is trained."""
    before = moments(old)
    assert len(before) == 18
    for training in ("always", "auto"):
        assert cli.main([*RUN, "--training", training]) == 1
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert f"--training was not given, is {training}" in error
    assert moments(old) == before


@needs_java
def test_gone_on_with_it_keeps_what_is_made_as_before(old, capsys):
    """Queries and BM25's run stay; the fusions and reranked runs that are no systems any more are removed."""
    before, means_before = moments(old), means(old / "metrics.json")
    assert cli.main([*RUN, "--training", "always", "--overwrite", "--quiet"]) == 0
    kept = {name for name, moment in moments(old).items() if before.get(name) == moment}
    assert kept >= {"queries.synthetic.jsonl", "queries.filtered.jsonl", "topics", "runs/bm25.trec"}
    assert {*before} - {*moments(old)} >= {"runs/pool.trec", "runs/bm25.reranked.trec", "runs/tuned-fusion.trec"}
    means_now = means(old / "metrics.json")
    assert means_now["bm25"] == means_before["bm25"]
    assert means_now.keys() >= {"mix", "mix + reranker"}
    assert (old / "report.html").exists()
    assert cli.main(["verify", "run", "--sample", "0", "--json"]) == 0
    capsys.readouterr()
    assert cli.main([*RUN, "--training", "always"]) == 0
    done, of, total, *_ = capsys.readouterr().err.splitlines()[-1].split()
    assert (done, of) == (total, "of")


def test_a_generation_that_it_began_is_ended(old, capsys):
    """The lines that were whole stay as they are; on any processor the others have the same words."""
    whole, partial = Path("whole.jsonl"), Path("interrupted.jsonl.partial")
    _, *begun = partial.read_text(encoding="utf-8").partition('{"whole_chunk_of"')[0].splitlines()
    assert cli.main([*GENERATE, "--batch-size", "4", "--output", "interrupted.jsonl"]) == 0
    lines = Path("interrupted.jsonl").read_text(encoding="utf-8").splitlines()
    queries, expected = (list(read_synthetic_queries(path)) for path in (Path("interrupted.jsonl"), whole))
    assert [(query.query_id, query.text) for query in queries] == [(query.query_id, query.text) for query in expected]
    assert len(begun) == 32
    assert {*begun} <= {*lines}
    assert "32 of 40" in capsys.readouterr().err
    assert not partial.exists()
