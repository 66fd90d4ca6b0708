"""The whole pipeline by the command line, on the toy collection, with the embedded models."""

import json
import shutil
from pathlib import Path

import pytest

from inpars.cli import main
from inpars.formats import read_queries, read_run, read_synthetic_queries
from inpars.fusion.gate import PRIOR
from inpars.fusion.system import read_system
from inpars.models.embedded import EMBEDDED, EmbeddedModel
from inpars.retrieval.java import find_jar, find_java

TOY = Path(__file__).parent.parent / "data" / "toy" / "beir"
SMALL = [
    *("--max-documents", "8", "--max-doc-tokens", "48", "--max-new-tokens", "16", "--positive-within", "30"),
    *("--rerank-depth", "2", "--limit", "3", "--k", "100", "--quiet"),
]
TRAINED = [*SMALL, "--training", "always"]
SYSTEMS = ["bm25", "minilm", "fusion", "tuned", "mix", "mix + reranker"]

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
    assert main(["run", "--dataset", str(TOY), "--output", str(folder), *TRAINED]) == 0
    return folder


@pytest.fixture
def copied(finished, tmp_path):
    """The finished run in another place, for what would change it."""
    return Path(shutil.copytree(finished, tmp_path / "toy"))


def changed_after(folder: Path, moment: float) -> set[str]:
    """Names of the outputs whose manifest was written after a moment."""
    suffix = ".manifest.json"
    return {path.name.removesuffix(suffix) for path in folder.rglob(f"*{suffix}") if path.stat().st_mtime_ns > moment}


def is_newer(path: Path, moment: float) -> bool:
    manifest = path.with_name(f"{path.name}.manifest.json")
    return manifest.exists() and manifest.stat().st_mtime_ns > moment


def contents(folder: Path) -> dict[str, bytes]:
    """All files but the report, which is written once more."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.stem != "report"]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def now(folder: Path) -> int:
    mark = folder / "mark"
    mark.write_text("")
    return mark.stat().st_mtime_ns


def test_a_finished_run_is_told_in_one_line(finished, cache, capsys):
    loud = [flag for flag in TRAINED if flag != "--quiet"]
    before = contents(finished)
    assert main(["run", "--dataset", str(TOY), "--output", str(finished), *loud]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("step 1 of 10: reading documents")
    assert lines[-1] == "23 of 23 stages up to date"
    assert contents(finished) == before
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
    value = metrics["systems"]["mix"]["means"]["nDCG@10"]
    for name in ("retriever", "reranker"):
        card = (finished / "models" / name / "README.md").read_text()
        assert f"| mix | nDCG@10 | {value:.4f} |" in card
        assert "No run with this model was evaluated" not in card
    assert all(0 <= system["means"]["nDCG@10"] <= 1 for system in metrics["systems"].values())


def test_the_report_is_one_file_that_shows_table_histogram_and_curves(finished):
    page = (finished / "report.html").read_text()
    assert page.count("<svg") >= 1
    assert "http" not in page.replace("http-equiv", "")
    for part in [
        *SYSTEMS,
        "Kept, from the best down",
        "Settings",
        "nDCG@10",
        "inpars run --dataset",
        "inpars search --run",
    ]:
        assert part in page, part
    values = json.loads((finished / "report.json").read_text())
    assert [system["name"] for system in values["results"]["systems"]] == SYSTEMS
    conclusion, mix = values["conclusion"], values["mix"]
    assert conclusion["system"] == "mix + reranker"
    assert [gain["against"] for gain in conclusion["gains"]] == ["bm25", "minilm", "fusion"]
    assert conclusion["value"] == values["results"]["systems"][-1]["means"]["nDCG@10"]
    assert conclusion["reranker"]["against"] == "mix"
    assert conclusion["seconds_per_query"] > conclusion["seconds_without_reranker"] > 0
    assert set(conclusion["weight_bytes"]) == {"minilm", "retriever", "reranker"}
    assert any(f"inpars serve --run {finished}" in line for line in conclusion["commands"])
    assert len(mix["shares"]["ys"]) == 21
    assert len(mix["offsets"]["ys"]) == 25
    assert {stage["output"] for stage in values["stages"]} >= {"queries.synthetic.jsonl", "runs/bm25.trec", "topics"}


def test_reranking_moves_only_the_top(finished):
    before, after = read_run(finished / "runs" / "mix.trec"), read_run(finished / "runs" / "mix.reranked.trec")
    for query_id, scores in after.items():
        assert list(scores)[2:] == list(before[query_id])[2:]
        assert set(scores) == set(before[query_id])


def test_the_same_command_again_redoes_nothing(finished, cache):
    moment = now(finished)
    assert main(["run", "--dataset", str(TOY), "--output", str(finished), *TRAINED]) == 0
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
    assert main(["run", "--corpus", str(corpus), "--output", str(finished), *TRAINED]) == 1
    error = capsys.readouterr().err
    assert error.startswith("inpars: ")
    assert "run of another dataset" in error
    assert error.count("\n") == 1


def test_another_prompt_is_asked_for_and_redoes_only_what_depends_on_it(finished, cache, capsys):
    moment = now(finished)
    prompt = Path(__file__).parents[2] / "prompts" / "questions-technical.yaml"
    command = ["run", "--dataset", str(TOY), "--output", str(finished), "--prompt", str(prompt), *TRAINED]
    assert main(command) == 1
    error = capsys.readouterr().err
    assert "--prompt was inpars " in error
    assert error.count("\n") == 1
    assert changed_after(finished, moment) == set()
    assert main([*command, "--overwrite"]) == 0
    redone = changed_after(finished, moment)
    assert {"queries.synthetic.jsonl", "queries.filtered.jsonl", "triples.tsv", "retriever", "reranker"} <= redone
    searched = {path.relative_to(finished).as_posix() for path in finished.rglob("*.trec") if is_newer(path, moment)}
    assert {f"choice/{name}.trec" for name in ("bm25", "base", "whole", "tuned")} <= searched
    assert searched.isdisjoint({f"runs/{name}.trec" for name in ("bm25", "base", "whole", "fusion")})


def test_a_search_with_the_folder_gives_the_last_run_of_it(finished, cache, tmp_path):
    found, expected = tmp_path / "found.trec", finished / "runs" / "mix.reranked.trec"
    queries = ["--queries", str(finished / "topics" / "queries.jsonl")]
    assert main(["search", "--run", str(finished), *queries, "--k", "100", "--output", str(found), "--quiet"]) == 0
    assert found.read_bytes() == expected.read_bytes()
    everything = ["search", "--run", str(finished), *queries, "--output", str(tmp_path / "all.trec"), "--quiet"]
    assert main(everything) == 0
    orders = {query_id: list(scores)[:100] for query_id, scores in read_run(tmp_path / "all.trec").items()}
    assert orders == {query_id: list(scores) for query_id, scores in read_run(expected).items()}


def test_the_choice_is_made_by_queries_that_nothing_was_trained_on(finished):
    sides = [
        list(read_synthetic_queries(finished / f"queries.{side}.jsonl")) for side in ("to_train_on", "to_choose_by")
    ]
    trained_on, held_out = ({query.doc_id for query in side} for side in sides)
    assert held_out
    assert trained_on.isdisjoint(held_out)
    choice = json.loads((finished / "choice" / "choice.json").read_text())
    assert choice["queries"] == len(sides[1])
    assert {query.query_id for query in read_queries(finished / "choice" / "topics" / "queries.jsonl")} == {
        query.query_id for query in sides[1]
    }
    system = read_system(finished)
    assert [stage.name for stage in system.stages] == ["bm25", "whole", "base", "tuned"]
    assert system.gate == PRIOR.moved(choice["gate"]["offset"])
    assert system.reranking.model == str(finished / "models" / "reranker")


def test_a_run_is_verified_with_its_choice_and_what_its_system_found(finished, cache, capsys):
    assert main(["verify", str(finished), "--json", "--quiet", "--sample", "1"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["problems"] == []
    assert found["checked"]["choices recomputed"] == 2
    for name in ("choice.json", "choice/topics", "runs/mix"):
        assert not any(name in line for line in found["not_checked"])
    assert {"fused scores recomputed", "reranked scores recomputed"} <= found["checked"].keys()


@pytest.mark.parametrize(
    "name", ["choice/choice.json", "choice/topics/queries.jsonl", "choice/topics/qrels.tsv", "system.json"]
)
def test_a_change_of_the_choice_is_found(copied, cache, capsys, name):
    path = copied / name
    path.write_text(path.read_text().replace("1", "2"))
    assert main(["verify", str(copied), "--sample", "0", "--quiet"]) == 1
    assert (name if path.parent.name != "topics" else "choice/topics") in capsys.readouterr().out


def test_what_would_teach_nothing_is_not_trained(cache, tmp_path, capsys):
    folder = tmp_path / "toy"
    flags = [flag for flag in SMALL if flag != "--quiet"]
    assert main(["run", "--dataset", str(TOY), "--output", str(folder), *flags]) == 0
    skipped_of(folder, capsys.readouterr().err, "auto")
    assert (folder / "triples.tsv").exists()  # they are looked at
    assert main(["verify", str(folder), "--sample", "0", "--quiet"]) == 0


@pytest.mark.parametrize("training", ["auto", "never"])
def test_models_of_an_earlier_run_are_not_used_where_nothing_is_trained(copied, cache, capsys, training):
    flags = [flag for flag in SMALL if flag != "--quiet"] + ["--training", training]
    again = ["run", "--dataset", str(TOY), "--output", str(copied), *flags]
    assert main(again) == 1
    assert f"--training was always, is {training}" in capsys.readouterr().err
    assert main([*again, "--overwrite"]) == 0
    errors = capsys.readouterr().err
    skipped_of(copied, errors, training)
    assert "models/retriever" in errors
    assert "models/reranker" in errors
    assert main(["verify", str(copied), "--sample", "0", "--quiet"]) == 0
    assert main(again) == 0
    done, of, total, *_ = capsys.readouterr().err.splitlines()[-1].split()
    assert (done, of) == (total, "of")


def skipped_of(folder, errors, training):
    """That neither the retriever nor the reranker was trained, as the notes and the report say."""
    notes = [line for line in errors.splitlines() if "is not trained" in line]
    assert [note.partition("the ")[2].split()[0] for note in notes] in (
        ["retriever", "reranker"],
        ["reranker", "retriever"],
    )
    assert all(("--training never" in note) == (training == "never") for note in notes)
    assert not (folder / "models").exists()
    assert not list(folder.rglob("tuned*"))
    assert list(json.loads((folder / "metrics.json").read_text())["systems"]) == [s for s in SYSTEMS if s != "tuned"]
    system = read_system(folder)
    assert [stage.name for stage in system.stages] == ["bm25", "whole", "base"]
    assert system.reranking.model == "smollm2-135m"
    rows = json.loads((folder / "report.json").read_text())["funnel"]
    steps = {row["what"]: row for row in rows if row["what"].startswith("steps of")}
    assert [row["count"] for row in steps.values()] == [0, 0]
    assert all(row["changed_by"].startswith("not trained: ") for row in steps.values())


def test_a_model_that_is_no_reranker_and_is_not_trained_does_not_rerank(cache, tmp_path, capsys):
    folder = tmp_path / "toy"
    flags = [flag for flag in SMALL if flag != "--quiet"] + ["--reranker", "minilm", "--window-tokens", "0"]
    assert main(["run", "--dataset", str(TOY), "--output", str(folder), *flags]) == 0
    assert [line for line in capsys.readouterr().err.splitlines() if "minilm has no head" in line]
    assert list(json.loads((folder / "metrics.json").read_text())["systems"])[-1] == "mix"
    system = read_system(folder)
    assert system.reranking is None
    assert [stage.name for stage in system.stages] == ["bm25", "whole"]
