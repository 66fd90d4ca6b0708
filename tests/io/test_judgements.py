"""Judgements in every format follow one rule: valid ids, grades within limits, one grade per pair."""

import json
import types
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inpars.contrib.interchange.folder import Folder
from inpars.contrib.interchange.items import Document, Example, JudgedQuery
from inpars.contrib.interchange.trec import read as read_trec
from inpars.documents.datasets import load_judged, load_topics
from inpars.documents.ir_collections import ir_splits
from inpars.errors import DataFormatError
from inpars.io.judgements import GRADE_LIMIT, checked_grade, iterate_qrels, read_qrels, write_qrels
from inpars.records import Qrel, Query

HEADER = "query-id\tcorpus-id\tscore"


class Notes:
    def __init__(self):
        self.said = []

    def note(self, message):
        self.said.append(message)


def written(path, *lines):
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def fails(path, *parts):
    for reader in (read_qrels, lambda path: list(iterate_qrels(path))):
        with pytest.raises(DataFormatError) as caught:
            reader(path)
        assert all(part in str(caught.value) for part in parts), str(caught.value)


@pytest.mark.parametrize("grade", ["1001", "-1001", "99999999999999999999", "7" * 5000, "-" + "7" * 5000])
@pytest.mark.parametrize("line", ["q1 0 d1 {}", "q1\td1\t{}", '{{"query_id": "q1", "doc_id": "d1", "relevance": {}}}'])
def test_grades_beyond_the_limits_are_named(tmp_path, line, grade):
    """trec_eval takes memory and time by the highest grade, and Python reads no more than 4,300 digits."""
    lines = [line.format(1).replace("d1", "d0"), line.format(grade)]
    fails(written(tmp_path / "qrels.txt", *lines), "qrels.txt:2: ")


def test_grades_at_the_limits_are_read(tmp_path):
    path = written(tmp_path / "q", f"q 0 a {GRADE_LIMIT}", f"q 0 b {-GRADE_LIMIT}")
    assert read_qrels(path) == {"q": {"a": GRADE_LIMIT, "b": -GRADE_LIMIT}}


@pytest.mark.parametrize("value", [0.5, float("nan"), float("inf"), 10**400, None, "1.0", "x", "9" * 30])
def test_grades_of_other_places_are_whole_numbers_too(value):
    with pytest.raises(ValueError, match="from -1000 to 1000"):
        checked_grade(value)
    assert [checked_grade(good) for good in (2, 2.0, "2", -1)] == [2, 2, 2, -1]


@pytest.mark.parametrize("grades", [(1, 0), (0, 1)])
def test_two_judgements_that_disagree_are_an_error_in_any_order(tmp_path, grades):
    """joaopalotti/trectools#52: of two grades the last, or the first, won in silence."""
    rows = [f"1 0 a {grades[0]}", f"1 0 a {grades[1]}", "1 0 b 1", "2 0 b 1", "2 0 b 2", "2 0 b 3"]
    trec = written(tmp_path / "a.txt", *rows)
    fails(trec, "a.txt:2: ", "'a'", "'1'", f"{grades[0]} before and {grades[1]} here", "several ways: 2")
    beir = written(tmp_path / "a.tsv", HEADER, *(row.replace(" 0 ", " ").replace(" ", "\t") for row in rows))
    fails(beir, "a.tsv:3: ", "several ways: 2")
    names = ("query_id", "doc_id", "relevance")
    as_json = [dict(zip(names, (q, d, int(grade)), strict=True)) for q, _, d, grade in map(str.split, rows)]
    fails(written(tmp_path / "a.jsonl", *map(json.dumps, as_json)), "a.jsonl:2: ", "several ways: 2")


def test_the_same_judgement_twice_counts_once(tmp_path):
    path = written(tmp_path / "q", "1 0 a 1", "1 0 b 0", "1 0 a 1")
    assert read_qrels(path) == {"1": {"a": 1, "b": 0}}
    assert list(iterate_qrels(path)) == [Qrel("1", "a", 1), Qrel("1", "b", 0)]


@pytest.mark.parametrize("grades", [(1, 0), (1, 1)])
def test_subtopics_of_one_pair_are_named(tmp_path, grades):
    """terrierteam/ir_measures#61: the last subtopic won."""
    rows = [f"q0 1 d0 {grades[0]}", "q0 1 d1 0", f"q0 2 d0 {grades[1]}", "q0 2 d1 1"]
    fails(written(tmp_path / "d.txt", *rows), "d.txt:3: ", "subtopic '1'", "'2'", "column 2", "diversity", "ways: 2")


def test_a_second_column_of_any_kind_is_read_where_each_pair_has_one(tmp_path):
    assert read_qrels(written(tmp_path / "q", "1 0 a 1", "1 Q0 b 0", "2 7 a 1", "1 Q0 b 0")) == {
        "1": {"a": 1, "b": 0},
        "2": {"a": 1},
    }


@pytest.mark.parametrize(
    ("line", "ids"),
    [
        ("1 \ta \t1", ("1", "a")),
        (" 1\t0\t a\t1 ", ("1", "a")),
        ("\u00a01\ta\u00a0\t1", ("1", "a")),
        ('1\t"a"\t1', ("1", "a")),
        ('"1"\t"a"\t"1"', ("1", "a")),
        ('1\t"""Heroes""_(album)"\t1', ("1", '"Heroes"_(album)')),  # as BEIR's csv has it
        ('1\t"Heroes"_(album)\t1', ("1", '"Heroes"_(album)')),
        ('1\t"\t1', ("1", '"')),
        ('1 0 "a" 1', ("1", '"a"')),  # TREC's columns are no csv
        ("1\t0\t\u00e4#1,2\t1", ("1", "\u00e4#1,2")),
        ("\ufeff1\t0\ta\t1", ("1", "a")),
    ],
)
def test_ids_are_read_without_what_is_around_them(tmp_path, line, ids):
    assert read_qrels(written(tmp_path / "q", "0 0 x 1" if "\t0\t" in line or " 0 " in line else HEADER, line))[
        ids[0]
    ] == {ids[1]: 1}


@pytest.mark.parametrize("line", ["1\td 1\t1", "1\t\t1", "\t0\td1\t1", '1\t""\t1', '1\t"d 1"\t1'])
def test_ids_that_are_none_are_named(tmp_path, line):
    fails(written(tmp_path / "q.tsv", HEADER, line), "q.tsv:2: an id must be one word")


IDS = st.text(st.sampled_from("ab\"\\,#'"), min_size=1, max_size=5)


@given(st.dictionaries(IDS, st.dictionaries(IDS, st.integers(-3, 5), min_size=1)))
def test_ids_with_quotes_come_back(tmp_path_factory, qrels):
    path = tmp_path_factory.mktemp("qrels") / "test.tsv"
    write_qrels(path, qrels)
    assert read_qrels(path) == qrels


def test_the_first_judgement_is_no_header(tmp_path):
    """A first line whose grade was not a whole number used to be skipped as a header."""
    fails(written(tmp_path / "q.tsv", "q1\td1\t1.0", "q1\td2\t1"), "q.tsv:1: field 'relevance'")
    assert read_qrels(written(tmp_path / "r.tsv", '"query-id"\t"corpus-id"\t"score"', "q\td\t1")) == {"q": {"d": 1}}


def test_marks_of_byte_order_within_a_file_are_no_part_of_ids(tmp_path):
    """`cat one two` of files that begin with a mark."""
    assert read_qrels(written(tmp_path / "q", "\ufeffq1 0 d1 1", "\ufeffq1 0 d2 1")) == {"q1": {"d1": 1, "d2": 1}}


def vote(doc_id, relevance, **more):
    return json.dumps({"query_id": "q", "doc_id": doc_id, "relevance": relevance, **more})


@pytest.mark.parametrize("name", ["fb.jsonl", "fb.tsv", "fb.txt", "fb"])
def test_votes_are_read_under_any_name_and_replaced_ones_are_counted(tmp_path, name):
    votes = [("a", 1), ("b", 1), ("a", 0), ("c", 1), ("c", None), ("b", 1)]
    path, notes = written(tmp_path / name, *(vote(*one, time="2026") for one in votes)), Notes()
    assert read_qrels(path, notes) == {"q": {"a": 0, "b": 1}}
    (note,) = notes.said
    assert f"{name}: 2 votes" in note  # a was changed, c was taken back
    assert "last" in note


def test_json_that_is_no_judgement_is_named(tmp_path):
    fails(written(tmp_path / "v.tsv", vote("a", 1), "q 0 a 1"), "v.tsv:2: ", "JSON")
    fails(written(tmp_path / "v.jsonl", vote("a", 1), "[1]"), "v.jsonl:2: not a JSON object")
    fails(written(tmp_path / "d.jsonl", '{"a":' * 50_000), "d.jsonl:1: ", "nested")


def test_a_file_without_judgements_is_named(tmp_path):
    with pytest.raises(DataFormatError, match=r"q\.tsv: no judgements"):
        load_judged(None, written(tmp_path / "q.tsv", HEADER))


def test_a_zip_of_beir_has_the_same_rule(tmp_path, monkeypatch):
    monkeypatch.setenv("INPARS_CACHE", str(tmp_path / "cache"))
    with zipfile.ZipFile(tmp_path / "toy.zip", "w") as packed:
        packed.writestr("toy/corpus.jsonl", '{"_id": "a", "text": "x"}\n')
        packed.writestr("toy/queries.jsonl", '{"_id": "1", "text": "x"}\n')
        packed.writestr("toy/qrels/test.tsv", f"{HEADER}\n1\ta\t1\n1\ta\t0\n")
    with pytest.raises(DataFormatError, match=r"test\.tsv:3: "):
        load_topics(str(tmp_path / "toy.zip"))


class Collection:
    """An ir_datasets collection of one query, with id 1, and these judgements."""

    def __init__(self, *rows, **more):
        self.rows = [types.SimpleNamespace(query_id=q, doc_id=d, relevance=r, **more) for q, d, r in rows]

    def has_queries(self):
        return True

    has_qrels = has_queries

    def queries_iter(self):
        yield types.SimpleNamespace(query_id="1", default_text=lambda: "what")

    def qrels_iter(self):
        return iter(self.rows)


def test_collections_of_ir_datasets_have_the_same_rule():
    def topics(collection):
        return ir_splits(collection, "some/name")["test"]()

    assert topics(Collection(("1", "a", 1), ("1", "a", 1), ("1", "b", "2"))).qrels == {"1": {"a": 1, "b": 2}}
    with pytest.raises(DataFormatError, match=r"some/name, judgement 2: .*'a'.* 1 before and 0 here"):
        topics(Collection(("1", "a", 1), ("1", "a", 0)))
    with pytest.raises(DataFormatError, match=r"some/name, judgement 1: relevance must be .*0\.5"):
        topics(Collection(("1", "a", 0.5)))
    by_subtopic = Collection(("1", "a", 1), ("1", "a", 1))
    by_subtopic.rows[0].subtopic_id, by_subtopic.rows[1].subtopic_id = "1", "2"
    with pytest.raises(DataFormatError, match="diversity"):
        topics(by_subtopic)


def test_judged_queries_without_text_are_counted():
    topics = ir_splits(Collection(("1", "a", 1), ("2", "a", 1), ("3", "a", 1)), "some/name")["test"]()
    assert topics.qrels == {"1": {"a": 1}}
    notes = Notes()
    topics.say_remarks(notes)
    assert "2 judged queries of some/name" in notes.said[0]


def test_files_of_one_import_must_agree_too(tmp_path):
    (tmp_path / "in").mkdir()
    written(tmp_path / "in" / "one.txt", "1 0 a 1")
    written(tmp_path / "in" / "two.txt", "1 0 a 0")
    with (
        pytest.raises(DataFormatError, match="query '1' and document 'a' disagree in split 'test'"),
        Folder(tmp_path / "out", "trec", tmp_path / "in") as folder,
    ):
        folder.add(read_trec(tmp_path / "in"))


def test_what_was_judged_says_more_than_a_positive_of_an_example(tmp_path):
    with Folder(tmp_path / "out", "gpl", tmp_path) as folder:
        folder.add([JudgedQuery(Qrel("q", "d", 0)), Example(Query("q", "words"), Document("d", "text"))])
    assert folder.dropped == {"positive_judged_otherwise": 1}
    assert read_qrels(tmp_path / "out" / "qrels" / "train.tsv") == {"q": {"d": 0}}
