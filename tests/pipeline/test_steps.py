"""The steps of a whole run: announced with their first stage that works, what is up to date in one line."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from inpars.pipeline import trainings
from inpars.pipeline.options import PipelineOptions
from inpars.pipeline.steps import Steps, step_texts
from inpars.progress import Silent


class Notes(Silent):
    def __init__(self):
        self.notes = []

    def note(self, message):
        self.notes.append(message)


def walked(*stages):
    """The notes of two steps with one stage each; each of `stages` says whether it is up to date."""
    shown = Notes()
    steps = Steps(shown, PipelineOptions())
    for step, up_to_date in zip(("generate", "filter"), stages, strict=True):
        steps.begin(step)
        steps.stage(step, Path("out"), up_to_date=up_to_date)
    steps.end()
    return shown.notes


def test_a_step_is_announced_with_number_total_and_purpose():
    assert walked(False, False) == [
        "step 2 of 10: writing queries (a language model writes queries for 500 documents)",
        "step 3 of 10: filtering queries (the 400 queries that the model found likeliest are kept)",
    ]


def test_a_line_is_said_once_however_many_stages_say_it():
    shown = Notes()
    steps = Steps(shown, PipelineOptions())
    for line in ("one", "two", "one"):
        steps.note(line)
    assert shown.notes == ["one", "two"]


def test_what_is_up_to_date_is_one_line_in_place_of_a_line_a_stage():
    assert walked(True, True) == ["2 of 2 stages up to date"]
    assert walked(True, False)[1:] == ["1 of 2 stages up to date"]


def test_a_step_is_announced_once():
    shown = Notes()
    steps = Steps(shown, PipelineOptions())
    steps.begin("search", at_once=True)
    for _ in range(3):
        steps.stage("search", Path("out"), up_to_date=False)
    assert len(shown.notes) == 1


@pytest.mark.parametrize("unused", [{"reranker_epochs": 0}, {"rerank_depth": 0}])
def test_a_reranker_that_is_not_trained_has_no_step(unused):
    assert "train reranker" in step_texts(PipelineOptions())
    assert "train reranker" not in step_texts(PipelineOptions(**unused))


@pytest.mark.parametrize(("depth", "trained"), [(20, ["retriever", "reranker"]), (0, ["retriever"])])
def test_no_reranker_is_trained_that_nothing_reranks_with(monkeypatch, depth, trained):
    calls = []
    monkeypatch.setattr(trainings, "_to_train_on", lambda _, queries: queries)
    monkeypatch.setattr(trainings, "_mine_triples", lambda *_: None)
    monkeypatch.setattr(trainings, "_train_retriever", lambda _: calls.append("retriever") or "reason")
    monkeypatch.setattr(trainings, "_train_reranker", lambda *_: calls.append("reranker") or "reason")
    run = SimpleNamespace(options=PipelineOptions(training="always", rerank_depth=depth), progress=Notes())
    assert list(trainings.train_models(run, Path("queries.jsonl"))[1]) == trained
    assert calls == trained


def test_steps_are_not_put_in_front_of_steps():
    steps = Steps(Notes(), PipelineOptions())
    assert Steps.over(steps, PipelineOptions()) is steps


def test_counting_is_passed_on():
    assert list(Steps(Notes(), PipelineOptions()).track("ab", total=2, description="x", unit="y")) == ["a", "b"]
