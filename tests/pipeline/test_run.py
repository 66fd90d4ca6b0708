"""The whole pipeline by the command line, on the toy collection, with the embedded models."""

import json
from pathlib import Path

import pytest

from inpars.cli import main
from inpars.formats import read_run, read_synthetic_queries
from inpars.models.embedded import EMBEDDED, EmbeddedModel
from inpars.retrieval.java import find_jar, find_java

TOY = Path(__file__).parent.parent / "data" / "toy" / "beir"
SMALL = [
    *("--max-documents", "8", "--max-doc-tokens", "48", "--max-new-tokens", "16", "--positive-within", "30"),
    *("--rerank-depth", "2", "--limit", "3", "--k", "10", "--quiet"),
]
SYSTEMS = [
    *("bm25", "minilm", "fusion", "tuned", "tuned fusion"),
    *("bm25 + reranker", "fusion + reranker", "tuned fusion + reranker"),
]

pytestmark = pytest.mark.skipif(
    not (EMBEDDED["smollm2-135m"].installed and EMBEDDED["minilm"].installed and find_jar() and find_java()),
    reason="needs the embedded models and pyserini with a Java (inpars doctor says how to install them)",
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """One cache for all runs of this module, so that the language model is converted once."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("INPARS_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def finished(cache, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "toy"
    assert main(["run", "--dataset", str(TOY), "--output", str(folder), *SMALL]) == 0
    return folder


def changed_after(folder: Path, moment: float) -> set[str]:
    """Names of the outputs whose manifest was written after a moment."""
    suffix = ".manifest.json"
    return {path.name.removesuffix(suffix) for path in folder.rglob(f"*{suffix}") if path.stat().st_mtime_ns > moment}


def now(folder: Path) -> int:
    mark = folder / "mark"
    mark.write_text("")
    return mark.stat().st_mtime_ns


def test_a_finished_run_is_told_in_one_line(finished, cache, capsys):
    loud = [flag for flag in SMALL if flag != "--quiet"]
    assert main(["run", "--dataset", str(TOY), "--output", str(finished), *loud]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("step 1 of 9: reading documents")
    assert lines[-1].endswith(" of 21 stages up to date")
    assert not any(line.endswith("is up to date, skipped") for line in lines)


def test_a_run_leaves_every_file_of_every_stage(finished):
    queries = list(read_synthetic_queries(finished / "queries.synthetic.jsonl"))
    assert len(queries) == 8
    assert all(query.token_log_probs for query in queries if query.text)
    for name in ("queries.filtered.jsonl", "triples.tsv", "triples.ids.tsv", "negatives.trec", "report.html"):
        assert (finished / name).stat().st_size > 0, name
    assert (finished / "models" / "retriever" / "model.safetensors").exists()
    assert (finished / "models" / "reranker" / "model.safetensors").exists()
    metrics = json.loads((finished / "metrics.json").read_text())
    assert list(metrics["systems"]) == SYSTEMS
    value = metrics["systems"]["tuned fusion"]["means"]["nDCG@10"]
    for name in ("retriever", "reranker"):
        card = (finished / "models" / name / "README.md").read_text()
        assert f"| tuned fusion | nDCG@10 | {value:.4f} |" in card
        assert "No run with this model was evaluated" not in card
    assert all(0 <= system["means"]["nDCG@10"] <= 1 for system in metrics["systems"].values())


def test_the_report_is_one_file_that_shows_table_histogram_and_curves(finished):
    page = (finished / "report.html").read_text()
    assert page.count("<svg") >= 1
    assert "http" not in page.replace("http-equiv", "")
    assert "tuned fusion + reranker against fusion, nDCG@10: " in page
    for part in [*SYSTEMS, "Kept, from the best down", "Settings", "nDCG@10", "inpars run --dataset", "inpars rerank"]:
        assert part in page, part
    values = json.loads((finished / "report.json").read_text())
    assert [system["name"] for system in values["results"]["systems"]] == SYSTEMS
    assert {stage["output"] for stage in values["stages"]} >= {"queries.synthetic.jsonl", "runs/bm25.trec", "topics"}


def test_reranking_moves_only_the_top(finished):
    before, after = read_run(finished / "runs" / "bm25.trec"), read_run(finished / "runs" / "bm25.reranked.trec")
    for query_id, scores in after.items():
        assert list(scores)[2:] == list(before[query_id])[2:]
        assert set(scores) == set(before[query_id])


def test_the_same_command_again_redoes_nothing(finished, cache):
    moment = now(finished)
    assert main(["run", "--dataset", str(TOY), "--output", str(finished), *SMALL]) == 0
    assert changed_after(finished, moment) == set()


def test_a_model_that_is_not_installed_stops_before_the_work(cache, tmp_path, monkeypatch, capsys):
    missing = EmbeddedModel("absent", (("no_such_package", "weights"),), "pip install it", "to rerank", "MIT")
    monkeypatch.setitem(EMBEDDED, "absent", missing)
    output = tmp_path / "run"
    assert main(["run", "--dataset", str(TOY), "--output", str(output), "--reranker", "absent"]) == 1
    assert "pip install it" in capsys.readouterr().err
    assert not output.exists()


def test_another_dataset_is_kept_out_of_the_folder(finished, cache, tmp_path, capsys):
    corpus = tmp_path / "other.jsonl"
    corpus.write_text('{"_id": "a", "text": "something else"}\n')
    assert main(["run", "--corpus", str(corpus), "--output", str(finished), *SMALL]) == 1
    error = capsys.readouterr().err
    assert error.startswith("inpars: ")
    assert "run of another dataset" in error
    assert error.count("\n") == 1


def test_another_prompt_is_asked_for_and_redoes_only_what_depends_on_it(finished, cache, capsys):
    moment = now(finished)
    prompt = Path(__file__).parents[2] / "prompts" / "questions-technical.yaml"
    command = ["run", "--dataset", str(TOY), "--output", str(finished), "--prompt", str(prompt), *SMALL]
    assert main(command) == 1
    error = capsys.readouterr().err
    assert "--prompt was inpars " in error
    assert error.count("\n") == 1
    assert changed_after(finished, moment) == set()
    assert main([*command, "--overwrite"]) == 0
    redone = changed_after(finished, moment)
    assert {"queries.synthetic.jsonl", "queries.filtered.jsonl", "triples.tsv", "retriever", "reranker"} <= redone
    assert redone.isdisjoint({"bm25.trec", "base.trec", "fusion.trec"})
