"""A search system as a file, and the order that it gives."""

import json
from dataclasses import replace

import pytest

from inpars.errors import ConfigError, DataFormatError
from inpars.fusion.system import FirstStage, Reranking, SearchSystem, read_system, write_system
from inpars.prompting.prompts import load_prompt

STAGES = (FirstStage(name="bm25", retriever="bm25", weight=0.25), FirstStage(name="whole", retriever="minilm"))
RERANKING = Reranking(model="smollm2-135m", depth=2, weight=0.25, prompt=load_prompt("inpars"))
SYSTEM = SearchSystem(stages=STAGES, reranking=RERANKING, k1=0.9, b=0.4, language="en")
RUNS = {"bm25": {"q": {"a": 3.0, "b": 1.0}}, "whole": {"q": {"b": 0.9, "a": 0.8}}}


def test_a_system_is_read_as_it_was_written(tmp_path):
    write_system(SYSTEM, tmp_path)
    assert read_system(tmp_path) == SYSTEM
    write_system(replace(SYSTEM, reranking=None), tmp_path)
    assert read_system(tmp_path) == replace(SYSTEM, reranking=None)


def test_models_of_the_folder_are_found_where_it_was_moved(tmp_path):
    (tmp_path / "run" / "models" / "retriever").mkdir(parents=True)
    tuned = FirstStage(name="tuned", retriever=str(tmp_path / "run" / "models" / "retriever"), window_tokens=96)
    write_system(replace(SYSTEM, stages=(tuned,)), tmp_path / "run")
    moved = (tmp_path / "run").rename(tmp_path / "moved")
    assert read_system(moved).stages[0].retriever == str(moved / "models" / "retriever")


def test_runs_are_fused_by_weight():
    assert list(SYSTEM.fuse(RUNS, 10)["q"]) == ["b", "a"]
    doubted = replace(SYSTEM, stages=(replace(STAGES[0], weight=3.0), STAGES[1]))
    assert list(doubted.fuse(RUNS, 10)["q"]) == ["a", "b"]


def test_a_stage_alone_keeps_its_scores():
    assert replace(SYSTEM, stages=STAGES[:1]).fuse(RUNS, 10) == {"q": {"a": 3.0, "b": 1.0}}


def test_the_reranker_counts_by_its_weight():
    run, scores = SYSTEM.fuse(RUNS, 10), {"q": {"a": 5.0, "b": 1.0}}
    assert list(SYSTEM.rerank(run, scores)["q"]) == ["b", "a"]
    trusted = replace(SYSTEM, reranking=replace(RERANKING, weight=0.75))
    assert list(trusted.rerank(run, scores)["q"]) == ["a", "b"]


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf")])
def test_weights_that_make_no_order_are_refused(weight):
    with pytest.raises(ConfigError, match="above 0"):
        replace(SYSTEM, stages=(replace(STAGES[0], weight=weight),))
    with pytest.raises(ConfigError, match="above 0"):
        replace(SYSTEM, reranking=replace(RERANKING, weight=weight))


def test_stages_of_one_name_are_refused():
    with pytest.raises(ConfigError, match="bm25, bm25"):
        replace(SYSTEM, stages=(STAGES[0], STAGES[0]))


def test_a_folder_without_a_system_is_named(tmp_path):
    with pytest.raises(DataFormatError, match=r"system\.json"):
        read_system(tmp_path)


@pytest.mark.parametrize(
    "change",
    [{"format": 99}, {"stages": []}, {"stages": [{"name": "x"}]}, {"unknown": 1}, {"reranking": {"depth": 3}}],
)
def test_a_damaged_system_is_named(tmp_path, change):
    path = write_system(SYSTEM, tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DataFormatError, match=r"system\.json"):
        read_system(tmp_path)
    path.write_text("{")
    with pytest.raises(DataFormatError, match=r"system\.json"):
        read_system(tmp_path)
