"""The files next to a model's qrels, and where their origin is reported."""

import json
from dataclasses import replace

import pytest

from inpars.documents.datasets import load_dataset, load_judged
from inpars.errors import DataFormatError
from inpars.io.judgements import read_qrels, write_named_qrels, write_qrels
from inpars.io.manifest import sha256_of
from inpars.io.model_judgements import (
    ModelJudgement,
    Origin,
    lines_path,
    origin_of,
    origin_path,
    read_judgements,
    write_judgements,
    write_origin,
)
from inpars.pipeline.held_out import judge_statement
from inpars.pipeline.measurement import keep_topics
from inpars.progress import SILENT

QRELS = {"q1": {"d1": 2, "d2": 0}}


@pytest.fixture
def judged(tmp_path):
    """A BEIR folder whose test split a model judged."""
    (tmp_path / "qrels").mkdir()
    (tmp_path / "corpus.jsonl").write_text('{"_id": "d1", "text": "one"}\n{"_id": "d2", "text": "two"}\n')
    (tmp_path / "queries.jsonl").write_text('{"_id": "q1", "text": "which one"}\n')
    path = tmp_path / "qrels" / "test.tsv"
    write_qrels(path, QRELS)
    write_origin(path, Origin("m", "relevance", 2, sha256_of(path)))
    return path


def test_lines_round_trip(tmp_path):
    lines = [
        ModelJudgement("q", "d", 2, -0.5, "m", "p", (-3.0, -2.0, -0.5, -4.0)),
        ModelJudgement("q", "e", 0, None, "m", "p", reason="says nothing"),
        ModelJudgement("q", "f", None, None, "m", "p", problem="no_grade"),
    ]
    path = lines_path(tmp_path / "qrels.tsv")
    assert write_judgements(path, lines) == 3
    assert list(read_judgements(path)) == lines
    first = json.loads(path.read_text().splitlines()[0])
    assert first == {
        "query_id": "q",
        "doc_id": "d",
        "grade": 2,
        "log_prob": -0.5,
        "model": "m",
        "prompt": "p",
        "grade_log_probs": [-3.0, -2.0, -0.5, -4.0],
    }
    path.write_text('{"query_id": "q"}\n')
    with pytest.raises(DataFormatError, match=r"judgements\.jsonl:1: "):
        list(read_judgements(path))


def test_who_judged_is_known_wherever_the_file_is_read(judged):
    for topics in (
        load_judged(None, judged),
        load_judged(str(judged.parents[1]), None),
        load_dataset(str(judged.parents[1])).topics(),
        load_dataset(
            None, corpus=judged.parents[1] / "corpus.jsonl", queries=judged.parents[1] / "queries.jsonl", qrels=judged
        ).topics(),
    ):
        assert topics.qrels == QRELS
        assert topics.origin.model == "m"
        assert topics.first(1).origin == topics.origin


def test_a_runs_copy_of_them_says_so_too(judged, tmp_path):
    topics = load_dataset(str(judged.parents[1])).topics()
    keep_topics(tmp_path / "topics", topics, progress=SILENT)
    copy = origin_of(tmp_path / "topics" / "qrels.tsv")
    assert (copy.model, copy.changed) == ("m", False)
    said = judge_statement(topics, topics)
    assert said.count("judged by m, ") == 2
    people = replace(topics, origin=None)
    assert judge_statement(people, None) == ""
    assert people.stamp.sha256 != topics.stamp.sha256, "another judge is another input"


def test_people_have_no_origin(judged):
    origin_path(judged).unlink()
    assert load_judged(None, judged).origin is None


def test_another_file_under_the_same_name_is_told(judged):
    assert not origin_of(judged).changed
    write_qrels(judged, {"q1": {"d1": 1}})
    assert origin_of(judged).changed
    assert "changed" in str(origin_of(judged))


def test_a_broken_note_is_no_silence(judged):
    origin_path(judged).write_text("{}")
    with pytest.raises(DataFormatError, match=r"judged_by\.json"):
        load_judged(None, judged)


@pytest.mark.parametrize(("kappa", "poor"), [(0.61, False), (0.2, True), (-0.1, True), (None, True)])
def test_agreement_in_words(kappa, poor):
    known = Origin("m", "p", 2, "x", {"with": "people", "pairs": 90, "weighted_kappa": kappa})
    assert known.is_poor == poor
    assert ("poor" in str(known)) == poor
    assert "90" in str(known)
    unknown = Origin("m", "p", 2, "x")
    assert not unknown.is_poor
    assert "nobody" in str(unknown)


def test_the_columns_follow_the_name(tmp_path):
    for name, first in (("a.tsv", "query-id\tcorpus-id\tscore"), ("a.trec", "q1 0 d1 2"), ("a.txt.gz", None)):
        assert write_named_qrels(tmp_path / name, QRELS) == 2
        assert read_qrels(tmp_path / name) == QRELS
        assert first is None or (tmp_path / name).read_text().splitlines()[0] == first
