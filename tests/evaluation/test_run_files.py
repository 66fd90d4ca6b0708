"""Runs read for judging: what is wrong with them is counted, the order is what was asked for."""

import gzip

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inpars.errors import DataFormatError
from inpars.evaluation.run_files import read_checked_run, read_ordered_run
from inpars.io.formats import read_run, write_run


def checked(tmp_path, text, judged=None, order="score", name="run.trec"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return read_checked_run(path, judged, order)


def trec(*rows):
    return "".join(f"{query_id} Q0 {doc_id} {rank} {score} toy\n" for query_id, doc_id, rank, score in rows)


def test_scores_are_read_and_nothing_is_wrong(tmp_path):
    found = checked(tmp_path, trec(("q1", "a", 1, 2.5), ("q1", "b", 2, 1.0), ("q2", "a", 1, 7)))
    assert found.run == {"q1": {"a": 2.5, "b": 1.0}, "q2": {"a": 7.0}}
    notes = found.notes
    assert (notes.tag, notes.results, notes.twice, notes.misordered, notes.tied) == ("toy", 3, 0, (), 0)
    assert notes.unjudged_queries == 0


def test_a_document_ranked_twice_counts_where_it_comes_first(tmp_path):
    found = checked(tmp_path, trec(("q1", "a", 1, 3), ("q1", "a", 2, 2), ("q1", "b", 3, 1)))
    assert found.run == {"q1": {"a": 3.0, "b": 1.0}}
    assert (found.notes.results, found.notes.twice) == (3, 1)


def test_ranks_that_contradict_scores_are_found(tmp_path):
    rows = [("q1", "a", 1, 1), ("q1", "b", 2, 5), ("q2", "a", 1, 5), ("q2", "b", 2, 1)]
    assert checked(tmp_path, trec(*rows)).notes.misordered == ("q1",)
    backwards = trec(("q1", "b", 2, 5), ("q1", "a", 1, 9))  # lines in another order, but nothing contradicts
    assert checked(tmp_path, backwards).notes.misordered == ()


@pytest.mark.parametrize("ranks", [("0", "0"), ("-", "-"), ("1", "9" * 30)])
def test_ranks_that_say_nothing_contradict_nothing(tmp_path, ranks):
    rows = [("q1", doc_id, rank, score) for doc_id, rank, score in zip("ab", ranks, (1, 2), strict=True)]
    assert checked(tmp_path, trec(*rows)).notes.misordered == ()


def test_scores_that_float32_cannot_tell_apart_contradict_nothing_and_tie(tmp_path):
    found = checked(tmp_path, trec(("q1", "a", 1, 0.1), ("q1", "b", 2, 0.1 + 1e-12)))
    assert (found.notes.misordered, found.notes.tied) == ((), 1)


def test_ties_count_among_the_first_ten(tmp_path):
    rows = [("q1", f"d{n}", n, 100 - n) for n in range(1, 12)]
    tail = [("q1", "x", 12, 89.0)]  # as the eleventh: nobody's tenth place depends on it
    assert checked(tmp_path, trec(*rows, *tail)).notes.tied == 0
    assert checked(tmp_path, trec(*rows[:10], ("q1", "x", 11, 90.0))).notes.tied == 1  # as the tenth


def test_queries_without_judgements_are_counted_and_left(tmp_path):
    found = checked(tmp_path, trec(("q1", "a", 1, 1), ("q8", "a", 1, 1), ("q9", "a", 1, 1)), judged={"q1": {"a": 1}})
    assert (list(found.run), found.notes.unjudged_queries, found.notes.results) == (["q1"], 2, 1)


def test_file_order_ranks_by_the_lines(tmp_path):
    text = trec(("q1", "a", 1, 1), ("q1", "b", 2, 5), ("q1", "c", 3, 5))
    assert checked(tmp_path, text, order="file").run == {"q1": {"a": -1.0, "b": -2.0, "c": -3.0}}


@pytest.mark.parametrize("order", ["score", "file"])
def test_three_columns_rank_by_their_rank(tmp_path, order):
    found = checked(tmp_path, "q1\tb\t2\nq1\ta\t1\n", order=order)
    assert found.run["q1"] == {"a": -1.0, "b": -2.0}
    assert (found.notes.misordered, found.notes.tag) == ((), "")


def test_lines_that_rank_against_their_ranks_are_found(tmp_path):
    sorted_by_id = trec(("q1", "a", 2, 1), ("q1", "b", 1, 5), ("q2", "a", 1, 5), ("q2", "b", 2, 1))
    assert checked(tmp_path, sorted_by_id, order="file").notes.misordered == ("q1",)
    assert checked(tmp_path, sorted_by_id).notes.misordered == ()


def test_a_run_to_reorder_notes_what_contradicts_its_scores(tmp_path):
    path, notes = tmp_path / "run.trec", []
    path.write_text(trec(("q1", "a", 1, 0.1), ("q1", "b", 2, 0.9), ("q2", "a", 1, 1)), encoding="utf-8")
    assert read_ordered_run(path, notes.append) == read_run(path)
    (note,) = notes
    assert "disagree for 1 of 2 queries, 'q1' first" in note
    path.write_text(trec(("q1", "a", 1, 2), ("q1", "a", 2, 1)), encoding="utf-8")
    with pytest.raises(DataFormatError, match="ranked twice"):
        read_ordered_run(path, notes.append)


def test_queries_need_not_be_together(tmp_path):
    text = trec(("q1", "a", 1, 3), ("q2", "a", 1, 3), ("q1", "b", 2, 2))
    assert checked(tmp_path, text).run == {"q1": {"a": 3.0, "b": 2.0}, "q2": {"a": 3.0}}


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("q1 Q0 a 1 nan t", "field 'score': must be a finite number"),
        ("q1 Q0 a 1 inf t", "field 'score': must be a finite number"),
        ("q1 Q0 a 1 high t", "field 'score'"),
        ("q1 Q0 a 1 2", "5 columns"),
        ("q1\ta\tfirst", "field 'rank'"),
    ],
)
def test_lines_that_are_none_are_named(tmp_path, line, shown):
    with pytest.raises(DataFormatError, match=r"run\.trec:3: ") as caught:
        checked(tmp_path, f"q0 Q0 a 1 1 t\n\n{line}\n")
    assert shown in str(caught.value)


def test_bytes_that_are_no_text_are_named(tmp_path):
    path = tmp_path / "run.trec"
    path.write_bytes(b"q1 Q0 a 1 2 t\nq1 Q0 \xff 2 1 t\n")
    with pytest.raises(DataFormatError, match=r"run\.trec:2: not UTF-8"):
        read_checked_run(path)


def test_marks_and_archives_are_read(tmp_path):
    packed = tmp_path / "run.trec.gz"
    packed.write_bytes(gzip.compress("\ufeffq1 Q0 ä 1 2 t\n".encode()))
    assert read_checked_run(packed).run == {"q1": {"ä": 2.0}}


def test_huge_scores_do_not_stop_it(tmp_path):
    assert checked(tmp_path, trec(("q1", "a", 1, 1e300), ("q1", "b", 2, 1))).notes.misordered == ()


RUNS = st.dictionaries(
    st.sampled_from(["q1", "q2"]),
    st.dictionaries(st.sampled_from("abcdef"), st.integers(-9, 9).map(float), min_size=1),
    min_size=1,
)


@settings(max_examples=30, deadline=None)
@given(RUNS)
def test_what_is_written_is_read_as_the_careful_reader_does(tmp_path_factory, run):
    path = tmp_path_factory.mktemp("runs") / "run.trec"
    write_run(path, run, "toy")
    found = read_checked_run(path)
    assert found.run == read_run(path)
    assert (found.notes.misordered, found.notes.twice) == ((), 0)


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("q1 Q0 a 1 1_000 t", "field 'score'"),  # Python reads 1000, trec_eval 1
        ("q1 Q0 a 1 \uff15 t", "field 'score'"),  # a digit, to Python
        ("q1\ta\t0", "field 'rank'"),
        ("q1\ta\t16777217", "field 'rank'"),  # 2**24 + 1: no float32
        ("q1\ta\t" + "9" * 400, "field 'rank'"),
        ("q1\ta\t" + "9" * 5000, "field 'rank'"),
        ("query Q0 doc rank score tag", "field 'score'"),  # a header
        ("query\tdoc\trank", "field 'rank'"),
        ("q1 Q0 a\u00a0b 1 2 t", "7 columns"),
    ],
)
@pytest.mark.parametrize("reader", [read_checked_run, read_run])
def test_numbers_and_ids_that_others_read_otherwise_are_named(tmp_path, reader, line, shown):
    path = tmp_path / "run.trec"
    path.write_text(f"q0 Q0 a 1 1 t\n{line}\n", encoding="utf-8")
    with pytest.raises(DataFormatError, match=r"run\.trec:2: ") as caught:
        reader(path)
    assert shown in str(caught.value)


@pytest.mark.parametrize("reader", [lambda path: read_checked_run(path).run, read_run])
def test_marks_of_byte_order_and_blanks_of_any_kind_are_no_part_of_ids(tmp_path, reader):
    """Files put together from several that begin with a mark lost the first line of each."""
    path = tmp_path / "run.trec"
    path.write_text("\ufeffq1 Q0 a 1 2 t\n\ufeffq1 \tQ0 b\u00a0 2 1 t\n\ufeffq1\t c \t3\n", encoding="utf-8")
    assert reader(path) == {"q1": {"a": 2.0, "b": 1.0, "c": -3.0}}


def test_ranks_of_any_length_do_not_stop_a_run_of_scores(tmp_path):
    found = checked(tmp_path, trec(("q1", "a", 1, 2), ("q1", "b", "9" * 5000, 1)))
    assert found.run == {"q1": {"a": 2.0, "b": 1.0}}
