"""Names that are not models: every command says so in one line, before anything large is read."""

import os
import shutil
import sys
from pathlib import Path

import pytest

from inpars.cli import main as cli
from inpars.rerankers.load import load_pair_model
from inpars.rerankers.pair_model import save_pair_model
from inpars.stages import stage

TOY = Path(__file__).parents[1] / "data" / "toy"
DATA = ("--corpus", str(TOY / "corpus.tsv"))
SEARCHED = (*DATA, "--queries", str(TOY / "queries.tsv"))
SYNTHETIC = str(TOY / "queries.synthetic.jsonl")
OUT = ("--output", "out", "--quiet")
COMMANDS = {
    "generate": ["generate", *DATA, *OUT, "--model"],
    "score": ["score", *DATA, "--input", SYNTHETIC, *OUT, "--model"],
    "score pairs": ["score", *DATA, "--input", SYNTHETIC, *OUT, "--kind", "reranker", "--model"],
    "rerank": ["rerank", *SEARCHED, "--run", str(TOY / "run.trec"), *OUT, "--model"],
    "rerank window": [
        *("rerank", *SEARCHED, "--run", str(TOY / "run.trec"), *OUT, "--windows", "nearest", "--window-retriever")
    ],
    "search": ["search", *SEARCHED, *OUT, "--retriever"],
    "search typed": ["search", "lakes", *DATA, "--quiet", "--retriever"],
    "search reranked": ["search", "lakes", *DATA, "--quiet", "--retriever", "minilm", "--reranker"],
    "triples": ["triples", *DATA, "--input", SYNTHETIC, *OUT, "--rescore"],
    "audit": ["audit", *DATA, "--triples", "t.tsv", *OUT, "--model"],
    "train retriever": ["train", "retriever", "--triples", "t.tsv", *OUT, "--model"],
    "train reranker": ["train", "reranker", "--triples", "t.tsv", *OUT, "--model"],
    "train teacher": ["train", "reranker", "--triples", "t.tsv", *OUT, "--teacher"],
    "train reader": ["train", "reader", "--squad", "squad.json", *OUT, "--model"],
    "ask": ["ask", "what is a lake", *DATA, "--quiet", "--retriever"],
    "ask reader": ["ask", "what is a lake", *DATA, "--quiet", "--reader"],
    "serve": ["serve", *DATA, "--port", "0", "--quiet", "--retriever"],
    "serve reranker": ["serve", *DATA, "--port", "0", "--quiet", "--reranker"],
    "index": ["index", "build", *DATA, "--index", "index", "--quiet", "--retriever"],
    "export-model": ["export-model", "--triples", "t.tsv", *OUT, "--model"],
    "deploy folder": ["deploy", "folder", *OUT, "--model"],
    "deploy archive": ["deploy", "archive", "--output", "out.tar.gz", "--quiet", "--model"],
}
SQUAD = (
    '{"data": [{"title": "a", "paragraphs": [{"context": "amber lake", "qas": [{"id": "1", "question": "which lake", '
    '"answers": [{"text": "amber", "answer_start": 0}]}]}]}]}'
)


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INPARS_CACHE", str(tmp_path / "cache"))
    Path("t.tsv").write_text("amber\tamber lake\tforest\nriver\triver bank\tdesert\n", encoding="utf-8")
    Path("squad.json").write_text(SQUAD, encoding="utf-8")


@pytest.fixture
def message(capsys):
    """Runs a command that must fail, and returns its one line."""

    def run(*arguments):
        capsys.readouterr()  # of the fixtures
        assert cli.main([str(argument) for argument in arguments]) == 1
        err = capsys.readouterr().err
        assert err.startswith("inpars: ")
        assert err.count("\n") == 1
        assert len(err) < 500
        return err

    return run


def a_file(folder, tiny):
    path = folder / "notes.txt"
    path.write_text("no model", encoding="utf-8")
    return path, path


def empty(folder, tiny):
    (folder / "empty").mkdir()
    return folder / "empty", folder / "empty"


def other_things(folder, tiny):
    (folder / "photos").mkdir()
    (folder / "photos" / os.fsdecode(b"caf\xe9.jpg")).write_bytes(b"x")
    return folder / "photos", folder / "photos"


def absent(folder, tiny):
    return folder / "absent", folder / "absent"


def changed(name, content):
    """A model with one file that holds something else."""

    def make(folder, tiny):
        shutil.copytree(tiny("bert_classifier"), folder / "model")
        (folder / "model" / name).write_bytes(content)
        return folder / "model", folder / "model" / name

    return make


def torn(folder, tiny):
    shutil.copytree(tiny("bert_classifier"), folder / "model")
    weights = folder / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    return folder / "model", weights


NO_MODELS = {
    "a file": a_file,
    "an empty folder": empty,
    "another folder": other_things,
    "nothing": absent,
    "a broken config": changed("config.json", b'{"model_type": '),
    "a deep config": changed("config.json", b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "a list for a config": changed("config.json", b"[]"),
    "a config that is not UTF-8": changed("config.json", b'{"a": "\xff"}'),
    "a broken tokenizer": changed("tokenizer_config.json", b"{"),
    "torn weights": torn,
    "no weights": changed("model.safetensors", b"\xff" * 50),
    "empty weights": changed("model.safetensors", b""),
}


@pytest.mark.parametrize("what", NO_MODELS)
@pytest.mark.parametrize("command", ["rerank", "train reranker", "deploy folder"])
def test_every_kind_of_no_model_is_one_line_that_names_it(message, tiny, tmp_path, command, what):
    model, named = NO_MODELS[what](tmp_path, tiny)
    assert str(named) in message(*COMMANDS[command], model)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_looks_before_it_reads(message, tiny, tmp_path, command, monkeypatch):
    monkeypatch.setattr(stage.manifests, "stamp", only_files(stage.manifests.stamp))
    for make in (other_things, NO_MODELS["a deep config"], a_file):
        model, named = make(tmp_path, tiny)
        assert str(named) in message(*COMMANDS[command], model).encode("utf-8", "backslashreplace").decode()
    assert not (tmp_path / "out").exists()


def only_files(stamp):
    def checked(path, *more):
        assert not Path(path).is_dir(), "a folder that is no model was hashed"
        return stamp(path, *more)

    return checked


@pytest.mark.skipif(sys.platform == "darwin", reason="its file systems take UTF-8 alone")
@pytest.mark.parametrize("command", ["rerank", "deploy folder", "train reranker"])
def test_names_that_are_not_utf8_are_taken(tiny, tmp_path, capsys, command):
    model = tmp_path / "modèle un"
    shutil.copytree(tiny("bert_classifier"), model)
    (model / os.fsdecode(b"caf\xe9.txt")).write_text("note", encoding="utf-8")
    for _ in range(2):
        assert cli.main([*COMMANDS[command], str(model)]) == 0, capsys.readouterr().err
    assert (tmp_path / "out").exists()
    if command == "rerank":
        assert {len(line.split()) for line in (tmp_path / "out").read_text(encoding="utf-8").splitlines()} == {6}


@pytest.mark.parametrize(
    "device", ["mps", "cuda:7", "xpu", "cuda:999", "meta", "hpu", "cpu:1", "GPU", "nonsense", "", "cuda:x"]
)
@pytest.mark.parametrize("command", ["rerank", "train retriever", "search"])
def test_a_device_that_is_not_here_is_one_line_that_names_those_that_are(message, tiny, command, device, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    model = tiny("bert_classifier" if command == "rerank" else "sentence_transformer")
    line = message(*COMMANDS[command], model, "--device", device)
    assert repr(device) in line
    assert "auto, cpu, cuda, cuda:0, cuda:1" in line


@pytest.mark.skipif(sys.platform == "darwin", reason="its file systems take UTF-8 alone")
@pytest.mark.parametrize("command", ["rerank", "deploy folder", "train reranker"])
def test_a_place_that_safetensors_cannot_open_is_said_at_once(message, tiny, tmp_path, command):
    place = tmp_path / os.fsdecode(b"caf\xe9")
    shutil.copytree(tiny("bert_classifier"), place / "model")
    assert "caf\\udce9" in message(*COMMANDS[command], place / "model")
    if command != "rerank":
        assert "caf\\udce9" in message(*COMMANDS[command], tiny("bert_classifier"), "--output", place / "out")


@pytest.mark.parametrize("command", ["deploy folder", "train reranker"])
def test_a_tokenizer_that_its_library_cannot_read_is_one_line(message, tiny, tmp_path, command):
    model, _ = changed("tokenizer.json", b'{"version": "1.0"')(tmp_path, tiny)
    assert str(model) in message(*COMMANDS[command], model)


@pytest.mark.parametrize("command", ["search", "index", "train retriever"])
def test_a_reranker_is_no_bi_encoder(message, tiny, tmp_path, command):
    save_pair_model(load_pair_model(tiny("bert_classifier"), device="cpu", dtype="float32"), tmp_path / "reranker")
    line = message(*COMMANDS[command], tmp_path / "reranker")
    assert str(tmp_path / "reranker") in line
    assert "cross-encoder" in line


def test_a_reader_is_not_deployed_as_a_bi_encoder(message, tiny):
    assert tiny("bert_reader") in message(*COMMANDS["deploy folder"], tiny("bert_reader"))


def test_a_head_that_would_be_random_ranks_nothing(message, tiny):
    model = f"{tiny('sentence_transformer')}/../encoder"
    assert f"`inpars train reranker --model {model}`" in message(*COMMANDS["rerank"], model)


@pytest.mark.parametrize(
    ("command", "kind", "fitting"),
    [
        ("sentence_transformer", "monot5", "cross-encoder"),
        ("sentence_transformer", "causal", "cross-encoder"),
        ("sentence_transformer", "query-likelihood", "cross-encoder"),
        ("t5", "causal", "monot5"),
        ("llama", "monot5", "query-likelihood"),
    ],
)
def test_a_kind_that_a_model_cannot_become_is_one_line_that_names_those_it_can(message, tiny, command, kind, fitting):
    model = tiny(command)
    line = message(*COMMANDS["train reranker"], model, "--kind", kind)
    assert model in line
    assert fitting in line.partition("supports only: ")[2]
    assert kind not in line.partition("supports only: ")[2]


def test_a_misspelt_bm25_is_guessed(message):
    assert "did you mean 'bm25'?" in message(*COMMANDS["search"], "bm52")


@pytest.mark.parametrize("name", ["gpt-4o-mini", "o3-mini", "claude-sonnet-4-5", "gemini-2.5-flash"])
def test_a_servers_model_without_a_server_is_said_before_torch_is_there(message, name, monkeypatch):
    from inpars.stages import generate as generate_stage

    monkeypatch.setattr(generate_stage, "load_generator", lambda *_: pytest.fail("torch would be imported"))
    line = message(*COMMANDS["generate"], name)
    assert name in line
    assert "--backend chat" in line
    assert "--base-url" in message("ask", "what is a lake", *DATA, "--quiet", "--retriever", "minilm", "--model", name)
