"""The commands that a report shows make the same again: queries, triples, weights and runs, byte for byte.

The run is one of tiny models with random weights. Its commands are run in another folder, from the report's own list,
each as a shell reads it. So are those of a run with a budget, whose plan stays as it was frozen.
"""

import json
import shlex
import shutil

import pytest
import small_run

from inpars.cli.main import main
from inpars.io.manifest import manifest_path, read_manifest, sha256_of
from inpars.models.folders import EMBEDDED
from inpars.pipeline import trial
from inpars.pipeline.budget import Rates
from inpars.retrieval.java import find_jar, find_java

SMALL = [*small_run.SMALL, "--training", "always"]
BY_RUN_ALONE = {"metrics.json", "report.json", "report.html", "run.json", "plan.json", "mix.trec"}  # the report says so

pytestmark = pytest.mark.skipif(not (find_jar() and find_java()), reason="needs pyserini with a Java")


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INPARS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def models(tiny, tmp_path):
    return small_run.models(tiny, tmp_path)


@pytest.fixture
def dataset(tmp_path):
    return small_run.dataset(tmp_path / "dataset")


def written(command):
    """Words of a command as the report has it; none of a comment."""
    return shlex.split(command.replace("\\\n", " "), comments=True)


def made(folder):
    """Hash of every output by its place, but of what `inpars run` alone writes."""
    files = {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file()}
    return {
        name.as_posix(): sha256_of(path)
        for name, path in files.items()
        if name.name not in BY_RUN_ALONE
        and not name.name.endswith(".manifest.json")
        and name.parts[0] not in ("topics", "choice")
        and name.name != "README.md"  # cards have the day
    }


def run_and_again(arguments, tmp_path, monkeypatch, capsys):
    """The files of a run, and of its report's commands in another place; the commands themselves."""
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    monkeypatch.chdir(first)
    assert main(["run", *arguments, "--output", "r", "--quiet"]) == 0, capsys.readouterr().err
    whole, *stages = json.loads((first / "r" / "report.json").read_text())["commands"]
    assert written(whole) == ["inpars", "run", *arguments, "--output", "r"]
    monkeypatch.chdir(second)
    capsys.readouterr()
    for command in filter(None, map(written, stages)):
        assert command[0] == "inpars"
        if command[1:4] == ["search", "--run", "r"]:  # whose system is not made again
            shutil.copy(first / "r" / "system.json", second / "r")
        assert main([*command[1:], "--quiet"]) == 0, (command, capsys.readouterr().err)
    return made(first / "r"), made(second / "r"), stages


def test_a_run_of_tiny_models_is_made_again_by_its_stages(models, dataset, tmp_path, monkeypatch, capsys):
    arguments = ["--dataset", str(dataset), "--limit", "3", *models, *SMALL]
    first, second, stages = run_and_again(arguments, tmp_path, monkeypatch, capsys)
    assert second == first
    assert {
        *("queries.synthetic.jsonl", "queries.filtered.jsonl", "triples.tsv", "triples.ids.tsv"),
        *("models/retriever/model.safetensors", "models/reranker/model.safetensors", "models/reranker/config.json"),
        *(f"runs/{name}.trec" for name in ("bm25", "base", "tuned", "whole", "whole-fusion", "fusion-windows")),
        *("runs/mix.reranked.trec", "queries.to_train_on.jsonl"),
    } <= first.keys()
    config = json.loads((tmp_path / "second" / "r" / "models" / "reranker" / "config.json").read_text())
    assert "what is a falcon" in config["inpars"]["prefix"]  # the prompt's examples, not the document alone
    assert read_manifest(tmp_path / "second" / "r" / "triples.tsv").argv[:3] == ["inpars", "triples", "--input"]
    assert read_manifest(tmp_path / "first" / "r" / "triples.tsv").argv[:2] == ["inpars", "run"]
    assert [line for line in stages if line.startswith("#")]


def test_with_examples_of_the_collection_and_an_untrained_reranker(models, dataset, tmp_path, monkeypatch, capsys):
    """Queries that the prompt shows are left out of what is searched; the reranker is shown the chosen examples."""
    examples = tmp_path / "examples.jsonl"
    queries = [json.loads(line) for line in (dataset / "queries.jsonl").read_text().splitlines()]
    rows = [
        {"document": f"about {row['text']}", "query": row["text"], "query_id": row["_id"], "doc_id": f"none{place}"}
        for place, row in enumerate(queries[:3])
    ]
    examples.write_text("".join(json.dumps(row) + "\n" for row in rows))
    shown = ["--examples", str(examples), "--num-examples", "2", "--reranker-epochs", "0"]
    arguments = ["--dataset", str(dataset), *shown, *models, *SMALL]
    first, second, stages = run_and_again(arguments, tmp_path, monkeypatch, capsys)
    assert second == first
    assert any("--leave-out" in command for command in stages)
    asked = {line.split()[0] for line in (tmp_path / "second" / "r" / "runs" / "bm25.trec").read_text().splitlines()}
    assert asked.isdisjoint({row["_id"] for row in queries[:2]})


def test_documents_whose_queries_are_held_out(models, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "papers"
    folder.mkdir()
    for place, name in enumerate(("amber", "beacon", "canyon", "desert", "ember", "falcon")):
        sentences = [f"The {name} is {small_run.text(10 * place + n)}." for n in range(5)]
        (folder / f"{name}.md").write_text(f"# {name}\n\n{' '.join(sentences)}")
    arguments = ["--documents", str(folder), "--max-tokens", "40", "--overlap", "8", "--tokenizer", "words"]
    arguments += ["--dev-share", "0.4", *models, *SMALL, "--max-documents", "20", "--top-k", "20"]
    first, second, stages = run_and_again(arguments, tmp_path, monkeypatch, capsys)
    assert second == first
    assert written(stages[0])[:2] == ["inpars", "ingest"]
    assert {"documents/corpus.jsonl", "queries.dev.jsonl", "queries.train.jsonl", "runs/tuned.trec"} <= first.keys()


BUDGETED = [*SMALL[2:8], "--top-k", "6", "--window-tokens", "24", "--reranker-max-length", "96", "--threads", "1"]


def no_trial(*_):
    raise AssertionError("a frozen plan is measured again")


def test_a_run_with_a_budget_is_made_again_and_gone_on_with_as_planned(models, dataset, tmp_path, monkeypatch, capsys):
    arguments = ["--dataset", str(dataset), "--budget", "1h", *models, *BUDGETED, "--limit", "3", "--rerank-depth", "3"]
    first, second, _ = run_and_again(arguments, tmp_path, monkeypatch, capsys)
    assert second == first
    folder = tmp_path / "first" / "r"
    frozen = json.loads((folder / "plan.json").read_text())
    assert frozen["settings"]["rerank_depth"] == 3  # named
    assert frozen["settings"]["training"] == "never"  # 24 documents are too few
    assert sum(share["seconds"] for share in frozen["shares"]) < 0.9 * 3600
    kept = (folder / "plan.json").read_bytes()
    monkeypatch.setattr(trial, "measure_rates", no_trial)
    monkeypatch.chdir(tmp_path / "first")
    again = ["run", *arguments, "--output", "r"]
    for name in ("queries.filtered.jsonl", "choice/whole.trec", "runs/mix.reranked.trec", "metrics.json"):  # as killed
        manifest_path(folder / name).unlink()
    capsys.readouterr()
    assert main([*again, "--json"]) == 0
    out, err = capsys.readouterr()
    assert {share["part"] for share in json.loads(out)["budget"]["shares"]} >= {"prepare", "rerank", "embed windows"}
    assert "step 1: " in err
    assert made(folder) == first
    assert (folder / "plan.json").read_bytes() == kept
    assert main(["verify", "r", "--sample", "0", "--quiet"]) == 0
    assert main([*again, "--budget", "2h"]) == 1
    assert "--budget was 1h, is 2h" in capsys.readouterr().err


@pytest.mark.skipif(not EMBEDDED["minilm"].installed, reason="needs the embedded bi-encoder")
def test_a_budget_that_cannot_embed_the_documents_leaves_bm25_reranked(models, dataset, tmp_path, monkeypatch, capsys):
    slow = Rates(write=0, embed=1e6, embed_windows=1e6, rerank=0, start_writer=0, start_encoder=0, start_reranker=0)
    monkeypatch.setattr(trial, "measure_rates", lambda *_: (slow, ()))
    unnamed = [*models[: models.index("--retriever")], *models[models.index("--retriever") + 2 :]]
    first, second, _ = run_and_again(
        ["--dataset", str(dataset), "--budget", "1h", *unnamed, *BUDGETED[:-6], "--threads", "1"],
        *(tmp_path, monkeypatch, capsys),
    )
    assert second == first
    assert {"runs/bm25.trec", "runs/bm25.reranked.trec"} <= first.keys()
    monkeypatch.chdir(tmp_path / "first")
    assert list(json.loads((tmp_path / "first/r/metrics.json").read_text())["systems"]) == ["bm25", "bm25 + reranker"]
    assert main(["verify", "r", "--sample", "1", "--quiet"]) == 0
    notes = json.loads((tmp_path / "first/r/plan.json").read_text())["notes"]
    assert ["left out" in note for note in notes] == [True, True]
