"""Training rerankers of every kind: losses by hand, learning, adapters, saved files, errors, resuming."""

import random

import pytest
import torch
from interrupting import Interrupting
from safetensors.torch import load_file
from tiny_models import WORDS
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

from inpars.errors import BackendError, ConfigError
from inpars.progress import Silent
from inpars.prompts.templates import Example, Prompt
from inpars.rerankers import load_scorer
from inpars.rerankers.load import load_pair_model
from inpars.rerankers.pair_model import EncodedPair
from inpars.training import loop, reranker
from inpars.training.examples import Group, TripleTexts, grouped, read_triple_texts
from inpars.training.gradient_cache import cached_loss
from inpars.training.reranker import LabelledGroup, RerankerOptions, collate_groups, train_reranker

MODELS = {"cross-encoder": "bert_classifier", "causal": "llama", "query-likelihood": "llama", "monot5": "t5"}
EXACT = {"device": "cpu", "dtype": "float32"}


def groups(count=8, negatives=2):
    chooser = random.Random(3)
    texts = [[" ".join(chooser.sample(WORDS, 4)) for _ in range(2 + negatives)] for _ in range(count)]
    return [Group(query, positive, tuple(others)) for query, positive, *others in texts]


def train(tiny, kind, output, /, examples=None, progress=None, **settings):
    options = RerankerOptions(**{"model": tiny(MODELS[kind]), "kind": kind, "batch_size": 4, **EXACT} | settings)
    return train_reranker(
        examples or groups(), options, output=output, fingerprint={"settings": 1}, progress=progress or Silent()
    )[0]


def accuracy(folder, examples):
    """Share of groups whose positive ranks first."""
    scorer = load_scorer(str(folder), **EXACT)
    scores = [scorer.score(group.pairs) for group in examples]
    return sum(row[0] == max(row) for row in scores) / len(scores)


def test_a_batch_of_groups_says_where_each_pair_belongs():
    batch = collate_groups(
        [
            LabelledGroup([EncodedPair([5, 6]), EncodedPair([7])], [1.0, 0.5]),
            LabelledGroup([EncodedPair([8], 1)], [2.0]),
        ],
        pad=0,
    )
    assert {name: tensor.tolist() for name, tensor in batch.items()} == {
        "input_ids": [[5, 6], [7, 0], [8, 0]],
        "attention_mask": [[1, 1], [1, 0], [1, 0]],
        "second_tokens": [0, 0, 1],
        "group": [0, 0, 1],
        "column": [0, 1, 0],
        "relevance": [1.0, 0.5, 2.0],
    }


def test_triples_of_one_query_and_positive_become_a_group():
    rows = [
        TripleTexts("q", "p", "a"),
        TripleTexts("r", "p", "b"),
        TripleTexts("q", "p", "c"),
        TripleTexts("q", "s", "a"),
    ]
    assert grouped(rows) == [Group("q", "p", ("a", "c")), Group("r", "p", ("b",)), Group("q", "s", ("a",))]
    assert grouped(rows)[0].pairs == [("q", "p"), ("q", "a"), ("q", "c")]


@pytest.mark.parametrize("kind", MODELS)
def test_every_kind_learns_its_examples_and_is_loaded_as_what_it_is(tiny, tmp_path, kind):
    rate = {"cross-encoder": 3e-3, "monot5": 1e-2}.get(kind, 1e-2)
    curve = train(tiny, kind, tmp_path / "model", epochs=25, learning_rate=rate)
    assert curve.losses[-1] < curve.losses[0] / 3
    assert accuracy(tmp_path / "model", groups()) == 1.0
    assert not loop.checkpoint_folder(tmp_path / "model").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


def test_a_query_likelihood_keeps_the_prompt_it_was_trained_with(tiny, tmp_path):
    prompt = Prompt(name="p", form="Text: {document}\nAsks: {query}", examples=(Example("a lake", "lakes"),))
    options = RerankerOptions(model=tiny("llama"), kind="query-likelihood", epochs=0.1, batch_size=4, **EXACT)
    train_reranker(groups(), options, output=tmp_path / "model", fingerprint={}, prompt=prompt)
    model = load_pair_model(str(tmp_path / "model"), **EXACT)
    assert (model.settings()["prefix"], model.settings()["suffix"]) == (prompt.prefix, prompt.suffix)


@pytest.mark.parametrize("kind", MODELS)
def test_a_trained_model_keeps_a_cache_when_it_generates(tiny, tmp_path, kind):
    train(tiny, kind, tmp_path / "model", epochs=0.1)
    before, after = (AutoConfig.from_pretrained(folder) for folder in (tiny(MODELS[kind]), tmp_path / "model"))
    assert getattr(after, "use_cache", None) == getattr(before, "use_cache", None)


@pytest.mark.parametrize("kind", ["causal", "query-likelihood"])
def test_adapters_are_merged_into_an_ordinary_checkpoint(tiny, tmp_path, kind):
    train(tiny, kind, tmp_path / "model", learning_rate=1e-2)
    before, after = (load_file(f"{folder}/model.safetensors") for folder in (tiny("llama"), tmp_path / "model"))
    assert before.keys() == after.keys()
    changed = {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}
    assert changed == {name for name in before if "proj" in name}
    AutoModelForCausalLM.from_pretrained(tmp_path / "model")


def test_without_adapters_all_weights_are_trained(tiny, tmp_path):
    train(tiny, "causal", tmp_path / "model", learning_rate=1e-2, lora_rank=0)
    before, after = (load_file(f"{folder}/model.safetensors") for folder in (tiny("llama"), tmp_path / "model"))
    assert all(not torch.equal(tensor, after[name]) for name, tensor in before.items())


def test_an_encoder_without_a_head_becomes_a_cross_encoder_with_one_label(tiny, tmp_path):
    encoder = f"{tiny('sentence_transformer')}/../encoder"
    train(tiny, "cross-encoder", tmp_path / "model", model=encoder, kind="auto")
    assert AutoModelForSequenceClassification.from_pretrained(tmp_path / "model").config.num_labels == 1
    assert len(load_scorer(str(tmp_path / "model"), **EXACT).score([("a", "b")])) == 1


@pytest.mark.parametrize("kind", ["cross-encoder", "causal", "query-likelihood"])
def test_the_pointwise_loss_is_monot5s(tiny, tmp_path, kind):
    with pytest.raises(ConfigError, match=f"--loss pointwise is monoT5's; .* becomes a {kind} .* listwise or bce"):
        train(tiny, kind, tmp_path / "model", loss="pointwise")


def test_monot5_learns_listwise_too(tiny, tmp_path):
    curve = train(tiny, "monot5", tmp_path / "model", epochs=25, learning_rate=1e-2, loss="listwise")
    # three documents of like margins: ln 3 = 1.1 is where it starts about
    assert curve.losses[0] < 3
    assert accuracy(tmp_path / "model", groups()) == 1.0


def test_the_answers_that_are_taught_are_saved(tiny, tmp_path):
    train(tiny, "monot5", tmp_path / "model", true_token="▁yes", false_token="▁no", epochs=25, learning_rate=1e-2)
    assert accuracy(tmp_path / "model", groups()) == 1.0  # load_scorer is told no tokens
    with pytest.raises(ConfigError, match="not one token of"):
        train(tiny, "monot5", tmp_path / "other", true_token="▁yes", false_token="▁nonsense")


def test_the_length_limit_of_training_is_the_scorers(tiny, tmp_path):
    train(tiny, "cross-encoder", tmp_path / "model", max_length=16)
    scorer = load_scorer(str(tmp_path / "model"), **EXACT)
    near, far = "amber " * 20, "amber " * 20 + "lake"
    assert scorer.score([("river", near)]) == pytest.approx(scorer.score([("river", far)]), abs=1e-5)


@pytest.mark.parametrize("kind", ["cross-encoder", "causal"])
def test_the_same_settings_give_the_same_weights(tiny, tmp_path, kind):
    curves = [train(tiny, kind, tmp_path / name, epochs=2) for name in ("one", "two")]
    assert curves[0] == curves[1]
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    assert all(torch.equal(tensor, two[name]) for name, tensor in one.items())


@pytest.mark.parametrize("kind", MODELS)
def test_a_training_that_was_interrupted_goes_on_to_the_same_weights(tiny, tmp_path, monkeypatch, kind):
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", -1.0)  # after every step
    whole = train(tiny, kind, tmp_path / "whole", epochs=3)
    with pytest.raises(KeyboardInterrupt):
        train(tiny, kind, tmp_path / "model", epochs=3, progress=Interrupting(4))
    assert not (tmp_path / "model").exists()
    progress = Interrupting()
    curve = train(tiny, kind, tmp_path / "model", epochs=3, progress=progress)
    assert progress.step == 3, "of six steps three were done when the fourth was interrupted"
    assert any("resuming from" in note for note in progress.notes)
    assert (curve.steps, curve.losses) == (whole.steps, pytest.approx(whole.losses, abs=1e-4))
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "model"))
    assert all(torch.allclose(tensor, two[name], atol=1e-6) for name, tensor in one.items())


@pytest.mark.parametrize("kind", MODELS)
def test_parts_side_by_side_learn_the_same(tiny, tmp_path, monkeypatch, use_threads, kind):
    seen, whole = [], reranker.parallel_loss

    def watched(*arguments):
        seen.append(True)
        return whole(*arguments)

    monkeypatch.setattr(reranker, "parallel_loss", watched)
    curves = []
    for threads in (1, 2):
        use_threads(threads)
        curves.append(train(tiny, kind, tmp_path / str(threads), groups(16), batch_size=16, dtype="bfloat16").losses)
    assert bool(seen) == (kind in ("cross-encoder", "monot5")), "the others hold a state while they compute"
    assert curves[0] == pytest.approx(curves[1], rel=0.1, abs=0.02)


@pytest.mark.parametrize("kind", MODELS)
def test_less_memory_gives_the_same_weights(tiny, tmp_path, monkeypatch, kind):
    asked, turn_on = [], reranker.with_less_memory
    monkeypatch.setattr(reranker, "with_less_memory", lambda network: asked.append(turn_on(network)))
    for name in ("plain", "less"):
        train(tiny, kind, tmp_path / name, lora_rank=0, gradient_checkpointing=name == "less")
    assert len(asked) == 1
    plain, less = (load_file(tmp_path / name / "model.safetensors") for name in ("plain", "less"))
    assert all(torch.allclose(tensor, less[name], atol=1e-5) for name, tensor in plain.items())


def test_training_that_diverges_is_an_error_and_saves_nothing(tiny, tmp_path, monkeypatch):
    monkeypatch.setitem(reranker.FUNCTIONS, "listwise", lambda tables: tables.margins.sum() * torch.nan)
    with pytest.raises(BackendError, match=r"step 1 is nan.*--learning-rate"):
        train(tiny, "cross-encoder", tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_new_head_depends_on_the_seed_alone(tiny, tmp_path):
    settings = {"model": f"{tiny('sentence_transformer')}/../encoder", "learning_rate": 1e-9, "max_steps": 1}
    heads = []
    for number, seed in enumerate((1, 1, 2)):
        torch.rand(number)  # what the process drew before does not matter
        train(tiny, "cross-encoder", tmp_path / str(number), seed=seed, **settings)
        heads.append(load_file(tmp_path / str(number) / "model.safetensors")["classifier.weight"])
    assert torch.allclose(heads[0], heads[1], atol=1e-6)
    assert not torch.allclose(heads[0], heads[2], atol=1e-3)


def test_new_adapters_depend_on_the_seed_alone(tiny):
    adapters = []
    for number, seed in enumerate((1, 1, 2)):
        torch.rand(number)
        network = loop.with_adapters(AutoModelForCausalLM.from_pretrained(tiny("llama")), 4, seed)
        adapters.append(next(weight for name, weight in network.named_parameters() if "lora_A" in name))
    assert torch.equal(adapters[0], adapters[1])
    assert not torch.equal(adapters[0], adapters[2])


@pytest.mark.parametrize("name", ["query\tpositive\tnegative", "anchor\tpositive\tnegative", "Query\tpos\tneg"])
def test_a_header_is_no_triple(tmp_path, name):
    path = tmp_path / "t.tsv"
    path.write_text(f"{name}\na\tb\tc\n", encoding="utf-8")
    assert read_triple_texts(path) == [TripleTexts("a", "b", "c")]


def test_only_as_many_triples_are_read_as_wanted(tmp_path):
    path = tmp_path / "t.tsv"
    path.write_text("a\tb\tc\n" * 2 + "torn\n", encoding="utf-8")
    assert len(read_triple_texts(path, 2)) == 2


@pytest.mark.parametrize(("name", "line"), [("t.tsv", "1048585\t7187158\t3\n"), ("t.ids.tsv", "q1\td2\td3\n")])
def test_ids_are_no_texts(tmp_path, name, line):
    path = tmp_path / name
    path.write_text(line, encoding="utf-8")
    with pytest.raises(ConfigError, match=f"{name} holds ids.*texts"):
        read_triple_texts(path)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", MODELS)
def test_a_step_whose_graphs_exceed_the_memory_learns_the_same_part_by_part(tiny, tmp_path, monkeypatch, kind, dtype):
    used = []
    monkeypatch.setattr(reranker, "cached_loss", lambda *parts: used.append(1) or cached_loss(*parts))
    monkeypatch.setattr(reranker, "ROWS_ON_CPU", 2)
    curves = []
    for memory in (2**40, 1000):
        monkeypatch.setattr(reranker, "memory_bytes", lambda memory=memory: memory)
        curves.append(train(tiny, kind, tmp_path / f"{memory}", epochs=4, learning_rate=3e-3, dtype=dtype).losses)
        assert bool(used) == (memory == 1000)
    first = slice(4)  # later ones are small and add rounding up
    assert curves[1][first] == pytest.approx(curves[0][first], rel=1e-3 if dtype == "float32" else 0.05)
    assert curves[1][-1] < curves[1][0]
