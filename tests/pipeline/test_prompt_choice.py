"""Which prompt a run takes: of several that are named, or where none is."""

import json
import math
from pathlib import Path

import pytest

from inpars.documents.datasets import load_dataset
from inpars.errors import ConfigError, PromptError
from inpars.generation import GeneratedQuery
from inpars.pipeline import prompt_choice
from inpars.pipeline.options import TRIAL_DOCUMENTS
from inpars.pipeline.prompt_choice import (
    CHOICE,
    MAX_PROMPTS,
    MIN_TRIAL_DOCUMENTS,
    REMEDIES,
    PromptTrial,
    PromptTrials,
    best_prompt,
    clearly_better,
    distance_between,
    line_about,
    trial_options,
)
from inpars.progress import SILENT
from inpars.prompts.load import load_prompt, prompt_names
from inpars.stages.generate import GenerateOptions


def trial(prompt, good, distance=None, queries=100):
    return PromptTrial(prompt=prompt, good=good, queries=queries, distance=distance)


def test_the_nearest_to_real_queries_is_taken_among_those_that_give_queries():
    assert best_prompt([trial("a", 90, 1.5), trial("b", 60, 0.5), trial("c", 20, 0.1)]) == "b"


def test_without_real_queries_the_cleanest_is_taken():
    assert best_prompt([trial("a", 50), trial("b", 90), trial("c", 90)]) == "b"
    assert best_prompt([trial("a", 20, 0.1), trial("b", 30, 3.0)]) == "b"  # neither gives queries


def test_another_prompt_is_taken_by_more_than_a_standard_error():
    # sqrt(.4 * .6 / 100 + .46 * .54 / 100) = .070, sqrt(.4 * .6 / 100 + .48 * .52 / 100) = .070
    assert clearly_better([trial("a", 40), trial("b", 46)]) == "a"
    assert clearly_better([trial("a", 40), trial("b", 48)]) == "b"
    assert clearly_better([trial("a", 10), trial("b", 90), trial("c", 92)]) == "b"  # the first of those alike
    assert clearly_better([trial("a", 10), trial("b", 50), trial("c", 92)]) == "c"
    assert clearly_better([trial("a", 0, queries=0), trial("b", 0, queries=0)]) == "a"


def test_the_distance_is_of_length_and_form():
    # log 4 and a question; log 2 and no question
    assert distance_between(["what is a tide"], ["tide times"]) == pytest.approx(math.log(2) + 1)
    assert distance_between(["tide times"], ["bread dough"]) == 0
    assert distance_between([], ["tide times"]) is None
    assert distance_between(["tide times"], []) is None


def test_a_small_budget_has_a_small_trial():
    options = GenerateOptions(max_documents=500)
    sizes = {None: TRIAL_DOCUMENTS, 28_800.0: TRIAL_DOCUMENTS, 240.0: 24, 60.0: MIN_TRIAL_DOCUMENTS}
    assert {budget: trial_options(options, budget).max_documents for budget in sizes} == sizes
    assert trial_options(GenerateOptions(max_documents=8), 240.0).max_documents == 8
    assert trial_options(GenerateOptions(), None).max_documents == TRIAL_DOCUMENTS


class Writer:
    """Writes what a prompt's name stands for, with the document's id; counts the documents."""

    name, log_prob_kind, device = "smollm2-135m", "raw", "cpu"

    def __init__(self, text, written):
        self.text, self.written = text, written

    def plan(self, documents):
        return [[place] for place in range(len(documents))]

    def generate(self, documents):
        self.written += [document.doc_id for document in documents]
        texts = [self.text.format(document.doc_id) for document in documents]
        return [[GeneratedQuery(text, (1, 2), (-0.5, -0.25), -0.1, "stop")] for text in texts]


CODE, QUERY = "def {}(self):", "how is {} made"


@pytest.fixture
def trials(tmp_path, monkeypatch):
    """Trials by prompts whose queries are given by name; `written` has the documents by prompt."""
    monkeypatch.setenv("INPARS_CACHE", str(tmp_path / "cache"))
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("".join(f'{{"_id": "d{n}", "text": "text {n} of many words"}}\n' for n in range(20)))
    dataset, notes = load_dataset(None, corpus=corpus), []
    written = {}

    class Noting(type(SILENT)):
        def note(self, message):
            notes.append(message)

    def of(texts, real=()):
        def maker(options, prompt):
            return lambda: Writer(texts[prompt.name], written.setdefault(prompt.name, []))

        told = {"progress": Noting(), "overwrite": False}
        options = GenerateOptions(max_documents=12, canary=False)
        return PromptTrials(dataset, options, tmp_path / "run", told, real, maker)

    of.written, of.notes = written, notes
    return of


def test_a_default_that_gives_queries_is_kept_and_nothing_else_tried(trials):
    tried = trials(dict.fromkeys(prompt_names(), QUERY)).default_or_better()
    assert (tried.name, tried.written) == ("inpars", 12)
    assert {name: len(documents) for name, documents in trials.written.items()} == {"inpars": 12}
    assert trials.notes == ["prompt inpars: of the queries of a trial, 12 of 12 by inpars look like queries"]


def test_one_that_writes_programs_gives_way_to_what_the_look_names(trials, tmp_path):
    own = trials(dict.fromkeys(prompt_names(), QUERY) | {"inpars": CODE})
    tried = own.default_or_better()
    assert tried.name == REMEDIES["code"][0]
    assert set(trials.written) == {"inpars", tried.name}  # which is as good as can be
    values = json.loads((tmp_path / "run" / CHOICE).read_text())
    assert (values["prompt"], tried.manifest.results) == (tried.name, values)
    assert [(one["prompt"], one["good"], one["share"]) for one in values["trials"]][:2] == [
        ("inpars", 0, 0.0),
        (tried.name, 12, 1.0),
    ]
    assert f"0 of 12 by inpars, 12 of 12 by {tried.name}" in line_about(values)
    trials.written.clear()
    assert own.default_or_better() == tried  # and nothing is written again
    assert trials.written == {}


def test_the_default_stays_where_nothing_is_better(trials):
    assert trials(dict.fromkeys(prompt_names(), CODE)).default_or_better().name == "inpars"
    assert set(trials.written) == {"inpars", *REMEDIES["code"]}


def test_a_prompt_that_cannot_be_used_is_passed_over(trials, monkeypatch):
    first, second = REMEDIES["code"]

    def load(name):
        if name == first:
            raise PromptError("too long for the model")
        return load_prompt(name)

    monkeypatch.setattr(prompt_choice, "load_prompt", load)
    assert trials(dict.fromkeys(prompt_names(), QUERY) | {"inpars": CODE}).default_or_better().name == second
    assert any(first in note and "too long" in note for note in trials.notes)


def test_all_that_are_named_are_tried(trials):
    prompts = {name: load_prompt(name) for name in ("inpars", "keywords")}
    texts = {"inpars": QUERY, "keywords": "{}"}
    assert trials(texts, ["d1"]).best(prompts).name == "keywords"  # one word, no question
    assert set(trials.written) == {*prompts}


def test_too_many_prompts_are_refused(trials):
    prompts = dict.fromkeys("abcd", load_prompt("inpars"))
    assert len(prompts) > MAX_PROMPTS
    with pytest.raises(ConfigError, match=str(MAX_PROMPTS)):
        trials({}).best(prompts)


def test_every_prompt_that_the_look_names_is_shipped():
    assert {name for names in REMEDIES.values() for name in names} <= set(prompt_names())
    assert Path(CHOICE).parts[0] == "prompts"
