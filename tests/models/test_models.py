"""Loading models by name, and the errors."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from inpars.errors import (
    BackendError,
    ConfigError,
    DataFormatError,
    InparsError,
    MissingDependencyError,
    UnknownNameError,
)
from inpars.models import loading as models
from inpars.models.folders import EMBEDDED, EmbeddedModel, check_output
from inpars.models.retrievers import averages_token_states

CPU = {"device": torch.device("cpu"), "dtype": torch.float32}
LOADERS = {
    "llama": models.load_causal_lm,
    "t5": models.load_seq2seq,
    "bert_classifier": models.load_sequence_classifier,
    "sentence_transformer": models.load_sentence_transformer,
}


def message(caught):
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 400
    return text


@pytest.mark.parametrize("name", ["nobody/nothing", "castorini/monot5-base-msmarco"])
@pytest.mark.parametrize("load", [*LOADERS.values()], ids=LOADERS)
def test_an_unknown_name_without_a_network_is_one_line(load, name):
    with pytest.raises(UnknownNameError) as caught:
        load(name, **CPU)
    assert f"unknown model {name!r}" in message(caught)
    assert "known: gemma3-270m, minilm, smollm2-135m" in message(caught)
    assert "the model hub said: " in message(caught)


def test_a_misspelt_embedded_name_is_guessed_without_asking_the_hub(monkeypatch):
    monkeypatch.setattr(models.AutoConfig, "from_pretrained", lambda *_, **__: pytest.fail("asked"))
    with pytest.raises(UnknownNameError, match="did you mean 'smollm2-135m'"):
        models.load_config("smollm2-135")


@pytest.mark.parametrize("load", [models.load_config, models.load_tokenizer])
def test_configurations_and_tokenizers_alone_say_it_too(load):
    with pytest.raises(UnknownNameError, match="unknown model 'nobody/nothing'"):
        load("nobody/nothing")


@pytest.mark.parametrize(
    "name", ["/no/such/folder", "./models/mine", "~/nowhere-at-all", "runs/7/model", "", "/no/x.gguf"]
)
def test_a_path_that_is_absent_is_not_looked_for_on_the_hub(name):
    with pytest.raises(DataFormatError, match="no such model folder") as caught:
        models.resolve_model(name)
    assert name in message(caught)


def test_what_may_be_a_hub_id_stays_as_it_is():
    assert [models.resolve_model(name) for name in ("gpt2", "owner/name")] == ["gpt2", "owner/name"]


def test_a_folder_without_a_model_is_named(tmp_path):
    (tmp_path / "notes.txt").write_text("none", encoding="utf-8")
    with pytest.raises(DataFormatError, match=r"no model .*config.json") as caught:
        models.load_causal_lm(str(tmp_path), **CPU)
    assert str(tmp_path) in message(caught)


def test_a_folder_is_found_from_where_one_stands(tiny, tmp_path, monkeypatch):
    shutil.copytree(tiny("llama"), tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    assert models.resolve_model("mine") == "mine"
    network, tokenizer = models.load_causal_lm("mine", **CPU)
    assert (network.training, network.dtype, len(tokenizer)) == (False, torch.float32, 384)


def pickled(folder, tmp_path, weights=None):
    """The model with pickled weights, like many older checkpoints."""
    copy = tmp_path / "pickled"
    shutil.copytree(folder, copy)
    (safe,) = copy.rglob("model.safetensors")
    torch.save(load_file(safe) if weights is None else weights, safe.with_name("pytorch_model.bin"))
    safe.unlink()
    return copy


@pytest.mark.parametrize("kind", ["llama", "t5", "bert_classifier"])
def test_pickled_weights_are_the_same_weights(tiny, tmp_path, kind):
    folder = pickled(tiny(kind), tmp_path)
    first, second = (LOADERS[kind](str(name), **CPU)[0].state_dict() for name in (tiny(kind), folder))
    assert all(torch.equal(weight, second[name]) for name, weight in first.items())
    assert not (folder / "model.safetensors").exists(), "nor are they converted behind the user's back"


def test_pickled_bi_encoders_give_the_same_vectors(tiny, tmp_path):
    folder = pickled(tiny("sentence_transformer"), tmp_path)
    first, second = (
        models.load_sentence_transformer(str(name), **CPU).encode(["snow town"])
        for name in (tiny("sentence_transformer"), folder)
    )
    assert (first == second).all()


@pytest.mark.parametrize("size", [4, 2000])
def test_torn_pickles_are_named(tiny, tmp_path, size):
    (weights,) = pickled(tiny("t5"), tmp_path).glob("*.bin")
    weights.write_bytes(weights.read_bytes()[:size])
    with pytest.raises(BackendError, match="are torn") as caught:
        models.load_seq2seq(str(weights.parent), **CPU)
    assert str(weights.parent) in message(caught)


def test_pickles_beside_safetensors_are_not_blamed(tiny, tmp_path, monkeypatch):
    folder = pickled(tiny("t5"), tmp_path)
    shutil.copy(Path(tiny("t5")) / "model.safetensors", folder)

    def fails(*_, **__):
        raise RuntimeError("size mismatch for shared.weight")

    monkeypatch.setattr(models.AutoModelForSeq2SeqLM, "from_pretrained", fails)
    with pytest.raises(BackendError, match="size mismatch"):
        models.load_seq2seq(str(folder), **CPU)


class Harmful:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("kind", ["t5", "sentence_transformer"])
def test_a_pickle_that_would_run_something_is_refused(tiny, tmp_path, kind):
    folder = pickled(tiny(kind), tmp_path, weights={"shared.weight": Harmful(tmp_path / "run")})
    load = LOADERS.get(kind, models.load_sentence_transformer)
    with pytest.raises(BackendError, match=re.escape(str(folder))) as caught:
        load(str(folder), **CPU)
    assert "could run code" in message(caught)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.json", "{"),
        ("config.json", "{}"),
        ("config.json", '{"model_type": "of tomorrow"}'),
        ("model.safetensors", "x"),
    ],
)
def test_a_broken_folder_is_one_line(tiny, tmp_path, file, content):
    folder = tmp_path / "broken"
    shutil.copytree(tiny("llama"), folder)
    (folder / file).write_text(content, encoding="utf-8")
    with pytest.raises(InparsError) as caught:
        models.load_causal_lm(str(folder), **CPU)
    assert str(folder) in message(caught)


def test_a_tokenizer_that_needs_another_package_is_one_line(tiny, tmp_path):
    folder = tmp_path / "slow"
    shutil.copytree(tiny("t5"), folder)
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "T5Tokenizer"}', encoding="utf-8")
    (folder / "spiece.model").write_bytes(b"no sentencepiece model")
    with pytest.raises(BackendError, match="cannot be loaded") as caught:
        models.load_seq2seq(str(folder), **CPU)
    message(caught)


def test_a_folder_of_another_kind_of_model_is_one_line(tiny):
    with pytest.raises(BackendError, match=r"model '.*' cannot be loaded: ") as caught:
        models.load_seq2seq(tiny("llama"), **CPU)
    message(caught)


def test_code_that_comes_with_a_model_is_not_run(tiny, tmp_path):
    folder = tmp_path / "with-code"
    shutil.copytree(tiny("llama"), folder)
    (folder / "config.json").write_text(
        '{"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config", "AutoModelForCausalLM": "mine.Model"}}',
        encoding="utf-8",
    )
    (folder / "mine.py").write_text("raise SystemExit('ran')", encoding="utf-8")
    with pytest.raises(BackendError, match=r"code of its own; .*--trust-remote-code") as caught:
        models.load_causal_lm(str(folder), **CPU)
    message(caught)


def test_an_embedded_model_that_is_not_installed_comes_with_its_pip_line(monkeypatch):
    absent = EmbeddedModel("absent", (("no_such_package_at_all", "x.gguf"),), "pip install absent", "to test", "MIT")
    monkeypatch.setitem(EMBEDDED, "absent", absent)
    with pytest.raises(MissingDependencyError, match="with: pip install absent"):
        models.resolve_model("absent")
    assert not absent.installed


def test_a_file_that_is_no_gguf_is_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("INPARS_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "broken.gguf"
    path.write_bytes(b"GGUF" + b"\0" * 40)
    with pytest.raises(BackendError, match=r"broken.gguf: cannot be read .*GGUF") as caught:
        models.load_causal_lm(str(path), **CPU)
    message(caught)
    assert list((tmp_path / "cache" / "models").iterdir()) == []


def test_a_plain_encoder_becomes_a_bi_encoder_with_mean_pooling(tiny):
    encoder = models.load_sentence_transformer(f"{tiny('sentence_transformer')}/../encoder", **CPU)
    whole = models.load_sentence_transformer(tiny("sentence_transformer"), **CPU)
    texts = ["amber river", "lake"]
    assert torch.allclose(
        encoder.encode(texts, convert_to_tensor=True), whole.encode(texts, convert_to_tensor=True), atol=1e-5
    )
    assert not whole.training


def test_an_encoder_writes_nothing(tiny):
    # transformers would give it a head of random weights
    with pytest.raises(ConfigError, match=r"is a bert: .* give a decoder"):
        models.load_causal_lm(tiny("bert_classifier"), **CPU)


def test_bfloat16_is_bfloat16(tiny):
    network, _ = models.load_causal_lm(tiny("llama"), device=torch.device("cpu"), dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in network.parameters()} == {torch.bfloat16}


def test_a_head_the_checkpoint_lacks_has_as_many_labels_as_asked_for(tiny):
    network, _ = models.load_sequence_classifier(
        f"{tiny('sentence_transformer')}/../encoder", **CPU, num_labels=2, new_head=True
    )
    assert network.config.num_labels == 2


def test_an_encoder_that_averages_its_token_states_is_known(tiny, tmp_path):
    folder = shutil.copytree(tiny("sentence_transformer"), tmp_path / "encoder")
    assert averages_token_states("minilm")
    assert averages_token_states(str(folder))
    pooling = folder / "1_Pooling" / "config.json"
    values = json.loads(pooling.read_text())
    by_flag = {name: name.endswith("cls_token") for name in values if name.startswith("pooling_mode_")}
    by_name = {"pooling_mode": "cls"} if "pooling_mode" in values else {}
    pooling.write_text(json.dumps(values | by_flag | by_name))
    assert not averages_token_states(str(folder))
    assert not averages_token_states(tiny("multi_vector"))
    assert not averages_token_states(tiny("bert_classifier"))


def test_an_adapter_alone_is_named(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(DataFormatError, match="LoRA adapter alone"):
        models.load_causal_lm(str(tmp_path), **CPU)


@pytest.mark.parametrize("name", ["keep.txt", "other/model.safetensors"])
def test_a_folder_of_other_files_is_no_output(tmp_path, name):
    check_output(tmp_path / "new")
    check_output(tmp_path)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    with pytest.raises(ConfigError, match=f"other files, such as .{name.partition('/')[0]}"):
        check_output(tmp_path)
    with pytest.raises(ConfigError, match="is a file"):
        check_output(tmp_path / name)
    (tmp_path / "config.json").touch()
    check_output(tmp_path)


@pytest.mark.parametrize("kind", ["t5", "bert_classifier", "sentence_transformer"])
def test_a_folder_without_a_tokenizer_is_named(tiny, tmp_path, kind):
    folder = shutil.copytree(tiny(kind), tmp_path / "model")
    for path in folder.glob("*token*"):
        path.unlink()
    with pytest.raises(BackendError, match="has no vocabulary") as caught:  # transformers makes up an empty one
        LOADERS[kind](str(folder), **CPU)
    message(caught)


@pytest.mark.parametrize(("prefix", "new_head"), [("module.", True), ("module.", False), ("", False)])
def test_weights_that_would_be_random_are_named(tiny, tmp_path, prefix, new_head):
    folder = shutil.copytree(tiny("bert_classifier"), tmp_path / "model")
    weights = {f"{prefix}{name}": tensor for name, tensor in load_file(folder / "model.safetensors").items()}
    kept = {name: tensor for name, tensor in weights.items() if prefix or not name.startswith("classifier")}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BackendError, match=r"lacks \d+ of its weights") as caught:
        models.load_sequence_classifier(str(folder), **CPU, new_head=new_head)
    message(caught)
    if not prefix:
        models.load_sequence_classifier(str(folder), **CPU, new_head=True)


def test_a_gguf_file_written_again_is_converted_again(tmp_path, monkeypatch):
    monkeypatch.setenv("INPARS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(models, "_convert", lambda parts, working, _: shutil.copy(parts[0], working / "config.json"))
    path, found = tmp_path / "model.gguf", []
    for number, text in enumerate(("{}", "[]")):
        path.write_text(text, encoding="utf-8")
        os.utime(path, (number, number))
        found.append((Path(models.resolve_model(str(path))) / "config.json").read_text(encoding="utf-8"))
    assert found == ["{}", "[]"]
