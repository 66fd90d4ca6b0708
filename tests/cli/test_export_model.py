"""`inpars export-model` with tiny models: the graphs rank as the model does, and run without torch's network."""

import importlib.util
import json
import shutil
from pathlib import Path

import pytest
from tiny_models import sentence

from inpars.cli import main as cli
from inpars.contrib.export.stage import _check_equal, _rank_correlation, sample_of_dataset, sample_of_groups
from inpars.documents.datasets import load_dataset
from inpars.errors import BackendError, ConfigError
from inpars.rerankers import load_scorer
from inpars.training.examples import Group

TOY = Path(__file__).parents[1] / "data" / "toy"
needs_onnx = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("onnx", "onnxruntime", "onnxscript")),
    reason="onnx, onnxruntime or onnxscript is missing",
)
KINDS = {
    "bi-encoder": ("sentence_transformer", []),
    "cross-encoder": ("bert_classifier", []),
    "monot5": ("t5", ["--true-token", "▁true", "--false-token", "▁false"]),
}


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INPARS_CACHE", str(tmp_path / "cache"))
    rows = [(sentence(n // 4, 3)[:-1], sentence(100 + n // 4, 9), sentence(200 + n, 5 + n)) for n in range(16)]
    Path("t.tsv").write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")


def scored(folder, answers):
    """The model, pairs, and their scores by torch: others in number and length than a graph was traced with."""
    import torch

    from inpars.contrib.export.exportable import load_exportable

    true_token, false_token = (answers[1], answers[3]) if answers else (None, None)
    model = load_exportable(folder, true_token=true_token, false_token=false_token)
    pairs = [("amber", sentence(n, 2 + 3 * n)) for n in range(7)]
    with torch.inference_mode():
        return model, pairs, model.scores(pairs, lambda batch: model.graph(**batch))


@needs_onnx
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_graphs_rank_as_the_model(tiny, capsys, kind):
    from inpars.contrib.export.graphs import Session

    name, answers = KINDS[kind]
    arguments = ["export-model", "--model", tiny(name), *answers, "--triples", "t.tsv", "--threads", "1"]
    assert cli.main([*arguments, "--output", "out", "--json", "--quiet"]) == 0, capsys.readouterr().err
    results = json.loads(capsys.readouterr().out)
    assert results["kind"] == kind
    before, graph, small = results["table"]
    assert [row["form"] for row in results["table"]] == ["torch, float32", "onnx, float32", "onnx, int8"]
    assert graph["rank_correlation"] > 0.999
    assert small["rank_correlation"] > 0.5
    assert (graph["ndcg"], before["rank_correlation"]) == (before["ndcg"], 1.0)
    assert small["megabytes"] < graph["megabytes"]
    model, pairs, expected = scored(tiny(name), answers)
    assert model.scores(pairs, Session(Path("out/model.onnx"))) == pytest.approx(expected, abs=1e-3)
    if kind != "bi-encoder":
        true_token, false_token = (answers[1], answers[3]) if answers else (None, None)
        scorer = load_scorer(tiny(name), device="cpu", dtype="float32", true_token=true_token, false_token=false_token)
        assert scorer.score(pairs) == pytest.approx(expected, abs=1e-4)
    assert (Path("out/config.json").exists(), Path("out/tokenizer_config.json").exists()) == (True, True)


@needs_onnx
@pytest.mark.skipif(not importlib.util.find_spec("openvino"), reason="the extra `openvino` is not installed")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_openvinos_graph_ranks_as_the_model(tiny, capsys, kind):
    from inpars.contrib.export.graphs import OpenVinoSession

    name, answers = KINDS[kind]
    arguments = ["export-model", "--model", tiny(name), *answers, "--triples", "t.tsv", "--threads", "1", "--no-int8"]
    assert cli.main([*arguments, "--openvino", "--output", "out", "--json", "--quiet"]) == 0, capsys.readouterr().err
    row = json.loads(capsys.readouterr().out)["table"][-1]
    assert (row["form"], row["rank_correlation"] > 0.999) == ("openvino, float32", True)
    assert row["megabytes"] == round(sum(file.stat().st_size for file in Path("out").glob("openvino_*")) / 1e6, 2)
    model, pairs, expected = scored(tiny(name), answers)
    assert model.scores(pairs, OpenVinoSession(Path("out/openvino_model.xml"))) == pytest.approx(expected, abs=1e-3)


def export(model, form, *more):
    arguments = ["export-model", "--model", model, "--format", form, "--triples", "t.tsv", "--threads", "1"]
    return cli.main([*arguments, "--output", "out", "--json", "--quiet", *more])


def test_a_gguf_file_ranks_as_the_model(tiny, capsys):
    from llama_cpp import make

    found = make(Path("llama.cpp"))
    assert export(tiny("sentence_transformer"), "gguf", "--llama-cpp", str(found)) == 0, capsys.readouterr().err
    rows = json.loads(capsys.readouterr().out)["table"]
    assert [row["form"] for row in rows] == ["torch, float32", "gguf, float32", "gguf, 8-bit weights"]
    assert [row["rank_correlation"] for row in rows] == [1.0, 1.0, 1.0]
    written = [Path(f"out/model.{weights}.gguf").read_bytes() for weights in ("f32", "q8_0")]
    assert written == [b"GGUFf32", b"GGUFq8_0"]


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ({"fails": "yes"}, "could not convert the model: ERROR: Model BertModel is not supported"),
        ({"server_fails": "yes"}, "did not start with exit code 1: error: failed to load the model"),
        ({"dies": "yes"}, "llama-server ended while it embedded"),
        ({"error": 0.1}, "the exported model scores otherwise than before"),
        ({"server": False}, "no llama-server in build/bin or on the PATH"),
    ],
)
def test_a_gguf_file_that_cannot_be_made_or_ranks_otherwise_is_not_written(tiny, capsys, made, message, monkeypatch):
    from llama_cpp import make

    monkeypatch.setenv("PATH", "")
    assert export(tiny("sentence_transformer"), "gguf", "--llama-cpp", str(make(Path("llama.cpp"), **made))) == 1
    assert message in capsys.readouterr().err
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("model", "more", "message"),
    [
        ("sentence_transformer", ["gguf"], "needs --llama-cpp FOLDER"),
        ("sentence_transformer", ["gguf", "--llama-cpp", "."], "there is no convert_hf_to_gguf.py"),
        ("sentence_transformer", ["gguf", "--openvino"], "--openvino is for --format onnx"),
        ("multi_vector", ["pylate", "--llama-cpp", "."], "--llama-cpp is for --format gguf"),
        ("bert_classifier", ["gguf"], "--format gguf is for bi-encoders"),
        ("sentence_transformer", ["pylate"], "is for late-interaction retrievers"),
        pytest.param("multi_vector", ["onnx"], "which --format pylate exports", marks=needs_onnx),
    ],
)
def test_formats_are_for_some_kinds_of_models(tiny, capsys, model, more, message):
    assert export(tiny(model), *more) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("skipped", ["", "amber anchor"])
def test_a_folder_for_pylate_ranks_as_the_model_in_sentence_transformers_too(tiny, capsys, skipped):
    from sentence_transformers import MultiVectorEncoder

    folder = tiny("multi_vector", skipped=skipped)
    assert export(folder, "pylate") == 0, capsys.readouterr().err
    rows = json.loads(capsys.readouterr().out)["table"]
    assert [(row["form"], row["rank_correlation"]) for row in rows] == [("torch, float32", 1), ("pylate, float32", 1)]
    texts = [sentence(n, 2 + 3 * n) for n in range(7)]
    models = [MultiVectorEncoder(path, device="cpu") for path in (folder, "out")]
    first, second = (one.similarity(one.encode_query(["amber"]), one.encode_document(texts)) for one in models)
    assert second.numpy() == pytest.approx(first.numpy(), abs=1e-5)
    settings = json.loads(Path("out/config_sentence_transformers.json").read_text())
    assert (settings["model_type"], settings["skiplist_words"]) == ("ColBERT", skipped.split())
    modules = [module["type"] for module in json.loads(Path("out/modules.json").read_text())]
    assert modules == ["sentence_transformers.models.Transformer", "pylate.models.Dense.Dense"]


def test_what_pylate_would_do_otherwise_is_refused(tiny, capsys, tmp_path):
    folder = shutil.copytree(tiny("multi_vector"), tmp_path / "model")
    settings = folder / "config_sentence_transformers.json"
    written = json.loads(settings.read_text())
    for change, message in (
        ({"similarity_fn_name": "meanmaxsim"}, "PyLate compares by MaxSim, and this model by meanmaxsim"),
        ({"prompts": {"query": "amber anchor: ", "document": ""}}, "the prompt 'amber anchor: ' is several"),
    ):
        settings.write_text(json.dumps(written | change))
        assert export(str(folder), "pylate") == 1
        assert message in capsys.readouterr().err


def test_queries_to_check_with_are_needed(tiny, capsys):
    for more in ([], ["--triples", "t.tsv", "--dataset", "python-docs"]):
        assert cli.main(["export-model", "--model", tiny("t5"), "--output", "out", *more]) == 1
        assert "give either --dataset or --triples" in capsys.readouterr().err


@needs_onnx
def test_a_decoder_is_not_exported(tiny):
    from inpars.contrib.export.exportable import load_exportable

    with pytest.raises(ConfigError, match="is a decoder; bi-encoders, cross-encoders and monoT5s are exported"):
        load_exportable(tiny("llama"))


def test_a_graph_that_scores_otherwise_is_refused():
    _check_equal("m", [1.0, -2.0], [1.001, -2.001])
    with pytest.raises(BackendError, match=r"^m: .*scores otherwise"):
        _check_equal("m", [1.0, -2.0], [1.0, -2.1])
    with pytest.raises(BackendError, match="nan"):
        _check_equal("m", [1.0], [float("nan")])


def test_rank_correlation():
    # ranks 1 2 3 and 1 3 2: centred -1 0 1 and -1 1 0, product 1, both squares 2: 1 / 2
    assert _rank_correlation({"a": 1.0, "b": 2.0, "c": 3.0}, {"a": 1.0, "b": 9.0, "c": 5.0}) == pytest.approx(0.5)
    assert _rank_correlation({"a": 1.0, "b": 2.0}, {"a": 2.0, "b": 1.0}) == pytest.approx(-1.0)
    assert _rank_correlation({"a": 1.0, "b": 1.0}, {"a": 2.0, "b": 1.0}) == 0.0
    assert _rank_correlation({"a": 1.0, "b": 1.0}, {"a": 2.0, "b": 2.0}) == 1.0


def test_a_sample_of_a_dataset():
    dataset = load_dataset(str(TOY / "beir"))
    topics = dataset.topics("test")
    results = sample_of_dataset(dataset, topics, 2, seed=1)
    assert len(results) == min(2, len(topics.qrels))
    query_ids = {text: query_id for query_id, text in topics.queries.items()}
    for one in results:
        judged = topics.qrels[query_ids[one.query]]
        gains = {doc_id: gain for doc_id, gain in judged.items() if doc_id in dataset.corpus}
        assert one.gains[: len(gains)] == tuple(gains.values())
        assert not any(one.gains[len(gains) :])
        assert list(one.documents[: len(gains)]) == dataset.corpus.texts(gains)
        assert len(set(one.documents)) == len(one.documents) == len(one.gains)


def test_a_sample_of_triples():
    groups = [Group(f"q{n}", "p", ("n1", "n2")) for n in range(5)]
    results = sample_of_groups(groups, 3, seed=1)
    assert len({one.query for one in results}) == 3
    assert results == sample_of_groups(groups, 3, seed=1)
    assert (results[0].documents, results[0].gains) == (("p", "n1", "n2"), (1, 0, 0))
    assert len(sample_of_groups(groups, 9, seed=1)) == 5


@needs_onnx
def test_a_graph_embeds_in_the_models_dimensions_and_its_tokenizer_cuts_as_the_model(tiny, tmp_path):
    from inpars.contrib.export.exportable import load_exportable

    folder = shutil.copytree(tiny("sentence_transformer"), tmp_path / "model")
    settings = folder / "config_sentence_transformers.json"
    prompts = {"query": "query: ", "document": "passage: "}
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"truncate_dim": 8, "prompts": prompts}))
    model = load_exportable(str(folder), max_length=16)
    assert model.graph(**model.example()).shape == (4, 8)
    model.save_beside(tmp_path / "out")
    assert json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())["model_max_length"] == 16
    assert json.loads((tmp_path / "out" / settings.name).read_text())["prompts"] == prompts
    assert model.notes == [
        "texts get the model's prompts before it reads them: 'query: ' (query), 'passage: ' (document); "
        "config_sentence_transformers.json has them"
    ]
