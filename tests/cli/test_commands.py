"""The light commands from flags to files: their stdout, stderr and outputs."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

from inpars import __version__
from inpars.cli import main as cli
from inpars.documents.datasets import load_dataset
from inpars.io.formats import read_run, read_synthetic_queries
from inpars.io.manifest import read_manifest
from inpars.io.storage import read_jsonl, write_jsonl
from inpars.io.triples import read_triple_ids
from inpars.retrieval.java import find_jar, find_java

TOY = Path(__file__).parents[1] / "data" / "toy"
BEIR = TOY / "beir"
needs_bm25 = pytest.mark.skipif(
    not (find_java() and find_jar() and importlib.util.find_spec("jnius")),
    reason="pyserini, pyjnius or Java is missing",
)


@pytest.fixture(autouse=True)
def workdir(tmp_path, monkeypatch):
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("INPARS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path / "work"


@pytest.fixture
def run(capsys):
    """Runs a command that must succeed; returns its stdout and stderr."""

    def call(*arguments):
        capsys.readouterr()
        assert cli.main([str(argument) for argument in arguments]) == 0
        return capsys.readouterr()

    return call


def test_doctor(run, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-to-be-seen")
    out, err = run("doctor")
    assert err == ""
    assert out.startswith(f"inpars {__version__}\n\nmachine\n    Python ")
    assert "not-to-be-seen" not in out
    results = json.loads(run("doctor", "--json").out)
    assert results["inpars"] == __version__
    assert {"machine", "compute", "java", "models", "what works here, by extra", "services"} <= {
        finding["topic"] for finding in results["findings"]
    }
    assert all(finding["install"] for finding in results["findings"] if finding["state"] == "missing")


def test_ingest_makes_a_dataset(run, workdir):
    out, err = run("ingest", "--dataset", BEIR, "--output", "made/corpus.jsonl")
    beside = "queries.jsonl, qrels/dev.tsv, qrels/test.tsv"
    assert (out, err) == (f"made/corpus.jsonl: 30 documents; next to it {beside}\n", "")
    assert load_dataset("made").topics() == load_dataset(str(BEIR)).topics()
    out, err = run("ingest", "--dataset", BEIR, "--output", "made/corpus.jsonl")
    assert re.fullmatch(r"ingest: made/corpus\.jsonl .*up to date.*\n", err)
    values = json.loads(run("ingest", "--dataset", BEIR, "--output", "made/corpus.jsonl", "--json", "--quiet").out)
    assert values == {"output": "made/corpus.jsonl", "documents": 30, "files": beside.split(", ")}


def test_ingest_reads_a_folder(run, workdir):
    (workdir / "papers").mkdir()
    (workdir / "papers" / "a.md").write_text("# Bread\n\nMix flour.\n", encoding="utf-8")
    for number in range(7):
        (workdir / "papers" / f"{number}.exe").write_bytes(b"MZ")
    (workdir / "papers" / "renamed.txt").write_bytes(bytes(range(256)) * 9)
    out, _ = run("ingest", "--documents", "papers", "--output", "corpus.jsonl")
    assert out == (
        "corpus.jsonl: 1 documents of 1 files\n"
        "1 not read, not text (binary data): renamed.txt\n"
        "7 files skipped, of no kind that is read: 0.exe, 1.exe, 2.exe, 3.exe, 4.exe and 2 more\n"
    )
    values = json.loads(run("ingest", "--documents", "papers", "--output", "corpus.jsonl", "--json").out)
    assert values["skipped"] == {"of no kind that is read": [f"{n}.exe" for n in range(7)]}
    assert values["unreadable"] == {"not text (binary data)": ["renamed.txt"]}
    assert next(iter(load_dataset("corpus.jsonl").corpus)).full_text == "Bread Mix flour."


def test_filter_reads_every_form_of_the_toolkit(run):
    """Toolkit fault: the published v1 queries (question, doc_text) could not go through its own second version."""
    kept = {}
    for form in ("", ".v1", ".v2"):
        run(
            "filter", "--input", TOY / f"queries.synthetic{form}.jsonl", "--output", f"kept{form}.jsonl", "--top-k", "3"
        )
        kept[form] = [(q.doc_id, q.text) for q in read_synthetic_queries(Path(f"kept{form}.jsonl"))]
    assert kept[""] == kept[".v1"] == kept[".v2"]
    assert len(kept[""]) == 3


def test_filters_are_stacked_and_compared(run, workdir):
    source = TOY / "queries.synthetic.jsonl"
    rows = [record for _, record in read_jsonl(source)]
    write_jsonl(workdir / "s.jsonl", [{"query_id": row["query_id"], "x": n} for n, row in enumerate(rows)])
    common = ("filter", "--input", source, "--scores", "s.jsonl")
    out, _ = run(*common, "--output", "kept.jsonl", "--select", "x:min=1", "--select", "mean_probs:top-k=1")
    assert out.startswith("kept.jsonl: 1 of 6 queries kept (5 dropped: ")
    out, _ = run(*common, "--output", "lab.html", "--compare", "--compare-top-k", "2", "--write-kept", "kept")
    assert out.splitlines()[0].split()[:2] == ["filter", "queries"]
    assert out.splitlines()[-1] == "lab.html: the page"
    assert len(list(read_synthetic_queries(workdir / "kept" / "x.jsonl"))) == 2
    values = json.loads(run(*common, "--output", "lab.html", "--compare", "--compare-top-k", "2", "--json").out)
    assert values["filters"]["x"]["queries"] == 2


def test_filter_knows_the_datasets_own_queries(run, workdir):
    queries = list(load_dataset(str(BEIR)).topics().queries.values())
    row = next(record for _, record in read_jsonl(TOY / "queries.synthetic.jsonl"))
    write_jsonl(workdir / "q.jsonl", [row, {**row, "query_id": "own", "query": queries[0]}])
    out, _ = run("filter", "--input", "q.jsonl", "--dataset", BEIR, "--output", "kept.jsonl")
    assert out.endswith("; 1 are equal or similar to the dataset's queries (--exclude-queries drops them)\n")
    out, _ = run(
        *("filter", "--input", "q.jsonl", "--dataset", BEIR, "--output", "kept.jsonl"),
        *("--exclude-queries", BEIR / "queries.jsonl"),
    )
    assert out.startswith("kept.jsonl: 1 of 2 queries kept (1 dropped: excluded_query 1)")


@needs_bm25
def test_ranks_are_scored_and_chosen_by(run, workdir):
    source = TOY / "queries.synthetic.jsonl"
    out, _ = run("score", "--kind", "bm25-rank", "--input", source, "--dataset", BEIR, "--output", "ranks.jsonl")
    assert out.startswith("ranks.jsonl: 6 queries scored by bm25-rank, ")
    out, _ = run(
        *("filter", "--input", source, "--scores", "ranks.jsonl", "--output", "kept.jsonl"),
        *("--select", "bm25_rank:max=1"),
    )
    assert "queries kept" in out
    ranks = {row["query_id"]: row["bm25_rank"] for _, row in read_jsonl(workdir / "ranks.jsonl")}
    assert all(ranks[query.query_id] == 1 for query in read_synthetic_queries(workdir / "kept.jsonl"))


def test_filter_says_what_it_dropped(run):
    out, err = run("filter", "--input", TOY / "queries.synthetic.jsonl", "--output", "kept.jsonl", "--top-k", "2")
    dropped = read_manifest(Path("kept.jsonl")).dropped
    assert sum(dropped.values()) == 4
    listed = ", ".join(f"{reason} {count}" for reason, count in sorted(dropped.items()))
    assert (out, err) == (f"kept.jsonl: 2 of 6 queries kept (4 dropped: {listed})\n", "")


def test_evaluate(run):
    command = ("evaluate", "--dataset", BEIR, "--run", TOY / "run.trec", "--metrics", "RR@10 P@1")
    out, err = run(*command, "--output", "metrics.json")
    assert err == ""
    assert [line.split()[0] for line in out.splitlines()] == ["system", "run", "8", "note:"]
    values = json.loads(run(*command, "--json").out)
    assert values == json.loads(Path("metrics.json").read_text(encoding="utf-8"))
    means = values["systems"]["run"]["means"]
    judged = values["systems"]["run"]["judged_at_10"]
    shown = [means["RR@10"], means["P@1"], judged]
    assert out.splitlines()[1].split() == ["run", *(f"{value:.4f}" for value in shown)]


def test_evaluate_compares_with_the_first_run(run, workdir):
    judged = load_dataset(str(BEIR)).topics().qrels
    best = [f"{q} Q0 {d} 1 {grade}.0 best" for q, grades in judged.items() for d, grade in grades.items()]
    (workdir / "best.trec").write_text("\n".join(best[:-1]) + "\n", encoding="utf-8")  # q8 is left out
    out, _ = run("evaluate", "--dataset", BEIR, "--run", TOY / "run.trec", "--run", "best.trec", "--metrics", "nDCG@10")
    # all judged documents in the order of their grades, but one of eight queries missing
    assert out.splitlines()[2].split()[:2] == ["best", "0.8750"]
    assert "best: 1 judged query has no result, which counts as 0" in out.splitlines()


@needs_bm25
def test_search_and_triples(run, workdir):
    out, err = run("search", "--dataset", BEIR, "--output", "run.trec", "--k", "5", "--quiet")
    assert err == ""
    results = read_run(Path("run.trec"))
    assert out.startswith(f"run.trec: {sum(map(len, results.values()))} results of 8 queries")
    assert next(iter(results["q1"])) == "d01"  # the only document with bread and dough
    values = json.loads(run("search", "--dataset", BEIR, "--output", "run.trec", "--k", "5", "--json", "--quiet").out)
    assert values["queries"] == 8

    source = TOY / "queries.synthetic.jsonl"
    out, _ = run("triples", "--input", source, "--dataset", BEIR, "--output", "triples.tsv", "--quiet")
    triples = list(read_triple_ids(Path("triples.ids.tsv")))
    assert out.startswith(f"triples.tsv: {len(triples)} triples of 6 queries")
    assert triples
    assert all(triple.positive_doc_id != triple.negative_doc_id for triple in triples)
    again = Path("triples.tsv").read_bytes()
    run("triples", "--input", source, "--dataset", BEIR, "--output", "triples.tsv", "--quiet", "--overwrite")
    assert Path("triples.tsv").read_bytes() == again
