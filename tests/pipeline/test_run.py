"""The whole pipeline by the command line, with tiny models; with the embedded ones it is in test_run_documents."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import small_run

from inpars.cli.main import main
from inpars.fusion.gate import LATE_INTERACTION_ODDS, LIKELIHOOD_ODDS, PRIOR
from inpars.fusion.system import read_system
from inpars.io.formats import read_queries, read_run, read_synthetic_queries
from inpars.io.storage import read_jsonl
from inpars.models.folders import EMBEDDED, EmbeddedModel
from inpars.pipeline import prompt_choice, system_choice
from inpars.prompts.load import load_prompt
from inpars.rerankers.load import load_pair_model
from inpars.rerankers.pair_model import save_pair_model
from inpars.retrieval.java import find_jar, find_java

SMALL = [*small_run.SMALL, "--limit", "3", "--k", "100", "--late-interaction-depth", "5"]

pytestmark = pytest.mark.skipif(not (find_jar() and find_java()), reason="needs pyserini with a Java")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """One cache for all runs of this module."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("INPARS_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def small(tiny, tmp_path_factory):
    """The command but its output and what is trained."""
    folder = tmp_path_factory.mktemp("small")
    return ["run", "--dataset", str(small_run.dataset(folder / "dataset")), *small_run.models(tiny, folder), *SMALL]


@pytest.fixture(scope="module")
def trained(small):
    return [*small, "--training", "always"]


@pytest.fixture(scope="module")
def finished(cache, trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "small"
    assert main([*trained, "--output", str(folder), "--quiet"]) == 0
    return folder


@pytest.fixture(scope="module")
def systems(tiny):
    """Names of the systems that are measured; the bi-encoder's is its folder."""
    return ["bm25", tiny("sentence_transformer"), "fusion", "tuned", "mix", "mix + reranker"]


@pytest.fixture
def copied(finished, tmp_path):
    """The finished run in another place, for what would change it."""
    return Path(shutil.copytree(finished, tmp_path / "small"))


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


def test_a_finished_run_is_told_in_one_line(finished, trained, capsys):
    before = contents(finished)
    assert main([*trained, "--output", str(finished)]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("step 1 of 10: reading documents")
    assert lines[-1] == "24 of 24 stages up to date"
    assert contents(finished) == before
    assert not any(line.endswith("is up to date, skipped") for line in lines)


def test_a_run_leaves_every_file_of_every_stage(finished, systems):
    queries = list(read_synthetic_queries(finished / "queries.synthetic.jsonl"))
    assert len(queries) == 8
    assert all(query.token_log_probs for query in queries if query.text)
    for name in ("queries.filtered.jsonl", "triples.tsv", "triples.ids.tsv", "negatives.trec", "report.html"):
        assert (finished / name).stat().st_size > 0, name
    assert (finished / "models" / "retriever" / "model.safetensors").exists()
    assert (finished / "models" / "reranker" / "model.safetensors").exists()
    metrics = json.loads((finished / "metrics.json").read_text())
    assert list(metrics["systems"]) == systems
    value = metrics["systems"]["mix"]["means"]["nDCG@10"]
    for name in ("retriever", "reranker"):
        card = (finished / "models" / name / "README.md").read_text()
        assert f"| mix | nDCG@10 | {value:.4f} |" in card
        assert "No run with this model was evaluated" not in card
    assert all(0 <= system["means"]["nDCG@10"] <= 1 for system in metrics["systems"].values())


def test_the_report_is_one_file_that_shows_table_histogram_and_curves(finished, systems):
    page = (finished / "report.html").read_text()
    assert page.count("<svg") >= 1
    assert "http" not in page.replace("http-equiv", "")
    for part in [
        *systems,
        "Kept, from the best down",
        "Settings",
        "nDCG@10",
        "inpars run --dataset",
        "inpars search --run",
    ]:
        assert part in page, part
    values = json.loads((finished / "report.json").read_text())
    assert [system["name"] for system in values["results"]["systems"]] == systems
    conclusion, mix = values["conclusion"], values["mix"]
    assert conclusion["system"] == "mix + reranker"
    assert [gain["against"] for gain in conclusion["gains"]] == systems[:3]
    assert conclusion["value"] == values["results"]["systems"][-1]["means"]["nDCG@10"]
    assert conclusion["reranker"]["against"] == "mix"
    assert conclusion["seconds_per_query"] > conclusion["seconds_without_reranker"] > 0
    assert set(conclusion["weight_bytes"]) >= {"reranker"}
    assert any(f"inpars serve --run {finished}" in line for line in conclusion["commands"])
    assert len(mix["shares"]["ys"]) == 21
    assert len(mix["offsets"]["ys"]) == 25
    assert {stage["output"] for stage in values["stages"]} >= {"queries.synthetic.jsonl", "runs/bm25.trec", "topics"}


def test_reranking_moves_only_the_top(finished):
    before, after = read_run(finished / "runs" / "mix.trec"), read_run(finished / "runs" / "mix.reranked.trec")
    for query_id, scores in after.items():
        assert len(scores) > 5
        assert list(scores)[5:] == list(before[query_id])[5:]  # MaxSim's depth; the reranker's is 3
        assert set(scores) == set(before[query_id])


def test_the_same_command_again_redoes_nothing(finished, trained):
    moment = now(finished)
    assert main([*trained, "--output", str(finished), "--quiet"]) == 0
    assert changed_after(finished, moment) == set()


def test_a_model_that_is_not_installed_stops_before_the_work(cache, small, tmp_path, monkeypatch, capsys):
    missing = EmbeddedModel("absent", (("no_such_package", "weights"),), "pip install it", "to rerank", "MIT")
    monkeypatch.setitem(EMBEDDED, "absent", missing)
    output = tmp_path / "run"
    assert main([*small, "--output", str(output), "--reranker", "absent"]) == 1
    assert "pip install it" in capsys.readouterr().err
    assert not output.exists()


def test_another_dataset_is_kept_out_of_the_folder(finished, trained, tmp_path, capsys):
    corpus = tmp_path / "other.jsonl"
    corpus.write_text('{"_id": "a", "text": "something else"}\n')
    assert main(["run", "--corpus", str(corpus), *trained[3:], "--output", str(finished), "--quiet"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("inpars: ")
    assert "run of another dataset" in error
    assert error.count("\n") == 1


def test_without_a_prompt_one_is_tried_and_what_it_wrote_stays(cache, finished, trained, tmp_path, capsys, monkeypatch):
    named = trained.index("--prompt")
    prompt = load_prompt(trained[named + 1])
    monkeypatch.setattr(prompt_choice, "load_prompt", lambda name: replace(prompt, name=name))
    folder = tmp_path / "chosen"
    command = [*trained[:named], *trained[named + 2 :], "--training", "never", "--output", str(folder)]
    assert main(command) == 0
    assert "8 by inpars" in capsys.readouterr().err
    values = json.loads((folder / "prompts" / "choice.json").read_text())
    assert values["trials"][0]["queries"] == 8  # all that the run writes for
    chosen, other = (list(read_synthetic_queries(one / "queries.synthetic.jsonl")) for one in (folder, finished))
    assert [replace(query, prompt="") for query in chosen] == [replace(query, prompt="") for query in other]
    assert "8 by inpars" in json.loads((folder / "report.json").read_text())["lead"]
    before = contents(folder)
    assert main([*command, "--quiet"]) == 0
    assert contents(folder) == before
    assert main(["verify", str(folder), "--sample", "0", "--quiet"]) == 0
    assert main([*command, "--prompt", trained[named + 1], "--overwrite", "--quiet"]) == 0
    assert not any((folder / "prompts").glob("*.json*"))  # of a choice that this run did not make


def test_another_prompt_is_asked_for_and_redoes_only_what_depends_on_it(copied, trained, tmp_path, capsys):
    moment = now(copied)
    prompt = tmp_path / "other.yaml"
    prompt.write_text(small_run.PROMPT.replace("falcon", "raven"))
    named = trained.index("--prompt") + 1
    command = [*trained[:named], str(prompt), *trained[named + 1 :], "--output", str(copied), "--quiet"]
    assert main(command) == 1
    error = capsys.readouterr().err
    assert "--prompt was two examples " in error
    assert error.count("\n") == 1
    assert changed_after(copied, moment) == set()
    assert main([*command, "--overwrite"]) == 0
    redone = changed_after(copied, moment)
    assert {"queries.synthetic.jsonl", "queries.filtered.jsonl", "triples.tsv", "retriever", "reranker"} <= redone
    searched = {path.relative_to(copied).as_posix() for path in copied.rglob("*.trec") if is_newer(path, moment)}
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
    assert [stage.name for stage in system.stages] == ["bm25", "whole", "base"]  # so few cannot tell what tuning gained
    assert (choice["by"], choice["stages"], choice["trials"]) == ("written", ["whole", "base"], [])
    assert system.gate == PRIOR.moved(choice["gate"]["offset"])
    assert (system.reranking.model, system.reranking.odds) == (str(finished / "models" / "reranker"), None)


def test_a_run_is_verified_with_its_choice_and_what_its_system_found(finished, cache, capsys):
    assert main(["verify", str(finished), "--json", "--quiet", "--sample", "1"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["problems"] == []
    assert found["checked"]["choices recomputed"] == 2
    for name in ("choice.json", "choice/topics", "runs/mix"):
        assert not [line for line in found["not_checked"] if name in line]
    assert {"fused scores recomputed", "reranked scores recomputed"} <= found["checked"].keys()


@pytest.mark.parametrize(
    "name", ["choice/choice.json", "choice/topics/queries.jsonl", "choice/topics/qrels.tsv", "system.json"]
)
def test_a_change_of_the_choice_is_found(copied, cache, capsys, name):
    path = copied / name
    path.write_text(path.read_text().replace("1", "2"))
    assert main(["verify", str(copied), "--sample", "0", "--quiet"]) == 1
    assert (name if path.parent.name != "topics" else "choice/topics") in capsys.readouterr().out


def test_what_would_teach_nothing_is_not_trained(cache, small, systems, tiny, tmp_path, capsys):
    folder = tmp_path / "small"
    assert main([*small, "--output", str(folder)]) == 0
    skipped_of(folder, capsys.readouterr().err, "auto", systems, tiny("llama"))
    assert (folder / "triples.tsv").exists()  # they are looked at
    assert main(["verify", str(folder), "--sample", "0", "--quiet"]) == 0


@pytest.mark.parametrize("training", ["auto", "never"])
def test_models_of_an_earlier_run_are_not_used_where_nothing_is_trained(copied, small, systems, tiny, capsys, training):
    again = [*small, "--output", str(copied), "--training", training]
    assert main(again) == 1
    assert f"--training was always, is {training}" in capsys.readouterr().err
    assert main([*again, "--overwrite"]) == 0
    errors = capsys.readouterr().err
    skipped_of(copied, errors, training, systems, tiny("llama"))
    assert "models/retriever" in errors
    assert "models/reranker" in errors
    assert main(["verify", str(copied), "--sample", "0", "--quiet"]) == 0
    assert main(again) == 0
    done, of, total, *_ = capsys.readouterr().err.splitlines()[-1].split()
    assert (done, of) == (total, "of")


def skipped_of(folder, errors, training, systems, reranker):
    """That neither the retriever nor the reranker was trained, as the notes and the report say."""
    notes = [line for line in errors.splitlines() if "is not trained" in line]
    assert [note.partition("the ")[2].split()[0] for note in notes] in (
        ["retriever", "reranker"],
        ["reranker", "retriever"],
    )
    assert all(("--training never" in note) == (training == "never") for note in notes)
    assert not (folder / "models").exists()
    assert not list(folder.rglob("tuned*"))
    assert list(json.loads((folder / "metrics.json").read_text())["systems"]) == [s for s in systems if s != "tuned"]
    system = read_system(folder)
    assert [stage.name for stage in system.stages] == ["bm25", "whole", "base"]
    assert (system.reranking.model, system.reranking.odds) == (reranker, LIKELIHOOD_ODDS)
    assert system.late_interaction.odds == LATE_INTERACTION_ODDS
    rows = json.loads((folder / "report.json").read_text())["funnel"]
    steps = {row["what"]: row for row in rows if row["what"].startswith("steps of")}
    assert [row["count"] for row in steps.values()] == [0, 0]
    assert all(row["changed_by"].startswith("not trained: ") for row in steps.values())


def test_documents_that_are_read_too_little_have_no_late_interaction(cache, small, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(system_choice, "MIN_SHARE_READ", 1.01)
    assert main([*small, "--output", str(tmp_path / "small")]) == 0
    assert re.search("reads 100% .* less than 101%.* cut documents to passages", capsys.readouterr().err)
    assert read_system(tmp_path / "small").late_interaction is None


def test_all_searches_of_a_run_analyse_the_language_that_is_named(cache, small, tmp_path, capsys):
    folder = tmp_path / "german"
    told = [*small, "--language", "de", "--training", "never", "--rerank-depth", "0", "--output", str(folder)]
    assert main([*told, "--quiet"]) == 0
    assert read_system(folder).language == "de"
    for name in ("runs/bm25.trec", "choice/bm25.trec"):
        manifest = json.loads((folder / f"{name}.manifest.json").read_text())
        assert manifest["arguments"]["language"] == "de"
    assert main(["verify", str(folder), "--quiet", "--sample", "1"]) == 0
    assert main([*small, "--language", "xx", "--output", str(tmp_path / "no"), "--quiet"]) == 1
    assert "language 'xx'" in capsys.readouterr().err


def test_a_model_that_is_no_reranker_and_is_not_trained_does_not_rerank(cache, small, tiny, tmp_path, capsys):
    folder, encoder = tmp_path / "small", tiny("sentence_transformer")
    assert (
        main(
            [
                *small,
                "--output",
                str(folder),
                "--reranker",
                encoder,
                "--window-tokens",
                "0",
                "--late-interaction-depth",
                "0",
            ]
        )
        == 0
    )
    assert [line for line in capsys.readouterr().err.splitlines() if f"{encoder} has no head" in line]
    assert list(json.loads((folder / "metrics.json").read_text())["systems"])[-1] == "mix"
    system = read_system(folder)
    assert system.reranking is None
    assert [stage.name for stage in system.stages] == ["bm25", "whole"]


def test_a_trained_likelihood_keeps_the_prompt_it_was_trained_with(cache, small, tiny, tmp_path):
    model = load_pair_model(tiny("llama"), kind="query-likelihood", device="cpu", dtype="float32")
    save_pair_model(model, tmp_path / "tuned")
    shown = {}
    for name, reranker in (("tuned", str(tmp_path / "tuned")), ("untuned", tiny("llama"))):
        flags = ["--reranker", reranker, "--reranker-kind", "auto", "--training", "never", "--quiet"]
        assert main([*small, *flags, "--output", str(tmp_path / f"{name}-run")]) == 0
        shown[name] = read_system(tmp_path / f"{name}-run").reranking.prompt
    assert shown["tuned"] is None
    assert shown["untuned"].examples


def test_judged_dev_queries_choose_in_place_of_written_ones(cache, small, tmp_path, capsys):
    """The reranker's weight and depth too; real queries without judgements are compared with the written ones."""
    queries, qrels, real, folder = (tmp_path / name for name in ("dev.jsonl", "dev.tsv", "real.jsonl", "toy"))
    dataset = Path(small[2])
    rows = [json.loads(line) for line in (dataset / "queries.jsonl").read_text().splitlines()]
    real.write_text("".join(json.dumps(row) + "\n" for row in rows))
    grades = [line.split("\t") for line in (dataset / "qrels" / "test.tsv").read_text().splitlines()[1:]]
    judged = {query_id: doc_id for query_id, doc_id, grade in grades if int(grade) > 0}
    dev = [{"_id": row["_id"], "text": f"{row['text']} please"} for row in rows if row["_id"] in judged]
    same = {"_id": "same", "text": rows[0]["text"]}  # is measured by
    queries.write_text("".join(json.dumps(row) + "\n" for row in [*dev, same]))
    own = {**{row["_id"]: judged[row["_id"]] for row in dev}, "same": judged[dev[0]["_id"]]}
    qrels.write_text("".join(f"{name} 0 {doc_id} 1\n" for name, doc_id in own.items()))
    given = ["--dev-queries", str(queries), "--dev-qrels", str(qrels), "--unlabelled-queries", str(real)]
    command = [*small, "--output", str(folder), "--training", "never", *given]
    assert main(command) == 0, capsys.readouterr().err
    choice = json.loads((folder / "choice" / "choice.json").read_text())
    reranking = json.loads((folder / "choice" / "reranking.json").read_text())
    assert (choice["by"], choice["queries"], choice["weighing"]) == ("judged", len(dev), "alike")
    assert choice["match"]["target_queries"] == len(rows)
    report = json.loads((folder / "report.json").read_text())
    assert "to choose by" not in report["lead"]
    assert report["pipeline"][-2]["detail"] == f"by {len(dev)} judged dev queries"
    system = read_system(folder)
    own = system.reranking
    assert reranking["weight"] == (0 if own is None else None if own.odds else own.weight)
    moment = now(folder)
    assert main(command) == 0
    assert changed_after(folder, moment) == set()
    assert main(["verify", str(folder), "--quiet", "--sample", "1"]) == 0, capsys.readouterr()
    queries.write_text(queries.read_text().replace("please", "now"))
    assert main(command) == 1
    assert "--dev-queries was " in capsys.readouterr().err


def test_queries_of_people_are_trained_on_and_nothing_else(cache, trained, finished, copied, tmp_path, capsys):
    """They are in the triples; what chooses and what measures is as it was."""
    documents = {row["_id"]: row for _, row in read_jsonl(Path(trained[2]) / "corpus.jsonl")}
    measured = next(read_queries(Path(trained[2]) / "queries.jsonl")).text
    rows = [f"asked by people {n}\t{doc_id}\t2\n" for n, doc_id in enumerate(documents)] + [f"{measured}\td7\t2\n"]
    (tmp_path / "log.tsv").write_text("query\tdoc_id\tclicks\n" + "".join(rows))
    pairs, folder = tmp_path / "pairs.jsonl", tmp_path / "with"
    assert main(["pairs", "--clicks", str(tmp_path / "log.tsv"), *trained[1:3], "--output", str(pairs), "--quiet"]) == 0
    command = [*trained, "--pairs", str(pairs), "--quiet"]
    assert main([*command, "--output", str(folder)]) == 0
    assert (folder / "queries.filtered.jsonl").read_bytes() == (finished / "queries.filtered.jsonl").read_bytes()
    to_train_on = list(read_synthetic_queries(folder / "queries.to_train_on.jsonl"))
    to_choose_by = list(read_synthetic_queries(folder / "queries.to_choose_by.jsonl"))
    assert sum(query.by_people for query in to_train_on) > len(to_train_on) / 2
    assert to_choose_by
    assert not any(query.by_people for query in to_choose_by)
    assert measured in pairs.read_text()
    assert measured not in {query.text for query in to_train_on if query.by_people}
    assert not {query.doc_id for query in to_train_on} & {query.doc_id for query in to_choose_by}
    assert "asked by people" in (folder / "triples.tsv").read_text()
    report = json.loads((folder / "report.json").read_text())
    assert any(row["what"] == "queries of people" for row in report["funnel"]), report["funnel"]
    assert "with other settings (--pairs was not given, is " in refused(capsys, [*command, "--output", str(copied)])
    wrong = str(finished / "queries.filtered.jsonl")
    assert "--generated" in refused(capsys, [*trained, "--pairs", wrong, "--output", str(tmp_path / "no")])


def refused(capsys, command):
    capsys.readouterr()
    assert main(command) == 1
    return capsys.readouterr().err


def test_a_learning_curve_is_written_where_it_is_asked_for(copied, trained, cache, capsys):
    command = [*trained, "--output", str(copied), "--learning-curve", "--overwrite"]
    assert main(command) == 0, capsys.readouterr().err
    points = json.loads((copied / "choice" / "learning-curve.json").read_text())["points"]
    assert [point["name"] for point in points] == ["untuned", "quarter", "half", "all"]
    assert [point["triples"] for point in points] == sorted(point["triples"] for point in points)
    assert main(["verify", str(copied), "--quiet", "--sample", "1"]) == 0, capsys.readouterr()
