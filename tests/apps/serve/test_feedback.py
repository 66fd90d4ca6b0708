"""Votes: one line each, readable as judgements, intact after an incomplete line."""

import json

import pytest

from inpars.apps.serve.feedback import Feedback, query_id_of
from inpars.documents.datasets import load_judged
from inpars.errors import ConfigError, DataFormatError
from inpars.io.formats import read_queries
from inpars.io.judgements import iterate_qrels, read_qrels


def vote(feedback, query, doc_id, relevance):
    return feedback.add(query, doc_id, relevance, system="hybrid", rank=1)


def test_the_last_vote_counts_and_null_takes_it_back(tmp_path):
    path = tmp_path / "votes.jsonl"
    feedback = Feedback(path)
    first = vote(feedback, "duck typing", "1", 1)
    vote(feedback, "duck typing", "2", 1)
    vote(feedback, "duck typing", "2", 0)
    vote(feedback, "duck typing", "3", 1)
    vote(feedback, "duck typing", "3", None)
    feedback.close()
    assert read_qrels(path) == {first: {"1": 1, "2": 0}}


def test_a_query_is_kept_once_over_restarts(tmp_path):
    path = tmp_path / "votes.jsonl"
    for query in ("Duck typing", "duck  typing", "goose"):
        feedback = Feedback(path)
        vote(feedback, query, "1", 1)
        feedback.close()
    queries = list(read_queries(tmp_path / "votes.queries.jsonl"))
    assert [query.text for query in queries] == ["Duck typing", "goose"]
    assert {query.query_id for query in queries} == {query_id_of("duck typing"), query_id_of("goose")}


def test_a_torn_line_is_cut(tmp_path):
    path = tmp_path / "votes.jsonl"
    feedback = Feedback(path)
    query_id = vote(feedback, "duck", "1", 1)
    feedback.close()
    with path.open("a", encoding="utf-8") as stream:
        stream.write('{"query_id": "x", "doc')
    feedback = Feedback(path)
    vote(feedback, "duck", "2", 1)
    feedback.close()
    assert read_qrels(path) == {query_id: {"1": 1, "2": 1}}


@pytest.mark.parametrize("relevance", ["1", 1.5, True, [1]])
def test_votes_that_are_no_whole_numbers_are_named(tmp_path, relevance):
    path = tmp_path / "votes.jsonl"
    path.write_text(json.dumps({"query_id": "q", "doc_id": "1", "relevance": relevance}) + "\n", encoding="utf-8")
    with pytest.raises(DataFormatError, match=r"votes\.jsonl:1: field 'relevance': .*whole number"):
        list(iterate_qrels(path))


@pytest.mark.parametrize("name", ["fb.tsv", "fb.txt", "fb.qrels", "fb", "fb.json", "fb.jsonl"])
def test_what_is_kept_under_any_name_is_read_again(tmp_path, name):
    """`--feedback fb.tsv` was accepted, and `--qrels fb.tsv` then found 17 columns."""
    path = tmp_path / name
    for relevance in (1, 0):  # over a restart
        feedback = Feedback(path)
        query_id = vote(feedback, "duck typing", "1", relevance)
        feedback.close()
    assert read_qrels(path) == load_judged(None, path).qrels == {query_id: {"1": 0}}
    assert [query.query_id for query in read_queries(feedback.queries_path)] == [query_id]


@pytest.mark.parametrize(
    ("name", "content"), [("qrels.tsv", "q1 0 d1 1"), ("qrels.jsonl", "q1 0 d1 1"), ("fb.jsonl.gz", None)]
)
def test_votes_are_not_added_to_other_things(tmp_path, name, content):
    path = tmp_path / name
    if content is not None:
        path.write_text(content, encoding="utf-8")  # without a newline at the end: it would have been cut
    with pytest.raises(ConfigError, match=name):
        Feedback(path)
    assert (path.read_text(encoding="utf-8") if path.exists() else None) == content
