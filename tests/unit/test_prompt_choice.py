"""Which of several prompts is taken."""

import math

import pytest

from inpars.datasets import load_dataset
from inpars.errors import ConfigError
from inpars.pipeline.prompt_choice import (
    MOST_PROMPTS,
    PromptTrial,
    best_prompt,
    choose_prompt_by_trial,
    distance_between,
)
from inpars.progress import SILENT
from inpars.prompting.prompts import load_prompt
from inpars.stages.generating import GenerateOptions


def trial(prompt, share, distance=None):
    return PromptTrial(prompt=prompt, share=share, distance=distance)


def test_the_nearest_to_real_queries_is_taken_among_those_that_give_queries():
    assert best_prompt([trial("a", 0.9, 1.5), trial("b", 0.6, 0.5), trial("c", 0.2, 0.1)]) == "b"


def test_without_real_queries_the_cleanest_is_taken():
    assert best_prompt([trial("a", 0.5), trial("b", 0.9), trial("c", 0.9)]) == "b"
    assert best_prompt([trial("a", 0.2, 0.1), trial("b", 0.3, 3.0)]) == "b"  # neither gives queries


def test_the_distance_is_of_length_and_form():
    # log 4 and a question; log 2 and no question
    assert distance_between(["what is a tide"], ["tide times"]) == pytest.approx(math.log(2) + 1)
    assert distance_between(["tide times"], ["bread dough"]) == 0
    assert distance_between([], ["tide times"]) is None
    assert distance_between(["tide times"], []) is None


def test_too_many_prompts_are_refused(tmp_path):
    prompts = dict.fromkeys("abcd", load_prompt("inpars"))
    assert len(prompts) > MOST_PROMPTS
    with pytest.raises(ConfigError, match=str(MOST_PROMPTS)):
        choose_prompt_by_trial(None, prompts, GenerateOptions(), [], output=tmp_path, told={"progress": SILENT})


def test_prompts_are_tried_once(tmp_path, tiny, monkeypatch):
    monkeypatch.setenv("INPARS_CACHE", str(tmp_path / "cache"))
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("".join(f'{{"_id": "d{n}", "text": "text {n} of {"many words " * 20}"}}\n' for n in range(3)))
    dataset = load_dataset(None, corpus=corpus)
    (tmp_path / "one.txt").write_text("{document}\nQuery: {query}")
    (tmp_path / "other.txt").write_text("Document: {document}\nQuestion: {query}")
    prompts = {name: load_prompt(str(tmp_path / f"{name}.txt")) for name in ("one", "other")}
    options = GenerateOptions(
        model=tiny("llama"), max_documents=2, max_doc_tokens=24, max_new_tokens=6, canary=False, threads=1, device="cpu"
    )
    given = {"output": tmp_path / "run", "told": {"progress": SILENT, "overwrite": False}}
    first = choose_prompt_by_trial(dataset, prompts, options, ["what is it"], **given)
    assert first in prompts
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "run" / "prompts").iterdir()}
    assert len(written) == 6  # two files of queries and the choice, each with a manifest
    assert choose_prompt_by_trial(dataset, prompts, options, ["what is it"], **given) == first
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run" / "prompts").iterdir()} == written
