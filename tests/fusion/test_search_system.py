"""Search systems: fusion, reranking, and system.json."""

import json
from dataclasses import replace

import pytest

from inpars.errors import ConfigError, DataFormatError
from inpars.fusion.gate import Gate, QueryFeatures
from inpars.fusion.system import SYSTEM_FILE, FirstStage, Reranking, SearchSystem, read_system, write_system
from inpars.io.runs import fuse_z_scores
from inpars.prompts.load import load_prompt

STAGES = (FirstStage(name="bm25", retriever="bm25", weight=0.25), FirstStage(name="whole", retriever="minilm"))
RERANKING = Reranking(model="smollm2-135m", depth=2, weight=0.25, prompt=load_prompt("inpars"))
SYSTEM = SearchSystem(stages=STAGES, reranking=RERANKING, k1=0.9, b=0.4, language="en")
FOUND = QueryFeatures(lexical_coverage=0.5, dense_coverage=0.5, similarity=0.9)
RUNS = {"bm25": {"q": {"a": 3.0, "b": 1.0}}, "whole": {"q": {"b": 0.9, "a": 0.8}}}


def test_a_system_is_read_as_it_was_written(tmp_path):
    write_system(SYSTEM, tmp_path)
    assert read_system(tmp_path) == SYSTEM
    gate = Gate(intercept=1.0, lexical_coverage=-1.0, dense_coverage=0.5, similarity=2.0, offset=-0.25)
    write_system(replace(SYSTEM, gate=gate), tmp_path)
    assert read_system(tmp_path) == replace(SYSTEM, gate=gate)
    write_system(replace(SYSTEM, reranking=None), tmp_path)
    assert read_system(tmp_path) == replace(SYSTEM, reranking=None)


def test_folders_with_the_name_of_a_retriever_are_not_models(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("bm25", "minilm", "run/bm25", "run/smollm2-135m"):
        (tmp_path / name).mkdir(parents=True)
    write_system(SYSTEM, tmp_path / "run")
    assert read_system(tmp_path / "run") == SYSTEM


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


def test_what_bm25_did_not_find_counts_as_zero():
    """The one document that holds a rare word must not be worth as much as those that do not."""
    runs = {"bm25": {"q": {"rare": 7.0}}, "whole": {"q": {"a": 0.9, "b": 0.8, "c": 0.7, "rare": 0.65}}}
    equal = replace(SYSTEM, stages=tuple(replace(stage, weight=1.0) for stage in STAGES), reranking=None)
    assert list(equal.fuse(runs, 10)["q"]) == ["a", "rare", "b", "c"]
    assert list(fuse_z_scores(list(runs.values()), 10)["q"]) == ["a", "b", "c", "rare"]
    assert equal.fuse({"bm25": {}, "whole": runs["whole"]}, 10)["q"].keys() == runs["whole"]["q"].keys()


def test_a_gate_weighs_query_by_query():
    gate = Gate(intercept=0.0, lexical_coverage=0.0, dense_coverage=0.0, similarity=0.0, offset=2.0)
    gated = replace(SYSTEM, gate=gate, reranking=None)
    both = {name: run | {"p": run["q"]} for name, run in RUNS.items()}
    shares = gated.shares({"q": "x", "p": "y"}, both, lambda query, text: 0.5, str)
    assert shares == {"q": gate.share(FOUND), "p": gate.share(FOUND)}
    fused = gated.fuse(both, 10, {"q": 0.9, "p": 0.1})
    assert [next(iter(fused[query_id])) for query_id in "qp"] == ["b", "a"]
    assert gated.weights_of(0.75) == [0.25, 0.75]
    with pytest.raises(ConfigError, match="BM25"):
        replace(gated, stages=STAGES[:1])


def test_a_stage_alone_keeps_its_scores():
    assert replace(SYSTEM, stages=STAGES[:1]).fuse(RUNS, 10) == {"q": {"a": 3.0, "b": 1.0}}


def test_the_reranker_counts_by_its_weight():
    run, scores = SYSTEM.fuse(RUNS, 10), {"q": {"a": 5.0, "b": 1.0}}
    assert list(SYSTEM.rerank(run, lambda *_: scores)["q"]) == ["b", "a"]
    trusted = replace(SYSTEM, reranking=replace(RERANKING, weight=0.75))
    assert list(trusted.rerank(run, lambda *_: scores)["q"]) == ["a", "b"]


def test_a_gated_reranker_counts_less_where_the_gate_trusts_the_bi_encoders():
    system = replace(SYSTEM, reranking=replace(RERANKING, odds=(0, 2)))
    run = {"q": {"a": 4.0, "b": 3.0, "c": 1.0}, "r": {"a": 4.0, "b": 3.0, "c": 1.0}}
    scores = {query_id: {"a": 0.0, "b": 5.0} for query_id in run}
    reranked = system.rerank(run, lambda *_: scores, {"q": 0.9, "r": 0.1})
    assert {query_id: list(scores) for query_id, scores in reranked.items()} == {
        "q": ["a", "b", "c"],
        "r": ["b", "a", "c"],
    }
    assert reranked["q"]["a"] == pytest.approx(1 / 1.2 - 0.2 / 1.2)  # z-scores of two are 1 and -1
    ungated = replace(SYSTEM, reranking=RERANKING)
    assert system.rerank(run, lambda *_: scores) == ungated.rerank(run, lambda *_: scores)  # without a gate


LATE = Reranking(model="minilm", kind="multi-vector", depth=3, odds=(0.25, 2.0))


def test_late_interaction_comes_before_the_reranker():
    """MaxSim puts c first of three; the reranker sees c and what was first, and turns them round."""
    late = replace(LATE, odds=None, weight=0.75)
    system = replace(SYSTEM, late_interaction=late, reranking=replace(RERANKING, depth=2))
    seen = []

    def score(reranking, run):
        seen.append((reranking.kind, list(run["q"])[: reranking.depth]))
        values = {"a": 1.0, "b": 0.0, "c": 9.0, "d": 0.0} if reranking.kind == "multi-vector" else {"a": 5.0, "c": 0.0}
        return {"q": {doc_id: values[doc_id] for doc_id in list(run["q"])[: reranking.depth]}}

    found = system.rerank({"q": {"a": 3.0, "b": 2.0, "c": 1.9, "d": 1.0}}, score)
    assert seen == [("multi-vector", ["a", "b", "c"]), ("auto", ["c", "a"])]
    assert set(list(found["q"])[:2]) == {"a", "c"}
    assert list(found["q"])[2:] == ["b", "d"]
    assert system.unreranked.rerankings == ()
    assert system.fused(1) == 3


def test_gated_late_interaction_keeps_a_fifth_where_the_bi_encoders_are_all_that_counts():
    """Odds .25 at a share of 1, 2.25 at 0: weights .2 and 2.25 / 3.25."""
    system = replace(SYSTEM, late_interaction=replace(LATE, depth=2), reranking=None)
    run = {"q": {"a": 4.0, "b": 3.0}, "r": {"a": 4.0, "b": 3.0}}
    scores = {query_id: {"a": 0.0, "b": 5.0} for query_id in run}
    found = system.rerank(run, lambda *_: scores, {"q": 1.0, "r": 0.0})
    assert next(iter(found["q"].items())) == ("a", pytest.approx(0.8 - 0.2, abs=1e-6))  # z-scores of two are 1 and -1
    assert next(iter(found["r"].items())) == ("b", pytest.approx((2.25 - 1) / 3.25, abs=1e-6))


def test_systems_written_before_they_held_their_odds_keep_them(tmp_path):
    write_system(replace(SYSTEM, late_interaction=LATE, reranking=replace(RERANKING, odds=(0.0, 1.5))), tmp_path)
    path = tmp_path / "system.json"
    values = json.loads(path.read_text())
    for name in ("late_interaction", "reranking"):
        del values[name]["odds"]
        values[name]["gated"] = True
    path.write_text(json.dumps(values))
    assert [reranking.odds for reranking in read_system(tmp_path).rerankings] == [(0.25, 2.0), (0.0, 2.0)]
    for wrong in ([1], [0, -1], "ab", [0, float("nan")]):
        values["reranking"] |= {"gated": False, "odds": wrong}
        path.write_text(json.dumps(values))
        with pytest.raises(DataFormatError, match="not a search system"):
            read_system(tmp_path)


def test_late_interaction_is_written_where_there_is_one(tmp_path):
    system = replace(SYSTEM, late_interaction=LATE)
    write_system(system, tmp_path)
    assert read_system(tmp_path) == system
    write_system(SYSTEM, tmp_path)
    assert "late_interaction" not in json.loads((tmp_path / "system.json").read_text())
    assert read_system(tmp_path) == SYSTEM
    assert "first 3 reranked by MaxSim of minilm" in str(system)


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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda values: values.update(k1="x"), "k1 is 'x'"),
        (lambda values: values.update(k1=float("nan")), "k1 is nan"),
        (lambda values: values.update(b=True), "b is True"),
        (lambda values: values.update(fusion_depth=0), "fusion_depth is 0"),
        (lambda values: values["reranking"].update(depth="a"), "depth is 'a'"),
        (lambda values: values["reranking"].update(depth=-1), "depth is -1"),
    ],
)
def test_broken_values_are_named(tmp_path, change, message):
    path = write_system(SYSTEM, tmp_path)
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))
    with pytest.raises(DataFormatError, match=message):
        read_system(tmp_path)


def test_a_folder_in_its_place_is_named(tmp_path):
    (tmp_path / SYSTEM_FILE).mkdir()
    with pytest.raises(DataFormatError, match="not a file"):
        read_system(tmp_path)
