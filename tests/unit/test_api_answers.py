"""The journal: what it holds survives, and what is torn does not count."""

import json

import pytest

from inpars.errors import DataFormatError, StorageError
from inpars.generation import GeneratedQuery
from inpars.generation.api.journal import AnswerJournal, journal_path, read_answers
from inpars.generation.api.requests import Answer, refusal

ANSWER = Answer(GeneratedQuery("what is «ä»?", (), (-0.25, -1 / 3), -0.5, "stop"), 100, 4)
BARE = Answer(GeneratedQuery("why", (), (), None, "length", "absent"), 10, 2)


@pytest.fixture
def path(tmp_path):
    return journal_path(tmp_path / "queries.jsonl")


@pytest.fixture
def journal(path):
    opened = AnswerJournal(path)
    yield opened
    opened.close()


def test_what_was_added_comes_back(journal, path):
    journal.add("d1-q0", "one", ANSWER, 0.5)
    journal.add("d2-q0", "two", BARE, 0.25)
    journal.add("d3-q0", "three", Answer(refusal(), 0, 0), 0.0)
    journal.add_lost(0.125)
    journal.close()
    assert path.name == "queries.jsonl.answers.jsonl"
    again = AnswerJournal(path)
    assert (again["one"], again["two"], again["three"]) == (ANSWER.query, BARE.query, refusal())
    assert (len(again), again.written, "four" in again) == (3, 2, False)
    # 0.5 + 0.25 + 0.125
    assert (again.spent.usd, again.spent.input_tokens, again.spent.output_tokens) == (0.875, 110, 6)
    again.close()


def test_an_answer_is_on_the_disk_before_the_next_one(journal, path):
    journal.add("d1-q0", "one", ANSWER, 0.5)
    assert json.loads(path.read_text(encoding="utf-8"))["text"] == "what is «ä»?"


def test_the_same_answer_is_kept_and_counted_once(journal):
    journal.add("d1-q0", "one", ANSWER, 0.5)
    journal.add_all([("d1-q0", "one", BARE, 0.5), ("d2-q0", "two", BARE, 0.25)])
    assert journal["one"] == ANSWER.query
    assert journal.spent.usd == 0.75


def test_a_torn_last_line_is_dropped_at_any_byte(journal, path):
    journal.add("d1-q0", "one", ANSWER, 0.5)
    first = path.read_bytes()
    journal.add("d2-q0", "two", ANSWER, 0.5)
    journal.close()
    whole = path.read_bytes()
    for cut in range(len(first), len(whole), 7):
        path.write_bytes(whole[:cut])
        assert [record["request"] for record in read_answers(path)] == ["one"]
        assert path.read_bytes() == whole[:cut], "reading touches nothing"
        again = AnswerJournal(path)
        assert len(again) == 1
        again.add("d2-q0", "two", ANSWER, 0.5)
        again.close()
        assert path.read_bytes() == whole


@pytest.mark.parametrize("line", [b"{", b"[]", b'{"text": 1}', b"\xff"])
def test_a_broken_line_in_the_middle_is_named(path, line):
    path.write_bytes(line + b'\n{"lost_usd": 0.5}\n')
    with pytest.raises(DataFormatError, match=r"answers\.jsonl:1: .*remove this line"):
        AnswerJournal(path)


def test_no_journal_is_an_empty_one(path):
    assert list(read_answers(path)) == []
    assert not path.exists()


def test_nothing_follows_a_line_that_could_not_be_written(journal, monkeypatch):
    """A full disk tears a line; a second answer behind it would make the journal unreadable."""

    def full(_):
        raise StorageError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(journal._lines, "append", full)
        with pytest.raises(StorageError, match="disk is full"):
            journal.add("d1-q0", "one", ANSWER, 0.5)
    with pytest.raises(StorageError, match="run the same command again"):
        journal.add("d2-q0", "two", ANSWER, 0.5)
    assert len(journal) == 0
