"""Estimates: rate of random parts, separate start-up, intervals, and checks of earlier predictions."""

from __future__ import annotations

import random

import pytest

from inpars.cli.main import main
from inpars.errors import ConfigError
from inpars.io.formats import write_documents
from inpars.io.manifest import Manifest, stamp, write_manifest
from inpars.records import Document
from inpars.stages.estimates import (
    Checked,
    Measurement,
    Prediction,
    last_checked,
    measure,
    predict,
    remember,
)


class Clock:
    """A clock that advances only with work."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def part(self, items, seconds):
        def work():
            self.now += seconds
            return items

        return work


def test_the_start_and_the_first_part_are_no_part_of_the_rate():
    clock = Clock()

    def start():
        clock.now += 20  # loading
        return [clock.part(10, 7), clock.part(10, 2), clock.part(20, 4), clock.part(20, 4), clock.part(10, 99)]

    result = measure(start, 8, clock)
    assert result.startup_seconds == 27
    # the time of 8 seconds is over after 2 + 4 = 6 and 10: three parts
    assert result.parts == ((10, 2.0), (20, 4.0), (20, 4.0))
    assert result.seconds_per_item == pytest.approx(10 / 50)
    assert result.margin == pytest.approx(0)  # all parts take 0.2 seconds per item


@pytest.mark.parametrize("count", [0, 1])
def test_too_little_to_measure_on_is_told(count):
    clock = Clock()
    with pytest.raises(ConfigError, match="larger"):
        measure(lambda: [clock.part(1, 1)] * count, 60, clock)


def test_the_margin_is_students():
    # parts of 10 items and 1, 2, 3 seconds: ratio 6/30 = 0.2, deviations -1, 0, 1, their squares 2,
    # error sqrt(2 / (3 * 2)) / 10 = 0.057735, as a share of 0.2 0.288675; t(0.975, 2) = 4.302653
    result = Measurement(0.0, ((10, 1.0), (10, 2.0), (10, 3.0)))
    assert result.margin == pytest.approx(4.302653 * 0.288675, rel=1e-5)
    assert Measurement(0.0, ((10, 1.0),)).margin is None


def test_the_interval_holds_the_truth_as_often_as_it_says():
    """2,000 chunks whose seconds grow with their length; 30 random ones estimate the mean within the interval."""
    draw = random.Random(7)
    everything = [(32, 1 + 3 * draw.random() ** 2) for _ in range(2000)]
    truth = sum(seconds for _, seconds in everything) / (32 * 2000)
    hits = 0
    for _ in range(200):
        result = Measurement(0.0, tuple(draw.sample(everything, 30)))
        hits += abs(result.seconds_per_item - truth) <= result.margin * result.seconds_per_item
    assert 0.88 <= hits / 200 <= 1.0


def prediction(**changes):
    given = {"work": "generate", "model": "m", "device": "cpu", "items": 1000, "workers": 4}
    return predict(Measurement(10.0, ((10, 1.0), (10, 2.0), (10, 3.0))), **{**given, **changes})


def test_workers_start_once_and_share():
    result = prediction()
    # 1000 / 4 = 250 items of 0.2 seconds, after 10 seconds
    assert result.seconds == pytest.approx(60)
    assert result.worker_hours == pytest.approx(4 * 60 / 3600)
    # the margin is 124%, so that the low end has no work left in it
    assert result.low == pytest.approx(10)
    assert result.high == pytest.approx(10 + 50 * (1 + 4.302653 * 0.288675), rel=1e-5)


def finished(output, seconds, results):
    output.write_text("x\n")
    made = Manifest("generate", {}, {}, stamp(output, 1), started="2999-01-01T00:00:00+00:00", seconds=seconds)
    made.results.update(results)
    write_manifest(made, output)


def test_the_error_of_an_earlier_estimate_is_known_once_its_output_is_there(tmp_path):
    file, output = tmp_path / "estimates.jsonl", tmp_path / "q.jsonl"
    assert last_checked(file, "generate", "m") is None
    remember(prediction(output=output), file)
    assert last_checked(file, "generate", "m") is None, "nothing is made yet"
    shards = [{"seconds": seconds} for seconds in (30.0, 50.0, 48.0, 40.0)]
    finished(output, 168.0, {"documents": 1000, "shards": shards})
    remember(prediction(model="other"), file)
    result = last_checked(file, "generate", "m")
    assert (result.prediction.seconds, result.seconds) == (pytest.approx(60), 50.0)
    assert result.error == pytest.approx(0.2)
    assert last_checked(file, "embed", "m") is None


@pytest.mark.parametrize("results", [{"documents": 999}, {"documents": 1000, "shards": [{"seconds": 1.0}]}, {}])
def test_other_work_than_was_predicted_is_no_check(tmp_path, results):
    file, output = tmp_path / "estimates.jsonl", tmp_path / "q.jsonl"
    remember(prediction(output=output), file)
    finished(output, 50.0, results)
    assert last_checked(file, "generate", "m") is None


def test_an_output_that_was_there_before_is_no_check(tmp_path):
    file, output = tmp_path / "estimates.jsonl", tmp_path / "q.jsonl"
    finished(output, 50.0, {"documents": 1000})
    remember(
        Prediction(**{**{f: getattr(prediction(output=output), f) for f in Prediction.__slots__}, "made": "3000"}), file
    )
    assert last_checked(file, "generate", "m") is None


def test_records_of_another_version_are_passed_over(tmp_path):
    file, output = tmp_path / "estimates.jsonl", tmp_path / "q.jsonl"
    file.write_text('{"work": "generate", "colour": "green"}\n')
    remember(prediction(output=output), file)
    finished(output, 50.0, {"documents": 1000})
    assert last_checked(file, "generate", "m").seconds == 50.0


def test_too_little_is_below_nothing():
    assert Checked(prediction(), 80.0).error == pytest.approx(-0.25)


WORDS = ["raven", "lake", "salmon", "forest", "river", "mountain", "winter", "harbour"]


@pytest.mark.parametrize(
    ("work", "model", "unit"),
    [
        ("generate", "llama", "documents/s"),
        ("embed", "sentence_transformer", "documents/s"),
        ("rerank", "bert_classifier", "pairs/s"),
    ],
)
def test_the_command_measures_and_predicts(tiny, tmp_path, monkeypatch, capsys, work, model, unit):
    monkeypatch.setenv("INPARS_CACHE", str(tmp_path / "cache"))
    draw = random.Random(1)
    documents = [Document(f"d{n}", " ".join(draw.choices(WORDS, k=draw.randint(3, 30)))) for n in range(600)]
    write_documents(tmp_path / "corpus.jsonl", documents)
    prompt = tmp_path / "prompt.txt"
    prompt.write_text("A lake is a body of water: what is a lake?\n\n{document}\nRelevant Query:")
    named = ["--corpus", str(tmp_path / "corpus.jsonl"), "--model", str(tiny(model)), "--work", work]
    limits = ["--seconds", "0.2", "--max-new-tokens", "3", "--max-doc-tokens", "16", "--prompt", str(prompt)]
    asked = ["--items", "8841823", "--workers", "64", "--price-per-hour", "2.5", "--quiet"]
    assert main(["estimate", *named, *limits, *asked]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert unit in lines[0]
    assert lines[1].startswith(f"8,841,823 {unit.removesuffix('/s')} on 64 workers: ")
    assert lines[1].endswith("at 2.5 an hour")
    assert lines[2].startswith("assumes: ")
    assert lines[3] == "last time: no earlier estimate with --output has been carried out yet"


def test_the_command_tells_the_error_it_had(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("INPARS_CACHE", str(tmp_path / "cache"))
    write_documents(tmp_path / "corpus.jsonl", [Document(f"d{n}", f"{WORDS[n % 8]} {n}") for n in range(100)])
    prompt = tmp_path / "prompt.txt"
    prompt.write_text("A lake is a body of water: what is a lake?\n\n{document}\nRelevant Query:")
    named = ["--corpus", str(tmp_path / "corpus.jsonl"), "--model", str(tiny("llama")), "--prompt", str(prompt)]
    limits = ["--max-new-tokens", "3", "--output", str(tmp_path / "q.jsonl"), "--quiet"]
    assert main(["estimate", *named, *limits, "--seconds", "0.1"]) == 0
    assert main(["generate", *named, *limits]) == 0
    capsys.readouterr()
    assert main(["estimate", *named, *limits, "--seconds", "0.1"]) == 0
    assert ", 100 items): predicted " in capsys.readouterr().out.splitlines()[3]
