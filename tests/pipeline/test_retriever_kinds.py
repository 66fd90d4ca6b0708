"""Retrievers of every kind by command: trained, searched with, fused, reranked with, in the mix, and exported."""

import json

import numpy as np
import pytest
from sentence_transformers import SparseEncoder
from small_run import SMALL, dataset, models

from inpars.cli.main import main
from inpars.fusion.system import read_system
from inpars.io.formats import read_run, write_run
from inpars.io.runs import cut

EXACT = ["--device", "cpu", "--dtype", "float32", "--threads", "1"]
KINDS = {"multi-vector": "multi_vector", "sparse": "sparse"}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("INPARS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def collection(tmp_path):
    return dataset(tmp_path / "beir")


def inpars(*arguments):
    return main([*map(str, arguments), "--quiet"])


def searched(folder, collection, output, *more):
    assert inpars("search", "--dataset", collection, "--retriever", folder, *more, *EXACT, "--output", output) == 0
    return read_run(output)


@pytest.mark.parametrize("kind", KINDS)
def test_a_trained_folder_is_recognised_and_searched_with_and_its_scores_are_fused(tiny, tmp_path, collection, kind):
    lines = [json.loads(line) for line in (collection / "corpus.jsonl").read_text().splitlines()]
    rows = [(row["text"].split()[0], row["text"], lines[place - 1]["text"]) for place, row in enumerate(lines)]
    (tmp_path / "t.tsv").write_text("".join("\t".join(row) + "\n" for row in rows))
    start = ["--kind", kind, "--model", tiny({"multi-vector": "sentence_transformer", "sparse": "masked_lm"}[kind])]
    told = ["--batch-size", 8, "--learning-rate", "1e-3", *EXACT, "--output", tmp_path / "model"]
    assert inpars("train", "retriever", "--triples", tmp_path / "t.tsv", *start, *told) == 0
    run = searched(tmp_path / "model", collection, tmp_path / "one.trec")
    assert len(run) == 6
    again = searched(tmp_path / "model", collection, tmp_path / "again.trec", "--batch-size", 3)
    assert {name: list(scores) for name, scores in again.items()} == {
        name: list(scores) for name, scores in run.items()
    }
    fused = searched(
        tmp_path / "model", collection, tmp_path / "both.trec", "--retriever", tiny("sentence_transformer")
    )
    assert fused.keys() == run.keys()
    joined = ["--run", tmp_path / "one.trec", "--run", tmp_path / "both.trec", "--output", tmp_path / "runs.trec"]
    assert inpars("search", *joined) == 0
    assert read_run(tmp_path / "runs.trec").keys() == run.keys()


def test_max_sim_reranks_a_first_stage_s_run_as_it_searches(tiny, tmp_path, collection):
    whole = searched(tiny("multi_vector"), collection, tmp_path / "whole.trec")
    first = cut({name: dict.fromkeys(scores, 1.0) for name, scores in whole.items()}, 5)
    write_run(tmp_path / "first.trec", first, "first")
    told = [
        "--run",
        tmp_path / "first.trec",
        "--model",
        tiny("multi_vector"),
        *EXACT,
        "--output",
        tmp_path / "new.trec",
    ]
    assert inpars("rerank", "--dataset", collection, *told) == 0
    found = read_run(tmp_path / "new.trec")
    for name, scores in first.items():
        assert found[name] == pytest.approx({doc_id: whole[name][doc_id] for doc_id in scores}, rel=5e-4)


def test_views_are_tried_in_the_mix_and_what_is_taken_is_searched_with(tiny, tmp_path, collection, capsys):
    views = ["--view", tiny("sparse"), "--view", tiny("multi_vector")]
    told = [*models(tiny, tmp_path), *SMALL, "--training", "never", "--rerank-depth", "0", *views]
    assert inpars("run", "--dataset", collection, *told, "--output", tmp_path / "run") == 0
    choice = json.loads((tmp_path / "run" / "choice" / "choice.json").read_text())
    table = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert "model (view-1)" in str(table)  # both folders are called so
    assert "model (view-2)" in str(table)
    system = read_system(tmp_path / "run")
    assert {stage.name for stage in system.stages} == {"bm25", *choice["stages"]}
    # few queries leave the default: the view is put into the system by hand
    path = tmp_path / "run" / "system.json"
    values = json.loads(path.read_text())
    values["stages"].append({"name": "view-1", "retriever": tiny("sparse"), "window_tokens": None, "weight": 1.0})
    path.write_text(json.dumps(values))
    mixed = ["search", "--run", tmp_path / "run", "--output", tmp_path / "mix.trec"]
    assert inpars(*mixed) == 0
    capsys.readouterr()
    query = json.loads((collection / "queries.jsonl").read_text().splitlines()[0])
    assert inpars("search", "--run", tmp_path / "run", "--json", query["text"]) == 0
    hits = json.loads(capsys.readouterr().out)["hits"]
    best = list(read_run(tmp_path / "mix.trec")[query["_id"]])[: len(hits)]
    assert [hit["doc_id"] for hit in hits] == best
    assert inpars("index", "build", "--run", tmp_path / "run", "--index", tmp_path / "index") == 1
    assert "vectors of bi-encoders" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["opensearch", "elasticsearch", "qdrant"])
def test_word_weights_are_written_as_engines_take_them(tiny, tmp_path, collection, monkeypatch, name):
    monkeypatch.setattr("inpars.models.hardware.fast_bfloat16_flags", tuple)  # compared with float32's
    told = ["--retriever", tiny("sparse"), "--dataset", collection, "--output", tmp_path / "out"]
    assert inpars("export", "--format", name, *told) == 0
    rows = [json.loads(line) for line in (tmp_path / "out" / "documents.jsonl").read_text().splitlines()]
    queries = [json.loads(line) for line in (tmp_path / "out" / "queries.jsonl").read_text().splitlines()]
    index = json.loads((tmp_path / "out" / "index.json").read_text())
    model = SparseEncoder(tiny("sparse"), device="cpu")
    texts = [json.loads(line)["text"] for line in (collection / "corpus.jsonl").read_text().splitlines()]
    weights = model.encode_document(texts).to_dense().numpy()
    if name == "qdrant":
        assert index == {"sparse_vectors": {"sparse": {}}}
        found = {row["payload"]["doc_id"]: row["vector"]["sparse"] for row in rows}
        assert rows[0]["payload"]["text"] == texts[0]
        assert len({row["id"] for row in rows}) == 24
        for number, own in enumerate(weights):
            vector = found[f"d{number}"]
            assert vector["indices"] == np.flatnonzero(own).tolist()
            assert vector["values"] == pytest.approx(own[own > 0].tolist(), abs=1e-4)
        assert queries[0]["using"] == "sparse"
        return
    kind = {"opensearch": "rank_features", "elasticsearch": "sparse_vector"}[name]
    assert index["mappings"]["properties"]["sparse"] == {"type": kind}
    assert [row["index"]["_id"] for row in rows[::2]] == [f"d{number}" for number in range(24)]
    words = model.tokenizer.convert_ids_to_tokens(range(weights.shape[1]))
    dot = words.index(".")
    for own, row in zip(weights, rows[1::2], strict=True):
        names = [f"#{dot}" if column == dot else words[column] for column in np.flatnonzero(own)]
        assert row["sparse"] == pytest.approx(dict(zip(names, own[own > 0].tolist(), strict=True)), abs=1e-4)
    assert list(queries[0]["query"]) == [{"opensearch": "neural_sparse", "elasticsearch": "sparse_vector"}[name]]


def test_what_is_not_read_and_what_needs_a_retriever_is_said(tiny, tmp_path, collection, capsys):
    assert inpars("import", "--format", "qdrant", "--input", collection, "--output", tmp_path / "out") == 1
    assert "exported but not imported" in capsys.readouterr().err
    assert inpars("export", "--format", "qdrant", "--dataset", collection, "--output", tmp_path / "out") == 1
    assert "name it with --retriever" in capsys.readouterr().err
