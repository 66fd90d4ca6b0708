"""Bi-encoder training: it learns, saves an ordinary folder, and resumes."""

import random
import shutil
from pathlib import Path

import pytest
import torch
from interrupting import Interrupting
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from tiny_models import WORDS

from inpars.engines.batch_parallel import in_worker_thread
from inpars.progress import Silent
from inpars.stages.train import train_retriever_from_file
from inpars.training import loop, retriever
from inpars.training.embedding_batches import Collator
from inpars.training.examples import TripleTexts
from inpars.training.retriever import RetrieverOptions, train_retriever

ROWS = 24


def rows():
    chooser = random.Random(9)
    return [TripleTexts(*(" ".join(chooser.sample(WORDS, count)) for count in (2, 6, 6))) for _ in range(ROWS)]


def train(tiny, output, examples=None, progress=None, fingerprint=1, **settings):
    settings = {"batch_size": 8, "learning_rate": 5e-3, "epochs": 2, "device": "cpu", "dtype": "float32"} | settings
    options = RetrieverOptions(model=tiny("sentence_transformer"), **settings)
    return train_retriever(
        examples or rows(), options, output=output, fingerprint={"a": fingerprint}, progress=progress or Silent()
    )[0]


def weights(folder):
    return load_file(next(folder.rglob("model.safetensors")))


def same(one, two):
    ours, theirs = weights(one), weights(two)
    return ours.keys() == theirs.keys() and all(torch.allclose(ours[n], theirs[n], atol=1e-6) for n in ours)


def test_the_loss_falls_and_the_positive_comes_nearest(tiny, tmp_path):
    curve = train(tiny, tmp_path / "model", epochs=12)
    assert curve.losses[-1] < curve.losses[0] / 4
    model = SentenceTransformer(str(tmp_path / "model"), device="cpu")
    queries, positives, negatives = (
        model.encode([getattr(row, field) for row in rows()], convert_to_tensor=True)
        for field in ("query", "positive", "negative")
    )
    nearest = model.similarity(queries, torch.cat([positives, negatives])).argmax(dim=1)
    assert nearest.tolist() == list(range(ROWS))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


def test_the_first_loss_is_the_softmax_over_all_positives_and_negatives(tiny, tmp_path):
    # one step over all rows: the mean of -log softmax of 20 times the cosine with its own positive
    curve = train(tiny, tmp_path / "model", batch_size=ROWS, epochs=1)
    model = SentenceTransformer(tiny("sentence_transformer"), device="cpu")
    queries, positives, negatives = (
        model.encode([getattr(row, field) for row in rows()], convert_to_tensor=True)
        for field in ("query", "positive", "negative")
    )
    table = 20 * torch.nn.functional.cosine_similarity(queries[:, None], torch.cat([positives, negatives])[None], dim=2)
    assert curve.losses == [pytest.approx(-table.log_softmax(1).diagonal().mean().item(), abs=1e-3)]


def test_without_hard_negatives_only_the_batch_is_used(tiny, tmp_path):
    (loss,) = train(tiny, tmp_path / "model", batch_size=ROWS, epochs=1, negatives=False).losses
    (harder,) = train(tiny, tmp_path / "model", batch_size=ROWS, epochs=1).losses
    assert loss < harder


def test_no_text_stands_twice_in_a_batch(tiny, tmp_path, monkeypatch):
    # each query thrice, with three negatives: a positive twice in a batch would be its own query's negative
    thrice = [TripleTexts(row.query, row.positive, other.negative) for row in rows()[:8] for other in rows()[:3]]
    batches = []
    collate = Collator.__call__

    def recorded(collator, chosen, margins=None):
        made = collate(collator, chosen, margins)
        batches.append([tuple(text.tolist()) for part in made["batches"] for text in part["input_ids"]])
        return made

    monkeypatch.setattr(Collator, "__call__", recorded)
    train(tiny, tmp_path / "model", thrice, batch_size=3, epochs=2)
    assert len(batches) >= 16
    assert sum(map(len, batches[: len(batches) // 2])) == 3 * len(thrice)
    for batch in batches:
        assert len({tuple(token for token in text if token) for text in batch}) == len(batch) <= 9


def test_the_length_limit_is_saved(tiny, tmp_path):
    train(tiny, tmp_path / "model", epochs=1, max_length=9)
    assert SentenceTransformer(str(tmp_path / "model"), device="cpu").max_seq_length == 9


def test_the_same_settings_give_the_same_weights_and_another_seed_others(tiny, tmp_path):
    for name, seed in (("one", 0), ("two", 0), ("three", 1)):
        train(tiny, tmp_path / name, seed=seed, epochs=1)
    assert same(tmp_path / "one", tmp_path / "two")
    assert not same(tmp_path / "one", tmp_path / "three")


@pytest.mark.parametrize("rank", [0, 2])
def test_a_share_of_the_start_stays_in_the_saved_weights(tiny, tmp_path, rank):
    train(tiny, tmp_path / "tuned", epochs=1, lora_rank=rank)
    train(tiny, tmp_path / "mixed", epochs=1, lora_rank=rank, start_share=0.25)
    start, tuned, mixed = map(weights, (Path(tiny("sentence_transformer")), tmp_path / "tuned", tmp_path / "mixed"))
    assert not same(tmp_path / "tuned", tmp_path / "mixed")
    for name, weight in mixed.items():
        assert torch.allclose(weight, 0.25 * start[name] + 0.75 * tuned[name], atol=1e-6)


@pytest.mark.parametrize("step", [2, 5])  # of six: in the first pass, in the midst of the second
def test_a_training_that_was_interrupted_goes_on_to_the_same_weights(tiny, tmp_path, monkeypatch, step):
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", -1.0)  # after every step
    whole = train(tiny, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(tiny, tmp_path / "model", progress=Interrupting(step))
    assert not (tmp_path / "model").exists()
    progress = Interrupting()
    curve = train(tiny, tmp_path / "model", progress=progress)
    assert (progress.total, progress.done, progress.step) == (6, step - 1, 6 - (step - 1))
    assert (curve.steps, curve.losses) == (whole.steps, pytest.approx(whole.losses, abs=1e-4))
    assert same(tmp_path / "whole", tmp_path / "model")
    assert not loop.checkpoint_folder(tmp_path / "model").exists()


def interrupted(tiny, folder, monkeypatch):
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    with pytest.raises(KeyboardInterrupt):
        train(tiny, folder / "model", progress=Interrupting(3))
    return loop.checkpoint_folder(folder / "model")


def test_checkpoints_of_other_settings_are_removed(tiny, tmp_path, monkeypatch):
    interrupted(tiny, tmp_path, monkeypatch)
    progress = Interrupting()
    train(tiny, tmp_path / "model", progress=progress, fingerprint=2)
    assert (progress.done, progress.step) == (0, 6)
    assert any("with other settings" in note for note in progress.notes)


def test_a_checkpoint_that_was_torn_while_written_is_not_used(tiny, tmp_path, monkeypatch):
    folder = interrupted(tiny, tmp_path, monkeypatch)
    (last,) = folder.glob("checkpoint-*")
    torn = folder / "checkpoint-5"
    shutil.copytree(last, torn)
    (torn / "trainer_state.json").unlink()
    progress = Interrupting()
    train(tiny, tmp_path / "model", progress=progress)
    assert progress.done == 2


def test_the_stage_reads_triples_and_skips_what_is_done(tiny, tmp_path):
    path = tmp_path / "triples.tsv"
    path.write_text("".join(f"{row.query}\t{row.positive}\t{row.negative}\n" for row in rows()), encoding="utf-8")
    options = RetrieverOptions(
        model=tiny("sentence_transformer"), batch_size=8, limit=10, device="cpu", dtype="float32"
    )
    manifest = train_retriever_from_file(path, options, output=tmp_path / "model")
    assert manifest.results["examples"] == 10
    assert len(manifest.results["curve"]["losses"]) == 2
    progress = Interrupting()
    assert train_retriever_from_file(path, options, output=tmp_path / "model", progress=progress) == manifest
    assert progress.notes[-1].endswith("up to date, skipped")


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_mini_batches_side_by_side_learn_the_same(tiny, tmp_path, monkeypatch, use_threads, dropout):
    seen, whole = [], retriever.embed

    def watched(model, features):
        seen.append(in_worker_thread())
        return whole(model, features)

    monkeypatch.setattr(retriever, "embed", watched)
    curves = []
    for threads, folder in ((1, "one"), (2, "two"), (2, "again")):
        use_threads(threads)
        settings = {"dtype": "bfloat16", "mini_batch_size": 4, "dropout": dropout}
        curves.append(train(tiny, tmp_path / folder, **settings).losses)
        assert any(seen) == (threads == 2 and not dropout)
        seen.clear()
    assert curves[1] == pytest.approx(curves[0], rel=0.05)
    assert curves[1] == curves[2], "whichever thread is the quicker one"
    assert all(
        torch.equal(*pair) for pair in zip(*(weights(tmp_path / n).values() for n in ("two", "again")), strict=True)
    )
