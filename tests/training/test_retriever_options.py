"""Options of retriever training: losses, teachers, dimensions, prefixes, pooling, adapters, memory."""

import json
import random
import re
import shutil

import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from tiny_models import WORDS

from inpars.errors import ConfigError
from inpars.models.loading import load_sentence_transformer
from inpars.progress import Silent
from inpars.retrieval.dense import Encoder
from inpars.stages.train import train_retriever_from_file
from inpars.training import retriever
from inpars.training.examples import TripleTexts
from inpars.training.retriever import RetrieverOptions, train_retriever
from inpars.training.validation import DevSet

COUNT = 16


class Notes(Silent):
    """Keeps its notes."""

    def __init__(self):
        self.notes = []

    def note(self, message):
        self.notes.append(message)


def rows():
    chooser = random.Random(9)
    return [TripleTexts(*(" ".join(chooser.sample(WORDS, count)) for count in (2, 6, 9))) for _ in range(COUNT)]


def margins():
    return {row: float(n % 5 - 1) for n, row in enumerate(rows())}


def train(tiny, output, *, kind="sentence_transformer", margins=None, dev=None, progress=None, **settings):
    settings = {"batch_size": 8, "learning_rate": 5e-3, "device": "cpu", "dtype": "float32"} | settings
    options = RetrieverOptions(model=tiny(kind), **settings)
    retriever.check_retriever(options)
    progress = progress or Silent()
    return train_retriever(rows(), options, output=output, fingerprint={}, margins=margins, dev=dev, progress=progress)[
        0
    ]


def weights(folder):
    return load_file(next(folder.rglob("model.safetensors")))


def same(one, two, atol=1e-6):
    ours, theirs = weights(one), weights(two)
    return ours.keys() == theirs.keys() and all(torch.allclose(ours[n], theirs[n], atol=atol) for n in ours)


def loaded(folder):
    return SentenceTransformer(str(folder), device="cpu")


GOLDEN = {
    "mnrl": [3.29623, 2.96134, 2.38398],
    "cached-mnrl": [3.29623, 2.96134, 2.38398],
    "margin-mse": [0.02985, 0.10542, 0.02941],
}


@pytest.mark.parametrize("loss", GOLDEN)
def test_golden_losses_of_three_steps(tiny, tmp_path, loss):
    given = margins() if loss == "margin-mse" else None
    curve = train(tiny, tmp_path / "model", loss=loss, margins=given, max_steps=3)
    assert (curve.steps, curve.losses) == ([1, 2, 3], pytest.approx(GOLDEN[loss], rel=1e-3))


@pytest.mark.parametrize("size", [3, 64])
def test_the_cached_loss_goes_the_way_of_the_plain_one_at_any_mini_batch_size(tiny, tmp_path, size):
    settings = {"batch_size": 16, "max_steps": 3}
    plain = train(tiny, tmp_path / "plain", **settings)
    cached = train(tiny, tmp_path / "cached", loss="cached-mnrl", mini_batch_size=size, **settings)
    assert cached.losses == pytest.approx(plain.losses, rel=1e-3)
    assert plain.losses[2] < plain.losses[0]


def test_the_teachers_margins_are_brought_to_the_students_spread(tiny, tmp_path):
    model = loaded(tiny("sentence_transformer"))
    queries, positives, negatives = (
        model.encode([getattr(row, field) for row in rows()], convert_to_tensor=True, normalize_embeddings=True)
        for field in ("query", "positive", "negative")
    )
    students = (queries * (positives - negatives)).sum(dim=1)
    scale = float(students.std() / torch.tensor(list(margins().values())).std())
    progress = Notes()
    (first,) = train(
        tiny, tmp_path / "model", loss="margin-mse", margins=margins(), batch_size=COUNT, progress=progress
    ).losses
    assert progress.notes == [f"train retriever: the teacher's margins are multiplied by {scale:.4g} (--margin-scale)"]
    targets = scale * torch.tensor(list(margins().values()))
    assert first == pytest.approx((students - targets).square().mean().item(), rel=1e-3)
    given = train(tiny, tmp_path / "given", loss="margin-mse", margins=margins(), batch_size=COUNT, margin_scale=0.1)
    targets = 0.1 * torch.tensor(list(margins().values()))
    assert given.losses == [pytest.approx((students - targets).square().mean().item(), rel=1e-3)]


def test_margin_mse_teaches_the_teachers_margins(tiny, tmp_path):
    curve = train(tiny, tmp_path / "model", loss="margin-mse", margins=margins(), epochs=15)
    assert curve.losses[-1] < curve.losses[0] / 3


def test_margins_that_do_not_differ_are_an_error(tiny, tmp_path):
    with pytest.raises(ConfigError, match="give --margin-scale"):
        train(tiny, tmp_path / "model", loss="margin-mse", margins=dict.fromkeys(rows(), 1.0))


def test_matryoshka_trains_the_leading_dimensions(tiny, tmp_path):
    def worst(folder):
        """The lowest cosine of a query and its positive in 4 dimensions."""
        model = SentenceTransformer(str(folder), device="cpu", truncate_dim=4)
        queries, positives = (model.encode([getattr(row, field) for row in rows()]) for field in ("query", "positive"))
        return model.similarity_pairwise(queries, positives).min().item()

    train(tiny, tmp_path / "plain", epochs=8, negatives=False)
    train(tiny, tmp_path / "model", epochs=8, negatives=False, matryoshka_dims="32,4")
    assert worst(tmp_path / "model") > worst(tmp_path / "plain")


@pytest.mark.parametrize("dims", ["33", "32,x", "0"])
def test_dimensions_that_make_no_sense_are_an_error(tiny, tmp_path, dims):
    with pytest.raises(ConfigError, match="--matryoshka-dims is"):
        train(tiny, tmp_path / "model", matryoshka_dims=dims)


def test_prefixes_are_trained_with_and_saved_as_prompts(tiny, tmp_path):
    prefixed = {"query_prefix": "amber: ", "document_prefix": "zebra: "}
    (loss,) = train(tiny, tmp_path / "model", batch_size=COUNT, **prefixed).losses
    start = loaded(tiny("sentence_transformer"))
    queries = start.encode(["amber: " + row.query for row in rows()], convert_to_tensor=True)
    texts = ["zebra: " + row.positive for row in rows()] + ["zebra: " + row.negative for row in rows()]
    table = 20 * start.similarity(queries, start.encode(texts, convert_to_tensor=True))
    assert loss == pytest.approx(-table.log_softmax(1).diagonal().mean().item(), abs=1e-3)
    model = loaded(tmp_path / "model")
    assert (model.prompts["query"], model.prompts["document"]) == ("amber: ", "zebra: ")
    encoder = Encoder(str(tmp_path / "model"), device="cpu", dtype="float32")
    plain = model.encode(["zebra: river"], prompt="", normalize_embeddings=True)
    assert encoder.encode_documents(["river"]) == pytest.approx(plain, abs=1e-5)
    assert encoder.encode_queries(["river"]) != pytest.approx(plain, abs=1e-2)


def test_a_models_own_prompts_are_trained_with(tiny, tmp_path):
    train(tiny, tmp_path / "one", query_prefix="amber: ", document_prefix="zebra: ", max_steps=1)
    options = RetrieverOptions(model=str(tmp_path / "one"), batch_size=COUNT, device="cpu", dtype="float32")
    (own,) = train_retriever(rows(), options, output=tmp_path / "two", fingerprint={})[0].losses
    options = RetrieverOptions(
        model=str(tmp_path / "one"), batch_size=COUNT, device="cpu", dtype="float32", query_prefix=""
    )
    (other,) = train_retriever(rows(), options, output=tmp_path / "three", fingerprint={})[0].losses
    assert abs(own - other) > 1e-3
    assert loaded(tmp_path / "three").prompts["query"] == ""


@pytest.mark.parametrize(("pooling", "mode"), [("mean", "mean"), ("cls", "cls"), ("last", "lasttoken")])
def test_a_plain_encoder_is_saved_with_its_pooling(tiny, tmp_path, pooling, mode):
    train(tiny, tmp_path / "model", kind="bert_classifier", pooling=pooling, max_steps=2)
    modules = json.loads((tmp_path / "model" / "modules.json").read_text())
    folder = next(module["path"] for module in modules if module["type"].endswith("Pooling"))
    saved = json.loads((tmp_path / "model" / folder / "config.json").read_text())
    assert mode in json.dumps(saved)
    assert loaded(tmp_path / "model")[1].pooling_mode == mode


def test_adapters_are_merged(tiny, tmp_path):
    curve = train(tiny, tmp_path / "model", lora_rank=4, epochs=10)
    start, tuned = weights_of(tiny("sentence_transformer")), weights(tmp_path / "model")
    assert tuned.keys() == start.keys()
    moved = {name for name in start if not torch.equal(start[name], tuned[name])}
    assert moved
    assert all(".dense.weight" in name or "self" in name for name in moved)
    assert "embeddings.word_embeddings.weight" not in moved
    assert curve.losses[-1] < curve.losses[0]


def weights_of(folder):
    return load_file(f"{folder}/model.safetensors")


def test_accumulated_gradients_are_those_of_the_whole_batch_where_the_loss_is_a_mean(tiny, tmp_path):
    common = {"loss": "margin-mse", "margins": margins(), "margin_scale": 0.1, "max_steps": 3}
    whole = train(tiny, tmp_path / "whole", batch_size=16, **common)
    parts = train(tiny, tmp_path / "parts", batch_size=8, gradient_accumulation=2, **common)
    assert parts.losses == pytest.approx(whole.losses, rel=1e-3)
    assert whole.losses[2] != pytest.approx(whole.losses[0], rel=1e-2)


def test_less_memory_gives_the_same_weights(tiny, tmp_path):
    train(tiny, tmp_path / "plain", max_steps=2)
    train(tiny, tmp_path / "less", max_steps=2, gradient_checkpointing=True)
    assert same(tmp_path / "plain", tmp_path / "less")


def test_bfloat16_comes_near_to_float32_and_saves_float32(tiny, tmp_path):
    exact = train(tiny, tmp_path / "exact", max_steps=3, learning_rate=1e-4).losses
    fast = train(tiny, tmp_path / "fast", max_steps=3, learning_rate=1e-4, dtype="bfloat16").losses
    assert fast == pytest.approx(exact, rel=0.05)
    assert fast != exact
    assert {tensor.dtype for tensor in weights(tmp_path / "fast").values()} == {torch.float32}


def test_the_best_weights_by_dev_queries_are_saved(tiny, tmp_path):
    # dev queries whose answers are what the triples call negatives: training makes the model worse
    texts = {f"d{n}": text for n, row in enumerate(rows()) for text in (row.negative,)}
    texts |= {f"p{n}": row.positive for n, row in enumerate(rows())}
    queries = {f"q{n}": row.query for n, row in enumerate(rows())}
    dev = DevSet(queries, {name: list(texts) for name in queries}, texts, {f"q{n}": {f"d{n}": 1} for n in range(COUNT)})
    curve = train(tiny, tmp_path / "model", dev=dev, validate_every=4, epochs=6)
    assert curve.validation_steps == [0, 4, 8, 12]
    assert curve.validations[-1] < curve.validations[0] == max(curve.validations)
    assert same(tmp_path / "model", type(tmp_path)(tiny("sentence_transformer")))


@pytest.mark.parametrize(
    "settings",
    [
        {"loss": "margin-mse", "negatives": False},
        {"teacher": "smollm2-135m"},
        {"matryoshka_dims": "a"},
    ],
)
def test_settings_that_do_not_go_together_are_an_error(tiny, tmp_path, settings):
    with pytest.raises(ConfigError):
        retriever.check_retriever(RetrieverOptions(model=tiny("sentence_transformer"), **settings))


def write_triples(folder):
    path = folder / "triples.tsv"
    path.write_text("".join(f"{row.query}\t{row.positive}\t{row.negative}\n" for row in rows()), encoding="utf-8")
    return path


def stage_options(tiny, **settings):
    common = {"batch_size": 8, "device": "cpu", "dtype": "float32", "max_steps": 1}
    return RetrieverOptions(model=tiny("sentence_transformer"), **common | settings)


def test_the_stage_learns_from_gpls_margins(tiny, tmp_path):
    triples = write_triples(tmp_path)
    ids = [f"q{n}\tp{n}\tn{n}" for n in range(COUNT)]
    (tmp_path / "triples.ids.tsv").write_text("\n".join(ids) + "\n")
    (tmp_path / "margins.tsv").write_text("".join(f"{line}\t{n / 4}\n" for n, line in enumerate(ids[:12])))
    progress = Notes()
    options = stage_options(tiny, loss="margin-mse")
    manifest = train_retriever_from_file(triples, options, output=tmp_path / "model", progress=progress)
    assert manifest.results["examples"] == 8  # of 12 with a score, in one step
    assert any(re.match(r"4 of 16 triples .*no teacher's score", note) for note in progress.notes)


def test_the_stage_asks_a_teacher_once(tiny, tmp_path):
    triples = write_triples(tmp_path)
    options = stage_options(tiny, loss="margin-mse", teacher=tiny("bert_classifier"))
    train_retriever_from_file(triples, options, output=tmp_path / "one")
    scores = (tmp_path / "triples.teacher.jsonl").read_text().splitlines()
    assert len(scores) == 2 * COUNT
    progress = Notes()
    options = stage_options(tiny, loss="margin-mse", teacher=tiny("bert_classifier"), learning_rate=1e-3)
    train_retriever_from_file(triples, options, output=tmp_path / "two", progress=progress)
    assert any(note.endswith("up to date, skipped") for note in progress.notes)


def test_margin_mse_without_scores_names_the_ways_to_get_them(tiny, tmp_path):
    with pytest.raises(ConfigError, match="give --teacher MODEL"):
        train_retriever_from_file(
            write_triples(tmp_path), stage_options(tiny, loss="margin-mse"), output=tmp_path / "model"
        )


def test_pairs_alone_are_trained_on_once(tiny, tmp_path):
    path = tmp_path / "triples.tsv"
    path.write_text("q river\td one\tn a\nq river\td one\tn b\nq two\td two\tn a\n", encoding="utf-8")
    manifest = train_retriever_from_file(path, stage_options(tiny, negatives=False), output=tmp_path / "model")
    assert manifest.results["examples"] == 2


def with_settings(folder, target, **settings):
    """A copy of a model with other settings of sentence-transformers."""
    path = shutil.copytree(folder, target) / "config_sentence_transformers.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    return str(target)


@pytest.mark.parametrize("name", ["passage", "corpus"])
def test_documents_get_the_prompt_that_a_model_has_under_another_name(tiny, tmp_path, name):
    prompts = {"query": "amber: ", name: "zebra: "}
    folder = with_settings(tiny("sentence_transformer"), tmp_path / "model", prompts=prompts)
    expected = loaded(folder).encode(["zebra: river"], prompt="", normalize_embeddings=True)
    assert Encoder(folder, device="cpu", dtype="float32").encode_documents(["river"]) == pytest.approx(
        expected, abs=1e-5
    )
    assert retriever.set_prompts(load_sentence_transformer(folder), None, None).document == "zebra: "


def test_a_classifier_of_pairs_embeds_no_texts(tiny, tmp_path):
    reranker = with_settings(tiny("sentence_transformer"), tmp_path / "model", model_type="CrossEncoder")
    for name in (tiny("bert_classifier"), reranker):
        with pytest.raises(ConfigError, match="embeds no texts"):
            Encoder(name, device="cpu")
