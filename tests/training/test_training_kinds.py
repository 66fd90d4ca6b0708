"""Late-interaction and sparse retrievers train like bi-encoders and are saved as ordinary sentence-transformers."""

import random

import pytest
import torch
from interrupting import Interrupting
from safetensors.torch import load_file
from sentence_transformers import MultiVectorEncoder, SparseEncoder
from sentence_transformers.multi_vector_encoder.losses import (
    MultiVectorMarginMSELoss,
    MultiVectorMultipleNegativesRankingLoss,
)
from sentence_transformers.sparse_encoder.losses import (
    SparseMarginMSELoss,
    SparseMultipleNegativesRankingLoss,
    SpladeLoss,
)
from tiny_models import WORDS

from inpars.cards.card import CARD
from inpars.engines.splade_pooling import pool_before_activation
from inpars.errors import ConfigError
from inpars.models.retrievers import retriever_kind
from inpars.progress import Silent
from inpars.stages import train as train_stage
from inpars.stages.train import train_retriever_from_file
from inpars.training import loop
from inpars.training.embedding_batches import Collator, reordered, set_prompts
from inpars.training.examples import TripleTexts
from inpars.training.retriever import RetrieverOptions, train_retriever
from inpars.training.validation import hold_out

ROWS = 24
EXACT = {"device": "cpu", "dtype": "float32"}
STARTS = {"multi-vector": "multi_vector", "sparse": "masked_lm"}
KINDS = list(STARTS)


def rows(count=ROWS):
    chooser = random.Random(9)
    return [TripleTexts(*(" ".join(chooser.sample(WORDS, words)) for words in (2, 6, 6))) for _ in range(count)]


def options(tiny, kind, **settings):
    defaults = {"model": tiny(STARTS[kind]), "batch_size": 8, "learning_rate": 5e-3, "epochs": 2} | EXACT
    return RetrieverOptions(kind=kind, **defaults | settings)


def train(tiny, kind, output, examples=None, progress=None, margins=None, dev=None, **settings):
    found = options(tiny, kind, **settings)
    told = {"fingerprint": {}, "margins": margins, "dev": dev, "progress": progress or Silent()}
    return train_retriever(examples or rows(), found, output=output, **told)[0]


def load(kind, folder):
    return {"multi-vector": MultiVectorEncoder, "sparse": SparseEncoder}[kind](str(folder), device="cpu")


def similarities(model, queries, documents):
    found = model.encode_query(queries), model.encode_document(documents)
    return model.similarity(*(one.to_dense() if isinstance(model, SparseEncoder) else one for one in found))


def weights(folder):
    return load_file(next(folder.rglob("model.safetensors")))


def same(one, two):
    ours, theirs = weights(one), weights(two)
    return ours.keys() == theirs.keys() and all(torch.allclose(ours[n], theirs[n], atol=1e-6) for n in ours)


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_falls_and_plain_sentence_transformers_finds_the_positives(tiny, tmp_path, kind):
    curve = train(tiny, kind, tmp_path / "model", epochs=12)
    assert curve.losses[-1] < curve.losses[0] / 4
    assert retriever_kind(str(tmp_path / "model")) == kind
    queries, positives, negatives = ([getattr(row, name) for row in rows()] for name in TripleTexts.__slots__)
    found = similarities(load(kind, tmp_path / "model"), queries, positives + negatives)
    assert (found.argmax(dim=1) == torch.arange(ROWS)).float().mean() > 0.7  # by chance 1 of 48


def embedded(tiny, kind, size=4):
    """The untrained model's embeddings of one batch, by our training code and by the library."""
    from importlib import import_module

    module = import_module(f"inpars.training.{kind.replace('-', '_')}")
    found = options(tiny, kind)
    model = module.load(found, EXACT)
    collator = Collator(model, set_prompts(model, None, None), negatives=True, mini_batch_size=size, tasks=True)
    batch = collator(rows(7))
    parts = [module.embed(model, features) for features in batch["batches"]]
    return module, model, reordered(torch.cat(parts), batch["places"], batch["queries"])


def library_loss(model, kind, loss, margins=None):
    """The library's loss on its own features, padded per column."""
    columns = [[getattr(row, name) for row in rows(7)] for name in TripleTexts.__slots__]
    tasks = ("query", "document", "document")
    features = [model.preprocess(texts, task=task) | {"task": task} for texts, task in zip(columns, tasks, strict=True)]
    value = loss(features, margins)
    return sum(value.values()) if isinstance(value, dict) else value


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("teacher", [False, True])
def test_the_loss_over_mini_batches_is_the_library_s_over_columns(tiny, kind, teacher):
    module, model, ours = embedded(tiny, kind)
    margins = torch.tensor([0.5, 2.0, -1.0, 0.0, 1.0, 3.0, 0.25]) if teacher else None
    objective, _ = module.objective(model, options(tiny, kind, loss="margin-mse" if teacher else "mnrl"))
    if kind == "multi-vector":
        loss = MultiVectorMarginMSELoss(model) if teacher else MultiVectorMultipleNegativesRankingLoss(model)
    else:
        base = SparseMarginMSELoss(model) if teacher else SparseMultipleNegativesRankingLoss(model)
        loss = SpladeLoss(model, base, document_regularizer_weight=3e-5, query_regularizer_weight=5e-5)
    with torch.no_grad():
        assert objective(ours, margins).item() == pytest.approx(
            float(library_loss(model, kind, loss, margins)), rel=1e-5
        )


@pytest.mark.parametrize("kind", KINDS)
def test_margins_are_those_of_the_library(tiny, kind):
    module, model, ours = embedded(tiny, kind)
    queries, positives, negatives = ([getattr(row, name) for row in rows(7)] for name in TripleTexts.__slots__)
    expected = [similarities(model, queries, documents).diagonal() for documents in (positives, negatives)]
    assert torch.allclose(module.margins(model, ours), expected[0] - expected[1], atol=1e-4)


def test_skipped_words_do_not_count_in_a_training_either(tiny):
    module, model, ours = embedded(tiny, "multi-vector")
    plain = module.token_features(ours.documents)["attention_mask"].sum()
    model[1].skiplist_words = [rows(7)[0].positive.split()[0]]
    model[1].resolve_with_tokenizer(model.tokenizer)
    collator = Collator(model, set_prompts(model, None, None), negatives=True, mini_batch_size=4, tasks=True)
    parts = [module.embed(model, features) for features in collator(rows(7))["batches"]]
    words = [word for row in rows(7) for word in f"{row.positive} {row.negative}".split()]
    count = words.count(model[1].skiplist_words[0])
    batch = collator(rows(7))
    fewer = module.token_features(reordered(torch.cat(parts), batch["places"], 7).documents)["attention_mask"].sum()
    assert plain - fewer == count > 0


def test_splade_s_pooling_gives_the_same_numbers_and_gradients_after_the_maximum(tiny):
    found = {}
    for name in ("theirs", "ours"):
        model = SparseEncoder(tiny("masked_lm"), device="cpu").train()
        loop.set_dropout(model, 0.0)
        if name == "ours":
            pool_before_activation(model)
        features = model.preprocess(["amber anchor", "apple autumn basket beacon bridge"])
        weights = model(features)["sentence_embedding"]
        (weights * torch.arange(weights.shape[1])).sum().backward()
        found[name] = weights.detach(), [weight.grad for weight in model.parameters() if weight.grad is not None]
    assert torch.equal(found["theirs"][0], found["ours"][0])
    for theirs, ours in zip(*(grads for _, grads in found.values()), strict=True):
        assert torch.allclose(theirs, ours, rtol=1e-4, atol=1e-5)


def test_more_regularisation_leaves_fewer_words(tiny, tmp_path):
    words = {}
    for weight in (0.0, 1.0):
        train(tiny, "sparse", tmp_path / str(weight), epochs=8, flops_queries=weight, flops_documents=weight)
        found = load("sparse", tmp_path / str(weight)).encode_document([row.positive for row in rows()]).to_dense()
        words[weight] = (found > 0).sum().item()
    assert words[1.0] < words[0.0] / 2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("loss", ["mnrl", "cached-mnrl"])
def test_any_mini_batch_size_learns_the_same(tiny, tmp_path, kind, loss):
    small = train(tiny, kind, tmp_path / "small", loss=loss, mini_batch_size=3)
    large = train(tiny, kind, tmp_path / "large", mini_batch_size=64)
    assert small.losses == pytest.approx(large.losses, abs=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_a_teacher_s_margins_are_learnt(tiny, tmp_path, kind):
    margins = {row: float(number % 5) for number, row in enumerate(rows())}
    curve = train(tiny, kind, tmp_path / "model", loss="margin-mse", margins=margins, epochs=12)
    assert curve.losses[-1] < curve.losses[0] / 2


@pytest.mark.parametrize("kind", KINDS)
def test_a_training_that_was_interrupted_goes_on_to_the_same_weights(tiny, tmp_path, monkeypatch, kind):
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", -1.0)  # after every step
    whole = train(tiny, kind, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(tiny, kind, tmp_path / "model", progress=Interrupting(5))
    progress = Interrupting()
    curve = train(tiny, kind, tmp_path / "model", progress=progress)
    assert (progress.done, progress.step) == (4, 2)
    assert curve.losses == pytest.approx(whole.losses, abs=1e-4)
    assert same(tmp_path / "whole", tmp_path / "model")


def triples(path):
    path.write_text("".join(f"{row.query}\t{row.positive}\t{row.negative}\n" for row in rows(40)), encoding="utf-8")
    return path


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support:UserWarning")  # the library's own similarity
@pytest.mark.parametrize("kind", KINDS)
def test_the_stage_validates_writes_a_card_and_is_done_once(tiny, tmp_path, kind):
    found = options(tiny, kind, epochs=6, validate_every=0)
    manifest = train_retriever_from_file(triples(tmp_path / "triples.tsv"), found, output=tmp_path / "model")
    assert manifest.results["best"]["nDCG@10"] == max(value for _, value in manifest.results["validation"])
    card = (tmp_path / "model" / CARD).read_text(encoding="utf-8")
    loaded = {"multi-vector": ("MultiVectorEncoder", "late-interaction"), "sparse": ("SparseEncoder", "sparse")}[kind]
    assert all(word in card for word in loaded)
    code = card.split("```python\n")[1].split("```")[0].replace('Encoder("model")', f'Encoder("{tmp_path / "model"}")')
    names = {}
    exec(code, names)
    assert names["scores"].shape == (1, 1)
    assert train_retriever_from_file(tmp_path / "triples.tsv", found, output=tmp_path / "model") == manifest


@pytest.mark.parametrize("kind", KINDS)
def test_training_that_harms_keeps_the_start(tiny, tmp_path, monkeypatch, kind):
    train(tiny, kind, tmp_path / "good", rows(40), epochs=12)  # knows the dev queries' answers

    def known(found, *_):
        return [TripleTexts(row.query, row.negative, row.positive) for row in found], hold_out(found, depth=2, seed=0)[
            1
        ]

    monkeypatch.setattr(train_stage, "separate_development", known)
    found = options(tiny, kind, model=str(tmp_path / "good"), epochs=12, validate_every=0)
    manifest = train_retriever_from_file(triples(tmp_path / "triples.tsv"), found, output=tmp_path / "model")
    assert "training made the model worse" in manifest.results["warning"]
    assert same(tmp_path / "good", tmp_path / "model")


def test_a_bi_encoder_s_token_states_are_a_start_and_no_projection_is_added(tiny, tmp_path):
    train(tiny, "multi-vector", tmp_path / "model", model=tiny("sentence_transformer"), epochs=1)
    model = load("multi-vector", tmp_path / "model")
    assert [type(module).__name__ for module in model] == ["Transformer", "MultiVectorMask", "Normalize"]
    assert model.encode_query(["amber anchor"])[0].shape == (4, 32)  # [CLS], two words, [SEP]


@pytest.mark.parametrize(
    ("kind", "settings", "said"),
    [
        ("sparse", {"model": "sentence_transformer"}, "masked-language-model head"),
        ("sparse", {"model": "multi_vector"}, "is a multi-vector retriever"),
        ("multi-vector", {"model": "sparse"}, "is a sparse retriever"),
        ("dense", {"model": "sparse"}, "is a sparse retriever, a bi-encoder is needed"),
        ("multi-vector", {"pooling": "cls"}, "--pooling is for the one vector of a bi-encoder"),
        ("sparse", {"matryoshka_dims": "16"}, "--matryoshka-dims is for the one vector"),
        ("multi-vector", {"flops_queries": 1.0}, "are for --kind sparse"),
    ],
)
def test_what_does_not_go_together_is_said(tiny, tmp_path, kind, settings, said):
    if "model" in settings:
        settings["model"] = tiny(settings["model"])
    found = RetrieverOptions(**{"model": tiny("masked_lm"), "kind": kind, **EXACT} | settings)
    with pytest.raises(ConfigError, match=said):
        train_retriever_from_file(triples(tmp_path / "triples.tsv"), found, output=tmp_path / "model")
