"""Readers: answer positions in windows, the loss by hand, learning to answer and to reject, and the command."""

import json
import math

import pytest
import tiny_models
import torch

from inpars.apps.qa.local_models import SpanReader
from inpars.apps.qa.records import Hit
from inpars.cli import main as cli
from inpars.documents.readers.squad import Paragraph
from inpars.errors import DataFormatError
from inpars.evaluation.squad_metrics import best_threshold
from inpars.records import Document
from inpars.stages.train import by_article, train_reader_from_file
from inpars.training import reader
from inpars.training.reader import Example, ReaderOptions, answer_windows, collate_windows, span_loss

EXACT = {"device": "cpu", "dtype": "float32"}
COLOURS = ("amber", "copper", "ivory", "silver")
THINGS = ("bridge", "kettle", "lantern", "mirror", "saddle", "temple")


def squad(path, articles=6):
    """Each paragraph names the colours of two things; it gets one answerable and one unanswerable question."""
    data = []
    for number in range(articles):
        first, other, absent = (THINGS[(number + step) % len(THINGS)] for step in range(3))
        colour, second = COLOURS[number % 4], COLOURS[(number + 1) % 4]
        text = f"meadow {first} {colour} willow {other} {second} river"
        asked = [
            {"id": f"{number}a", "question": f"{first}", "answers": [{"text": colour, "answer_start": len(first) + 8}]},
            {"id": f"{number}b", "question": f"{absent}", "is_impossible": True, "answers": []},
        ]
        data.append({"title": f"article {number}", "paragraphs": [{"context": text, "qas": asked}]})
    path.write_text(json.dumps({"version": "v2.0", "data": data}), encoding="utf-8")
    return path


def answers(windows, tokenizer):
    return [tokenizer.decode(w["input_ids"][w["start"] : w["end"] + 1]) for w in windows]


def test_the_answers_tokens_by_their_characters():
    tokenizer = tiny_models.bert_tokenizer()
    text = "The Amber lantern hangs, in the temple."
    found = answer_windows(Example("where", text, (("lantern hangs", 10),)), tokenizer, 64)
    assert answers(found, tokenizer) == ["lantern hangs"]
    none = answer_windows(Example("where", text), tokenizer, 64)
    assert (none[0]["start"], none[0]["end"]) == (0, 0)
    assert answers(none, tokenizer) == ["[CLS]"]


def test_only_windows_with_the_whole_answer_have_it():
    tokenizer = tiny_models.bert_tokenizer()
    text = tiny_models.sentence(1, 60)
    words = text.split()
    answer = " ".join(words[40:42])
    start = len(" ".join(words[:40])) + 1
    windows = answer_windows(Example("amber", text, ((answer, start),)), tokenizer, 24)
    assert len(windows) > 3
    assert max(len(window["input_ids"]) for window in windows) <= 24
    found = answers(windows, tokenizer)
    assert set(found) == {"[CLS]", answer}
    whole = [answer in tokenizer.decode(window["input_ids"]) for window in windows]
    assert [text == answer for text in found] == whole


def test_the_loss_by_hand():
    # of two tokens with logits 0 and 0 either is as likely: -log(1/2); with logits log 3 and 0 the first has 3/4
    start, end = torch.tensor([[0.0, 0.0, 9.0]]), torch.tensor([[math.log(3), 0.0, 9.0]])
    inputs = {"attention_mask": torch.tensor([[1, 1, 0]]), "start": torch.tensor([1]), "end": torch.tensor([0])}
    expected = (math.log(2) - math.log(3 / 4)) / 2
    assert span_loss(start, end, inputs).item() == pytest.approx(expected, abs=1e-6)


def test_windows_of_several_lengths_make_a_batch():
    rows = [
        {"input_ids": [5, 6, 7], "attention_mask": [1, 1, 1], "start": 1, "end": 2},
        {"input_ids": [8], "attention_mask": [1], "start": 0, "end": 0},
    ]
    assert {name: tensor.tolist() for name, tensor in collate_windows(rows, 4).items()} == {
        "input_ids": [[5, 6, 7], [8, 4, 4]],
        "attention_mask": [[1, 1, 1], [1, 0, 0]],
        "start": [1, 0],
        "end": [2, 0],
    }


@pytest.mark.parametrize(
    ("found", "limit"),
    [
        # answering from 3 on: 1 right; from 2 on: 1 right and a wrong one in place of a right refusal; from 1: 2 right
        ([(3.0, "amber", ["amber"]), (2.0, "ivory", []), (1.0, "silver", ["copper"])], 3.0),
        ([(3.0, "amber", ["amber"]), (2.0, "ivory", []), (1.0, "silver", ["silver"]), (0.5, "a b", ["b c"])], 0.5),
        ([(2.0, "amber", []), (2.0, "amber", ["amber"]), (1.0, "ivory", [])], 2.0),  # equal scores go together
        ([(-4.0, "amber", ["amber"])], -4.0),
        ([], 0.0),
    ],
)
def test_the_best_threshold_by_hand(found, limit):
    assert best_threshold(found) == limit


def test_articles_are_held_out_whole():
    paragraphs = [Paragraph(number, f"article {number // 3}", "text", ()) for number in range(30)]
    seen, unseen = by_article(paragraphs, 0.2, 0)
    assert {part.title for part in seen}.isdisjoint(part.title for part in unseen)
    assert len(unseen) == 6
    assert sorted([*seen, *unseen], key=lambda part: part.number) == paragraphs
    one = [Paragraph(number, "", "text", ()) for number in range(10)]
    assert [len(part) for part in by_article(one, 0.2, 0)] == [8, 2]
    assert by_article(paragraphs, 0.0, 0)[1] == []


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny):
    folder = tmp_path_factory.mktemp("reader")
    options = ReaderOptions(
        model=tiny("bert_reader"), max_steps=150, batch_size=8, learning_rate=5e-3, held_out=0.0, **EXACT
    )
    manifest = train_reader_from_file(squad(folder / "squad.json"), options, output=folder / "model")
    return folder / "model", manifest


def test_it_learns_to_mark_and_to_refuse(trained):
    folder, manifest = trained
    losses = manifest.results["curve"]["losses"]
    assert losses[-1] < 0.3 * losses[0]
    reader = SpanReader(str(folder), **EXACT)
    text = "meadow bridge amber willow kettle copper river"
    answer = reader.read("bridge", [Hit(Document("d", text), 1.0)])
    assert (answer.answered, answer.text) == (True, "amber")
    assert not reader.read("lantern", [Hit(Document("d", text), 1.0)]).answered


def test_a_threshold_found_in_training_is_the_readers(trained, tmp_path):
    folder = tmp_path / "copy"
    folder.mkdir()
    for path in trained[0].iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert config["inpars"] == {"kind": "reader", "threshold": 0.0}  # nothing was held out
    config["inpars"]["threshold"] = 99.0
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    hits = [Hit(Document("d", "meadow bridge amber willow kettle copper river"), 1.0)]
    assert SpanReader(str(folder), **EXACT).threshold == 99.0
    assert not SpanReader(str(folder), **EXACT).read("bridge", hits).answered
    assert SpanReader(str(folder), threshold=0.0, **EXACT).read("bridge", hits).answered


def test_the_command_says_what_was_held_out(tiny, tmp_path, capsys):
    flags = ["--model", tiny("bert_reader"), "--max-steps", "2", "--device", "cpu", "--dtype", "float32"]
    squad(tmp_path / "squad.json")
    command = ["train", "reader", "--squad", str(tmp_path / "squad.json"), "--output", str(tmp_path / "m"), *flags]
    assert cli.main(command) == 0
    assert "2 held out: EM " in capsys.readouterr().out  # one of six articles, with two questions
    assert cli.main(command) == 0
    assert "up to date, skipped" in capsys.readouterr().err


def test_nothing_left_to_train_on_is_said(tiny, tmp_path):
    options = ReaderOptions(model=tiny("bert_reader"), held_out=0.99, **EXACT)
    with pytest.raises(DataFormatError, match=r"no questions are left .*lower --held-out"):
        train_reader_from_file(squad(tmp_path / "squad.json"), options, output=tmp_path / "m")


def test_less_memory_gives_the_same_losses(tiny, tmp_path, monkeypatch):
    asked, turn_on = [], reader.with_less_memory
    monkeypatch.setattr(reader, "with_less_memory", lambda network: asked.append(turn_on(network)))
    losses = []
    for less in (False, True):
        options = ReaderOptions(model=tiny("bert_reader"), max_steps=2, gradient_checkpointing=less, **EXACT)
        manifest = train_reader_from_file(squad(tmp_path / "s.json"), options, output=tmp_path / str(less))
        losses.append(manifest.results["curve"]["losses"])
    assert len(asked) == 1
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)
