"""The journal: what it holds survives, and what is torn does not count."""

import json

import pytest

from inpars.errors import DataFormatError, StorageError
from inpars.generation import GeneratedQuery
from inpars.generation.api.budget import Price
from inpars.generation.api.journal import AnswerJournal, journal_path, read_answers
from inpars.generation.api.requests import Answer, refusal

ANSWER = Answer(GeneratedQuery("what is «ä»?", (), (-0.25, -1 / 3), -0.5, "stop"), 100, 4)
BARE = Answer(GeneratedQuery("why", (), (), None, "length", "absent"), 10, 2)

PRICE = Price(5_000, 0)  # USD per million tokens: half a cent for each that is read


@pytest.fixture
def path(tmp_path):
    return journal_path(tmp_path / "queries.jsonl")


@pytest.fixture
def journal(path):
    opened = AnswerJournal(path, PRICE)
    yield opened
    opened.close()


def test_what_was_added_comes_back(journal, path):
    journal.add({"one": ("d1-q0", ANSWER), "two": ("d2-q0", BARE)})
    journal.add({"three": ("d3-q0", Answer(refusal(), 0, 0))})
    journal.add_lost(0.125)
    journal.close()
    assert path.name == "queries.jsonl.answers.jsonl"
    again = AnswerJournal(path)
    assert (again["one"], again["two"], again["three"]) == (ANSWER.query, BARE.query, refusal())
    assert (len(again), again.written, "four" in again) == (3, 2, False)
    # (100 + 10) / 200 for what was read, 0.125 for what was lost
    assert (again.spent.usd, again.spent.input_tokens, again.spent.output_tokens) == (0.675, 110, 6)
    again.close()


def test_an_answer_is_on_the_disk_before_the_next_one(journal, path):
    journal.add({"one": ("d1-q0", ANSWER)})
    assert json.loads(path.read_text(encoding="utf-8"))["text"] == "what is «ä»?"


def test_the_same_answer_is_kept_and_counted_once(journal):
    journal.add({"one": ("d1-q0", ANSWER)})
    journal.add({"one": ("d1-q0", BARE), "two": ("d2-q0", BARE)})
    assert journal["one"] == ANSWER.query
    assert journal.spent.usd == 0.55


def test_a_torn_last_line_is_dropped_at_any_byte(journal, path):
    journal.add({"one": ("d1-q0", ANSWER)})
    first = path.read_bytes()
    journal.add({"two": ("d2-q0", ANSWER)})
    journal.close()
    whole = path.read_bytes()
    for cut in range(len(first), len(whole), 7):
        path.write_bytes(whole[:cut])
        assert [record["request"] for record in read_answers(path)] == ["one"]
        assert path.read_bytes() == whole[:cut], "reading touches nothing"
        again = AnswerJournal(path, PRICE)
        assert len(again) == 1
        again.add({"two": ("d2-q0", ANSWER)})
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
            journal.add({"one": ("d1-q0", ANSWER)})
    with pytest.raises(StorageError, match="run the same command again"):
        journal.add({"two": ("d2-q0", ANSWER)})
    assert len(journal) == 0
