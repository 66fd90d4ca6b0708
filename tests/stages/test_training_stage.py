"""The training stages around the trainers: validation, restored weights, teachers, recipes, and errors."""

import json
import random

import pytest
import torch
from safetensors.torch import load_file
from tiny_models import WORDS
from transformers import T5Config

from inpars.cards.card import CARD, NOT_MEASURED
from inpars.cli.train import add_arguments, reranker_options
from inpars.errors import ConfigError
from inpars.io.storage import write_jsonl
from inpars.progress import Silent
from inpars.rerankers import load_scorer
from inpars.stages import distillation
from inpars.stages import train as train_stage
from inpars.stages.distillation import TeachOptions, read_taught, teach, teacher_path
from inpars.stages.train import train_reranker_from_file
from inpars.training.options import steps_of
from inpars.training.reranker import RerankerOptions, taught_answers
from inpars.training.validation import hold_out

EXACT = {"device": "cpu", "dtype": "float32"}
GOOD, BAD = WORDS[:20], WORDS[20:40]


class Noting(Silent):
    def __init__(self):
        self.notes = []

    def note(self, message):
        self.notes.append(message)


def triples(folder, name="triples.tsv", count=24, swapped=False, negatives=1):
    """Positives and negatives with different words, which a model can learn; `swapped` teaches the opposite."""
    chooser = random.Random(4)
    lines = []
    for _ in range(count):
        query = " ".join(chooser.sample(WORDS, 2))
        positive, *others = (" ".join(chooser.sample(words, 4)) for words in (GOOD, *[BAD] * negatives))
        sides = [(other, positive) if swapped else (positive, other) for other in others]
        lines += ["\t".join([query, *pair]) + "\n" for pair in sides]
    path = folder / name
    path.write_text("".join(lines), encoding="utf-8")
    return path


def train(source, output, progress=None, **settings):
    options = RerankerOptions(**{"batch_size": 4, **EXACT} | settings)
    return train_reranker_from_file(source, options, output=output, progress=progress or Silent())


@pytest.fixture(scope="module")
def learnt(tiny, tmp_path_factory):
    """A cross-encoder that recognizes the positives."""
    folder = tmp_path_factory.mktemp("learnt")
    settings = {"model": tiny("bert_classifier"), "epochs": 2, "learning_rate": 5e-3, "validate_every": 10}
    more = {"dev_depth": 2, "patience": 99}
    return folder / "model", train(triples(folder, count=80), folder / "model", **settings, **more)


def test_the_curve_of_a_validation_lies_in_the_manifest(learnt):
    _, manifest = learnt
    results = manifest.results
    # 76 queries left of 80, nineteen steps a pass: 38
    assert [step for step, _ in results["validation"]] == [0, 10, 20, 30, 38]
    assert results["start"] == results["validation"][0][1]
    assert results["best"]["nDCG@10"] == max(value for _, value in results["validation"]) == 1.0
    assert results["examples"] == 76
    assert "warning" not in results
    assert results["validated_by"] == "4 synthetic dev queries"


def test_training_that_harms_says_so_in_capitals_and_keeps_the_start(learnt, tmp_path):
    folder, _ = learnt
    progress = Noting()
    source = triples(tmp_path, count=24, swapped=True)  # the triples lie, the dev set does not

    def honest(rows, options, dataset, progress, grades):
        left, dev = hold_out(rows, depth=2, seed=0)
        right = {
            query: {next(d for d in dev.candidates[query] if d not in judged): 1} for query, judged in dev.qrels.items()
        }
        return left, type(dev)(dev.queries, dev.candidates, dev.texts, right)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_stage, "separate_development", honest)
        settings = {"model": str(folder), "epochs": 8, "learning_rate": 5e-3, "validate_every": 0}
        manifest = train(source, tmp_path / "model", progress=progress, **settings)
    assert [step for step, _ in manifest.results["validation"]] == [0, 48]
    assert manifest.results["start"] == 1.0
    assert manifest.results["validation"][-1][1] < 1.0
    assert "training made the model worse" in manifest.results["warning"]
    assert any(manifest.results["warning"] in note for note in progress.notes)
    before, after = (load_file(path / "model.safetensors") for path in (folder, tmp_path / "model"))
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert "this model (step 0)" in (tmp_path / "model" / CARD).read_text()


def test_training_stops_when_it_is_long_past_its_best(learnt, tmp_path):
    folder, _ = learnt  # the start is perfect already, so no later value is better
    settings = {
        "model": str(folder),
        "epochs": 9,
        "validate_every": 2,
        "patience": 3,
        "learning_rate": 1e-6,
        "dev_depth": 2,
    }
    manifest = train(triples(tmp_path), tmp_path / "model", **settings)
    assert [step for step, _ in manifest.results["validation"]] == [0, 2, 4, 6]


def test_a_teacher_is_asked_once_and_its_margins_are_learnt(learnt, tiny, tmp_path, monkeypatch):
    folder, _ = learnt
    source = triples(tmp_path)
    settings = {"model": tiny("bert_classifier"), "teacher": str(folder), "epochs": 40, "learning_rate": 3e-3}
    first = train(source, tmp_path / "model", **settings)
    assert first.inputs["teacher"].path == str(folder)
    rows = [line.split("\t") for line in source.read_text().splitlines()]
    margins = {}
    for name in (folder, tmp_path / "model"):
        scorer = load_scorer(str(name), **EXACT)
        scores = scorer.score([(query, text) for query, *texts in rows for text in texts])
        margins[name] = torch.tensor(scores).view(-1, 2).diff(dim=1)
    spread = margins[folder].square().mean()
    assert (margins[folder] - margins[tmp_path / "model"]).square().mean() < spread / 50
    assert first.results["curve"]["losses"][-1] < first.results["curve"]["losses"][0] / 20

    monkeypatch.setattr(distillation, "load_run_scorer", lambda *_: pytest.fail("the scores are there"))
    train(source, tmp_path / "again", **settings | {"epochs": 1, "loss": "ranknet"})


class Failing:
    """Scores some parts, then stops as a killed process would."""

    name = "failing"

    def __init__(self, parts):
        self.parts, self.asked = parts, 0

    def score(self, pairs):
        if self.asked == self.parts:
            raise KeyboardInterrupt
        self.asked += 1
        return [float(len(document)) for _, document in pairs]


def test_an_interrupted_teacher_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(distillation, "PAIRS_PER_PART", 10)
    source, options = triples(tmp_path), TeachOptions(teacher="anyone", **EXACT)
    with pytest.raises(KeyboardInterrupt):
        teach(source, options, make_scorer=lambda: Failing(3))
    assert not teacher_path(source).exists()
    scorer = Failing(99)
    teach(source, options, make_scorer=lambda: scorer)
    assert scorer.asked == 2, "48 pairs are five parts of ten, of which three were there"
    assert len(read_taught(source)) == 48
    assert all(score == len(document) for (_, document), score in read_taught(source).items())
    assert sorted(path.name for path in tmp_path.glob("*partial*")) == []


def mined(source):
    """Writes what `inpars triples --rescore` stores next to triples."""
    rows, ids = [], []
    for number, _ in enumerate(source.read_text().splitlines()):
        name = {"query_id": f"q{number}", "positive_doc_id": f"p{number}", "negative_doc_id": f"n{number}"}
        ids.append("\t".join(name.values()) + "\n")
        rows.append(name | {"reranker_score": -1.0, "positive_reranker_score": 2.0})
    (source.parent / "triples.ids.tsv").write_text("".join(ids), encoding="utf-8")
    write_jsonl(source.parent / "triples.negatives.jsonl", rows)


def test_mined_scores_teach_without_a_teacher(tiny, tmp_path):
    source = triples(tmp_path)
    mined(source)
    settings = {"model": tiny("bert_classifier"), "loss": "margin-mse", "epochs": 40, "learning_rate": 3e-3}
    train(source, tmp_path / "model", **settings)
    query, positive, negative = source.read_text().splitlines()[0].split("\t")
    better, worse = load_scorer(str(tmp_path / "model"), **EXACT).score([(query, positive), (query, negative)])
    assert better - worse == pytest.approx(3.0, abs=0.5)


def test_margin_mse_without_any_teacher_is_refused(tiny, tmp_path):
    with pytest.raises(ConfigError, match=r"no teacher's scores .*--teacher MODEL"):
        train(triples(tmp_path), tmp_path / "model", model=tiny("bert_classifier"), loss="margin-mse")


def test_a_loss_that_reads_no_scores_refuses_a_teacher(learnt, tiny, tmp_path):
    settings = {"model": tiny("bert_classifier"), "loss": "lambda", "teacher": str(learnt[0])}
    with pytest.raises(ConfigError, match=r"--loss lambda .*teacher's scores; .*margin-mse"):
        train(triples(tmp_path), tmp_path / "model", **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dev_queries": "q"}, "--dev-queries and --dev-qrels belong together"),
        ({"dev_queries": "q", "dev_qrels": "r"}, "say how often with --validate-every N"),
        ({"dev_queries": "q", "dev_qrels": "r", "validate_every": 5}, "searched in a corpus; give --dataset NAME"),
    ],
)
def test_a_validation_by_half_is_refused(tiny, tmp_path, settings, message):
    paths = {name: tmp_path / value if isinstance(value, str) else value for name, value in settings.items()}
    with pytest.raises(ConfigError, match=message):
        train(triples(tmp_path), tmp_path / "model", model=tiny("bert_classifier"), **paths)


# golden losses from this code (torch 2.13, transformers 5.23); other values mean that training has changed
GOLDEN = {
    "bce": [1.79987, 1.12811, 1.43406],
    "pairwise": [1.11816, 0.70671, 0.8041],
    "listwise": [1.91296, 1.44188, 1.51813],
    "ranknet": [1.11816, 0.70671, 0.8041],  # binary labels: as pairwise
    "listnet": [1.64908, 1.47374, 1.45964],
    "lambda": [3.79251, 3.30075, 3.1235],
    "margin-mse": [13.54572, 9.02773, 10.21004],
    "pointwise": [7.57683, 7.11397, 6.74242],
}


@pytest.mark.parametrize("loss", GOLDEN)
def test_golden_losses_of_three_steps(tiny, tmp_path, loss):
    source = triples(tmp_path, count=12, negatives=3)
    mined(source)
    model = tiny("t5") if loss == "pointwise" else tiny("bert_classifier")
    results = train(source, tmp_path / "model", model=model, loss=loss, learning_rate=1e-3, warmup=0.0).results
    assert results["curve"]["steps"] == [1, 2, 3]
    assert results["curve"]["losses"] == pytest.approx(GOLDEN[loss], abs=2e-3)


def test_accumulated_batches_are_one_batch(tiny, tmp_path):
    # two batches of four queries with one step are a batch of eight: same mean, same weights
    settings = {"model": tiny("bert_classifier"), "loss": "bce", "learning_rate": 1e-3, "max_steps": 1, "warmup": 0.0}
    source = triples(tmp_path, count=8)
    train(source, tmp_path / "one", batch_size=8, **settings)
    trained = train(source, tmp_path / "two", batch_size=4, gradient_accumulation=2, **settings)
    assert trained.results["examples"] == 8
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    different = [name for name, tensor in one.items() if not torch.allclose(tensor, two[name], atol=1e-5)]
    # a key's bias moves no attention: its gradient is rounding alone, which Adam scales to a whole step
    assert not [name for name in different if not name.endswith("key.bias")]


def test_only_examples_that_a_step_reaches_are_counted(tiny, tmp_path):
    source = triples(tmp_path, count=12)
    settings = {"model": tiny("bert_classifier"), "batch_size": 4}
    counts = [
        train(source, tmp_path / f"{number}", **settings, **more).results["examples"]
        for number, more in enumerate(({"max_steps": 2}, {"epochs": 0.4}, {"epochs": 2.0}, {"max_steps": 9}))
    ]
    assert counts == [8, 8, 12, 12]


def test_adafactor_and_a_constant_rate_are_used(tiny, tmp_path):
    settings = {"model": tiny("bert_classifier"), "learning_rate": 1e-3, "warmup": 0.0}
    for name, more in (
        ("adamw", {}),
        ("adafactor", {"optimizer": "adafactor"}),
        ("constant", {"schedule": "constant"}),
    ):
        train(triples(tmp_path), tmp_path / name, **settings, **more)
    weights = [
        load_file(tmp_path / name / "model.safetensors")["classifier.weight"]
        for name in ("adamw", "adafactor", "constant")
    ]
    assert not torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def parsed(*flags):
    import argparse

    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return reranker_options(parser.parse_args(["reranker", "--triples", "t.tsv", "--output", "o", *flags]))


def test_epochs_that_are_given_replace_a_recipes_steps():
    for flags, steps in (([], 156), (["--epochs", "1"], None), (["--epochs", "1", "--max-steps", "9"], 9)):
        assert parsed("--recipe", "inpars", *flags).max_steps == steps


def test_a_recipe_is_overridden_by_flags_wherever_they_stand():
    plain = parsed()
    assert plain == RerankerOptions()
    inpars = parsed("--recipe", "inpars")
    result = (
        inpars.max_steps,
        inpars.batch_size * (1 + inpars.negatives),
        inpars.learning_rate,
        inpars.optimizer,
    )
    assert result == (156, 128, 3e-4, "adamw")
    assert inpars.model == "castorini/monot5-base-msmarco"
    for flags in (("--batch-size", "8", "--recipe", "inpars"), ("--recipe", "inpars", "--batch-size", "8")):
        assert (parsed(*flags).batch_size, parsed(*flags).max_steps) == (8, 156), "8 is the default too, but was given"
    assert parsed("--recipe", "small").negatives == 4


def test_the_manifest_has_the_settings_a_recipe_stands_for(tiny, tmp_path):
    flags = ["--recipe", "small", "--model", tiny("bert_classifier"), "--device", "cpu", "--dtype", "float32"]
    manifest = train_reranker_from_file(triples(tmp_path), parsed(*flags), output=tmp_path / "model")
    saved = json.loads((tmp_path / "model.manifest.json").read_text())["arguments"]
    assert (saved["recipe"], saved["batch_size"], saved["loss"]) == ("small", 16, "listwise")
    assert len(manifest.results["curve"]["losses"]) == 4


@pytest.mark.parametrize(
    ("model", "family", "expected"),
    [
        ("t5-base", "t5", ("▁true", "▁false")),
        ("google/flan-t5-small", "t5", ("▁yes", "▁no")),
        ("google/mt5-small", "mt5", ("▁yes", "▁no")),
        ("google/umt5-small", "umt5", ("▁yes", "▁no")),
        ("castorini/monot5-base-msmarco", "t5", None),
    ],
)
def test_what_each_family_is_taught_to_say(model, family, expected):
    config = T5Config()
    config.model_type = family
    assert taught_answers(model, config) == expected
    config.inpars = {"true_token": "▁ja", "false_token": "▁nein"}
    assert taught_answers(model, config) is None, "a checkpoint of ours names its own"


def test_an_unknown_family_is_an_error_that_says_how_to_name_the_tokens():
    config = T5Config()
    config.model_type = "bart"
    with pytest.raises(ConfigError, match=r"a bart checkpoint .*--true-token and --false-token"):
        taught_answers("facebook/bart-base", config)


def test_a_card_says_what_is_not_measured(tiny, tmp_path):
    train(triples(tmp_path), tmp_path / "model", model=tiny("bert_classifier"))
    card = (tmp_path / "model" / CARD).read_text()
    assert NOT_MEASURED in card
    assert str(tmp_path) not in card


@pytest.mark.parametrize(
    ("environment", "steps"),
    [
        ({}, 8),
        ({"WORLD_SIZE": "2", "LOCAL_RANK": "1"}, 4),
        ({"WORLD_SIZE": "3", "LOCAL_RANK": "0"}, 3),
        ({"WORLD_SIZE": "many", "LOCAL_RANK": ""}, 8),
    ],
)
def test_several_processes_share_the_batches_of_a_pass(monkeypatch, environment, steps):
    for name in ("WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert steps_of(8, RerankerOptions(model="none")) == steps


def test_a_world_size_that_nobody_launched_divides_nothing(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "8")
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert steps_of(8, RerankerOptions(model="none")) == 8


def test_a_folder_of_other_files_is_not_replaced(tiny, tmp_path):
    kept = tmp_path / "models" / "mine" / "config.json"
    kept.parent.mkdir(parents=True)
    kept.write_text("{}")
    with pytest.raises(ConfigError, match="models holds other files"):
        train(triples(tmp_path), tmp_path / "models", model=tiny("bert_classifier"))
    assert kept.exists()
