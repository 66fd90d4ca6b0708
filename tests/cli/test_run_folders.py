"""`inpars compare`, `inpars verify` and `inpars evaluate --report`: on a made-up run, and on tampered copies."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from synthetic_run import make_run

from inpars.cli.main import main
from inpars.io.manifest import manifest_path, read_manifest, stamp, write_manifest
from inpars.models.folders import EMBEDDED


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "first"
    make_run(folder, 40, depth=20)
    return folder


@pytest.fixture
def copy(run_folder, tmp_path):
    return Path(shutil.copytree(run_folder, tmp_path / "copy"))


def verify(folder, capsys, *flags):
    code = main(["verify", str(folder), "--quiet", *flags])
    lines = capsys.readouterr().out.splitlines()
    return code, [line for line in lines[:-1] if not line.startswith(("not checked: ", "checked: "))], lines


def restamp(output, records=None, **changes):
    """Make a manifest match its changed output, as someone hiding the change would."""
    manifest = read_manifest(output)
    now = stamp(output, records or manifest.output.records)
    write_manifest(replace(manifest, output=now, **changes), output)


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_a_whole_run_has_no_problems(run_folder, capsys):
    code, problems, lines = verify(run_folder, capsys, "--sample", "0")
    assert (code, problems) == (0, [])
    assert lines[-1] == f"{run_folder}: no problems"
    assert "14 outputs by SHA-256" in lines[-2]
    assert "240 measures recomputed" in lines[-2], "six systems, forty queries"


def test_a_moved_folder_is_verified_where_it_lies_now(copy, capsys):
    assert verify(copy, capsys, "--sample", "0")[0] == 0


@pytest.mark.skipif(not EMBEDDED["minilm"].installed, reason="passages are cut by MiniLM's tokens")
@pytest.mark.parametrize("place", ["", "a.md"])
def test_documents_are_held_against_what_was_read_of_them(copy, tmp_path, capsys, place):
    (tmp_path / "documents").mkdir()
    read = tmp_path / "documents" / "a.md"
    read.write_text("Swifts sleep on the wing and nest under roofs.\n")
    corpus = str(copy / "documents" / "corpus.jsonl")
    assert main(["ingest", "--documents", str(tmp_path / "documents" / place), "--output", corpus, "--quiet"]) == 0
    capsys.readouterr()
    assert verify(copy, capsys, "--sample", "0")[:2] == (0, [])
    (tmp_path / "documents" / "b.bin").write_bytes(b"of no kind that is read")
    assert verify(copy, capsys, "--sample", "0")[:2] == (0, [])
    for change in (lambda: read.write_text("Something else.\n"), lambda: read.rename(tmp_path / "documents" / "a.bin")):
        change()
        code, problems, _ = verify(copy, capsys, "--sample", "0")
        if read.exists() or not place:  # a file that is gone cannot be held against anything
            assert code == 1
            assert "its input files" in problems[0]
            assert "has changed since" in problems[0]


def test_a_changed_byte_is_found(copy, capsys):
    path = copy / "runs" / "tuned.trec"
    raw = bytearray(path.read_bytes())
    raw[100] ^= 1
    path.write_bytes(bytes(raw))
    code, problems, _ = verify(copy, capsys, "--sample", "0")
    assert code == 1
    assert problems[0].startswith("runs/tuned.trec: was changed after it was made: SHA-256 ")


def test_an_output_that_is_gone_is_found(copy, capsys):
    (copy / "triples.tsv").unlink()
    code, problems, _ = verify(copy, capsys, "--sample", "0")
    assert (code, problems) == (1, ["triples.tsv: is gone, its manifest is still there"])


def test_outputs_without_a_manifest_and_leftovers_are_found(copy, capsys):
    manifest_path(copy / "runs" / "bm25.trec").unlink()
    (copy / "queries.synthetic.jsonl.partial").write_text("{}\n")
    code, problems, _ = verify(copy, capsys, "--sample", "0")
    assert code == 1
    assert any(line.startswith("runs/bm25.trec: was not finished") for line in problems)
    assert any(line.startswith("queries.synthetic.jsonl: an interrupted stage left") for line in problems)


def test_a_broken_manifest_is_found_and_the_rest_still_checked(copy, capsys):
    manifest_path(copy / "triples.tsv").write_text("{")
    (copy / "corpus.jsonl").unlink()
    code, problems, _ = verify(copy, capsys, "--sample", "0")
    assert code == 1
    assert any("not a manifest" in line for line in problems)


def test_an_output_made_from_another_input_is_found(copy, capsys):
    """Both files are what their manifests say; but the triples were mined for other queries."""
    kept = copy / "queries.filtered.jsonl"
    kept.write_text("".join(kept.read_text().splitlines(keepends=True)[:-1]))
    restamp(kept, records=19)
    code, problems, _ = verify(copy, capsys, "--sample", "0")
    assert code == 1
    assert "triples.tsv: was made from another queries.filtered.jsonl than the one that is here; run again" in problems


def test_a_kept_query_that_nobody_wrote_is_found(copy, capsys):
    edit(copy / "queries.filtered.jsonl", '"query": "', '"query": "slipped in ')
    restamp(copy / "queries.filtered.jsonl")
    assert any("kept queries are not those of" in line for line in verify(copy, capsys, "--sample", "0")[1])


def test_negatives_that_do_not_go_with_their_ids_are_found(copy, capsys):
    path = copy / "triples.negatives.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([lines[1], lines[0], *lines[2:]]))
    problems = verify(copy, capsys, "--sample", "0")[1]
    assert problems == ["triples.negatives.jsonl:1: is about other documents than the same line of triples.ids.tsv"]


def test_a_flattered_measure_is_found_even_where_its_hash_was_mended(copy, capsys):
    path = copy / "metrics.json"
    values = json.loads(path.read_text())
    query_id = next(iter(values["systems"]["tuned"]["per_query"]["nDCG@10"]))
    values["systems"]["tuned"]["per_query"]["nDCG@10"][query_id] += 0.25
    path.write_text(json.dumps(values))
    restamp(path)
    code, problems, _ = verify(copy, capsys, "--sample", "0")
    assert code == 1
    assert any(line.startswith("metrics.json: nDCG@10 of tuned: measures of 1 of 40 queries") for line in problems)
    assert any(line.startswith("report.json: nDCG@10 of tuned is not that of metrics.json") for line in problems)


def test_what_cannot_be_made_again_is_named_and_is_no_problem(run_folder, capsys):
    code, problems, lines = verify(run_folder, capsys, "--sample", "2", "--corpus", str(run_folder / "corpus.jsonl"))
    assert problems != [], "made-up runs are not what BM25 finds, and it is said"
    assert code == 1
    code, problems, lines = verify(run_folder, capsys, "--sample", "2")
    assert any("the documents are needed" in line for line in lines if line.startswith("not checked: "))


@pytest.mark.parametrize(
    "mark", [None, "", "[]", '{"name": "of another tool"}', "{" * 5000, '{"dataset": ' + "[" * 50_000]
)
@pytest.mark.parametrize("command", ["verify", "compare"])
def test_a_folder_that_is_no_run_is_told_in_one_line_and_not_looked_through(
    run_folder, tmp_path, capsys, monkeypatch, command, mark
):
    """`compare RUN A_LARGE_FOLDER` walked all of it and listed other people's manifests as stages."""
    other = tmp_path / "other"
    shutil.copytree(run_folder / "runs", other / "deep" / "runs")
    if mark is not None:
        (other / "run.json").write_text(mark)
    flags = [str(other)] if command == "verify" else [str(other), str(run_folder)]
    monkeypatch.setattr(Path, "rglob", None)  # whoever walks it fails
    assert main([command, *flags]) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "other" in err
    assert "run.json" in err


def test_a_folder_that_is_not_there_is_told(tmp_path, capsys):
    assert main(["verify", str(tmp_path / "none")]) == 1
    assert "no such folder" in capsys.readouterr().err
    (tmp_path / "run.json").write_text('{"dataset": "toy"}')
    assert main(["verify", str(tmp_path)]) == 1
    assert "no manifest of any" in capsys.readouterr().err


def test_a_run_compared_with_itself_is_the_same(run_folder, copy, capsys):
    assert main(["compare", str(run_folder), str(copy)]) == 0
    text = capsys.readouterr().out
    assert "settings that differ\n  none\n" in text
    assert text.count("the same for all 40 queries") == 6
    assert "gained most" not in text


def test_what_differs_is_shown_and_tested(run_folder, tmp_path, capsys):
    other = tmp_path / "second"
    make_run(other, 40, depth=20)
    better = {"tuned": 0.2, "minilm": 0.1}
    values = json.loads((other / "metrics.json").read_text())
    for name, gain in better.items():
        per_query = values["systems"][name]["per_query"]["nDCG@10"]
        values["systems"][name]["per_query"]["nDCG@10"] = {q: value + gain for q, value in per_query.items()}
    (other / "metrics.json").write_text(json.dumps(values))
    restamp(other / "queries.filtered.jsonl", arguments={"top_k": 7}, seconds=99.0)
    page = tmp_path / "compared.html"
    assert main(["compare", str(run_folder), str(other), "--json", "--moved", "2", "--report", str(page)]) == 0
    results = json.loads(capsys.readouterr().out)
    assert {"output": "queries.filtered.jsonl", "name": "top_k", "first": 20, "second": 7} in results["settings"]
    tuned = next(one for one in results["measures"] if one["system"] == "tuned")
    assert tuned["difference"]["mean"] == pytest.approx(0.2)
    # two systems differ: the smallest p times two, the other by itself
    assert tuned["difference"]["adjusted_p_value"] == pytest.approx(2 * tuned["difference"]["p_value"])
    same = next(one for one in results["measures"] if one["system"] == "bm25")
    assert (same["difference"]["mean"], same["difference"]["adjusted_p_value"]) == (0.0, 1.0)
    assert list(results["moved"]) == ["minilm", "tuned"]
    gains, losses = results["moved"]["tuned"]
    assert (len(gains), losses) == (2, [])
    assert gains[0]["second"] - gains[0]["first"] == pytest.approx(0.2)
    assert results["seconds"]["queries.filtered.jsonl"][1] == 99.0
    html = page.read_text()
    assert "first and second compared" in html
    assert "the same, p = 1.000" in html
    assert "<script>" not in html


def test_only_models_that_a_run_trained_are_the_same_everywhere(copy, tmp_path, capsys):
    other = Path(shutil.copytree(copy, tmp_path / "other"))
    for folder, model in ((copy, "models/first"), (other, "models/second")):
        kept = folder / "queries.filtered.jsonl"
        restamp(kept, arguments={"model": model, "retriever": [str(folder / "models" / "retriever")]})
    assert main(["compare", str(copy), str(other)]) == 0
    assert "differ\n  queries.filtered.jsonl: model: models/first -> models/second\n\n" in capsys.readouterr().out


def test_runs_of_other_documents_are_not_compared(run_folder, copy, capsys):
    edit(copy / "run.json", '"corpus_sha256": "', '"corpus_sha256": "0')
    assert main(["compare", str(run_folder), str(copy)]) == 1
    assert "of the same corpus" in capsys.readouterr().err


def test_runs_judged_by_partly_other_queries_are_compared_over_what_is_shared(run_folder, copy, capsys):
    values = json.loads((copy / "metrics.json").read_text())
    for system in values["systems"].values():
        del system["per_query"]["nDCG@10"]["t0"]
    (copy / "metrics.json").write_text(json.dumps(values))
    assert main(["compare", str(run_folder), str(copy), "--json"]) == 0
    results = json.loads(capsys.readouterr().out)
    assert results["measures"][0]["difference"]["queries"] == 39
    assert any(re.match(r"1 queries .*left out; 39 .*both$", note) for note in results["notes"])


@pytest.mark.parametrize("rename", ["systems", "queries"])
def test_measured_runs_with_nothing_in_common_are_no_result(run_folder, copy, capsys, rename):
    values = json.loads((copy / "metrics.json").read_text())
    if rename == "systems":
        values["systems"] = {f"other {name}": system for name, system in values["systems"].items()}
    else:
        for system in values["systems"].values():
            system["per_query"] = {
                metric: {f"other-{query_id}": value for query_id, value in results.items()}
                for metric, results in system["per_query"].items()
            }
    (copy / "metrics.json").write_text(json.dumps(values))
    assert main(["compare", str(run_folder), str(copy)]) == 1
    out, err = capsys.readouterr()
    assert out.startswith("not a result: no ")
    assert err.count("\n") == 1


def test_queries_of_one_id_and_other_words_are_not_paired(run_folder, copy, capsys):
    path = copy / "topics" / "queries.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[0]["text"] = "another question"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    values = json.loads((copy / "metrics.json").read_text())
    values["systems"]["tuned"]["per_query"]["nDCG@10"][rows[0]["_id"]] += 0.5
    (copy / "metrics.json").write_text(json.dumps(values))
    assert main(["compare", str(run_folder), str(copy), "--json"]) == 0
    results = json.loads(capsys.readouterr().out)
    assert {measure["difference"]["queries"] for measure in results["measures"]} == {len(rows) - 1}
    assert any(note.startswith("1 queries") for note in results["notes"])
    assert results["moved"] == {}


def test_systems_that_were_judged_by_fewer_queries_are_compared_over_those(run_folder, copy, capsys):
    values = json.loads((copy / "metrics.json").read_text())
    del values["systems"]["tuned"]["per_query"]["nDCG@10"]["t0"]
    (copy / "metrics.json").write_text(json.dumps(values))
    assert main(["compare", str(run_folder), str(copy), "--json"]) == 0
    assert {one["difference"]["queries"] for one in json.loads(capsys.readouterr().out)["measures"]} == {39}


def test_evaluate_writes_a_report_with_what_is_known(run_folder, tmp_path, capsys):
    report = tmp_path / "report.html"
    runs = [flag for name in ("bm25", "tuned") for flag in ("--run", str(run_folder / "runs" / f"{name}.trec"))]
    topics = [
        "--queries",
        str(run_folder / "topics" / "queries.jsonl"),
        "--qrels",
        str(run_folder / "topics" / "qrels.tsv"),
    ]
    corpus = ["--corpus", str(run_folder / "corpus.jsonl")]
    assert main(["evaluate", *runs, *topics, *corpus, "--metrics", "nDCG@10", "--report", str(report), "--quiet"]) == 0
    table = capsys.readouterr().out
    values = json.loads(report.with_suffix(".json").read_text())
    for system in values["results"]["systems"]:
        assert f"{system['means']['nDCG@10']:.4f}" in table
    assert values["results"]["wins"][0]["relevant"]["text"] != ""
    assert [stage["stage"] for stage in values["stages"]] == ["search", "search"]
    assert values["commands"][0].startswith("inpars evaluate ")
    html = report.read_text()
    assert "<script>" not in html
    assert "Queries that moved" in html
    assert "Synthetic queries" not in html


def test_evaluate_reports_without_any_text(run_folder, tmp_path, capsys):
    report = tmp_path / "report.html"
    run, qrels = run_folder / "runs" / "tuned.trec", run_folder / "topics" / "qrels.tsv"
    assert main(["evaluate", "--run", str(run), "--qrels", str(qrels), "--report", str(report), "--quiet"]) == 0
    assert "tuned" in report.read_text()


def test_a_report_does_not_replace_the_measures(run_folder, tmp_path, capsys):
    run, qrels = run_folder / "runs" / "tuned.trec", run_folder / "topics" / "qrels.tsv"
    command = ["evaluate", "--run", str(run), "--qrels", str(qrels), "--quiet"]
    values, page = tmp_path / "m.json", tmp_path / "m.html"
    for flags in (["--output", str(values), "--report", str(page)], ["--report", str(values)]):
        assert main([*command, *flags]) == 1
        assert f"also writes {values}; rename the report or --output" in capsys.readouterr().err


def test_a_report_of_judged_documents_alone_shows_the_measures_of_its_table(run_folder, tmp_path):
    run, qrels, report = run_folder / "runs" / "tuned.trec", run_folder / "topics" / "qrels.tsv", tmp_path / "r.html"
    command = ["evaluate", "--run", str(run), "--qrels", str(qrels), "--metrics", "nDCG@10", "--judged-only"]
    assert main([*command, "--report", str(report), "--quiet"]) == 0
    results = json.loads(report.with_suffix(".json").read_text())["results"]
    curve = dict(zip(results["depth_curves"][0]["xs"], results["depth_curves"][0]["ys"], strict=True))
    assert curve[10.0] == pytest.approx(results["systems"][0]["means"]["nDCG@10"])
