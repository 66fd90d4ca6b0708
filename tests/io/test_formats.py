"""Formats: reading, writing, and errors with their line."""

import json
import struct
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inpars.errors import DataFormatError
from inpars.io.fields import is_tsv, one_line
from inpars.io.formats import (
    read_documents,
    read_queries,
    read_run,
    read_synthetic_queries,
    run_lines,
    synthetic_query_record,
    write_documents,
    write_queries,
    write_run,
)
from inpars.io.judgements import read_qrels, write_qrels
from inpars.io.runs import rank
from inpars.io.storage import write_jsonl, write_lines
from inpars.io.triples import read_triple_ids, triple_id_lines
from inpars.records import Document, Query, SyntheticQuery, Triple

TOY = Path(__file__).parents[1] / "data" / "toy"
TEXTS = st.text(max_size=30)
IDS = st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=6)
on_disk = settings(max_examples=40, deadline=None)  # a disk shared with others has no deadline
SUFFIXES = pytest.mark.parametrize("suffix", ["", ".gz"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("formats")


def written(path, *lines):
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


# Round trips


@SUFFIXES
@on_disk
@given(documents=st.lists(st.builds(Document, IDS, TEXTS, TEXTS), max_size=6))
def test_documents_round_trip(folder, suffix, documents):
    path = folder / f"corpus.jsonl{suffix}"
    assert write_documents(path, documents) == len(documents)
    assert list(read_documents(path)) == documents


@SUFFIXES
@on_disk
@given(queries=st.lists(st.builds(Query, IDS, TEXTS), max_size=6, unique_by=lambda query: query.query_id))
def test_queries_round_trip(folder, suffix, queries):
    path = folder / f"queries.jsonl{suffix}"
    assert write_queries(path, queries) == len(queries)
    assert list(read_queries(path)) == queries


@SUFFIXES
@on_disk
@given(
    qrels=st.dictionaries(
        IDS.filter(lambda text: "\ufeff" not in text),
        st.dictionaries(IDS, st.integers(-2, 4), min_size=1, max_size=3),
        max_size=4,
    )
)
def test_qrels_round_trip(folder, suffix, qrels):
    path = folder / f"qrels.tsv{suffix}"
    assert write_qrels(path, qrels) == sum(map(len, qrels.values()))
    assert read_qrels(path) == qrels


@SUFFIXES
@on_disk
@given(
    run=st.dictionaries(
        IDS, st.dictionaries(IDS, st.floats(-1e6, 1e6, allow_nan=False), min_size=1, max_size=9), max_size=3
    )
)
def test_runs_keep_their_order_for_readers_in_float32(folder, suffix, run):
    path = folder / f"run.trec{suffix}"
    write_run(path, run, "tag")
    back = read_run(path)
    assert [list(scores) for scores in back.values()] == [[doc for doc, _ in rank(scores)] for scores in run.values()]
    for scores in back.values():
        single = [struct.unpack("f", struct.pack("f", score))[0] for score in scores.values()]
        assert all(above > below for above, below in pairwise(single))


@given(
    st.dictionaries(IDS, st.integers(-(10**6), 10**6).map(lambda number: number / 100), max_size=6),
)
def test_scores_that_differ_are_written_as_they_are(scores):
    run = {"q": dict(zip(scores, sorted(set(scores.values())), strict=False))}
    lines = [line.split() for line in run_lines(run, "t")]
    assert {fields[2]: float(fields[4]) for fields in lines} == run["q"]


SYNTHETIC = st.builds(
    SyntheticQuery,
    query_id=IDS,
    doc_id=IDS,
    text=TEXTS,
    token_log_probs=st.lists(st.integers(-(10**6), 0).map(lambda n: n / 10**5), max_size=4).map(tuple),
    stop_log_prob=st.none() | st.integers(-(10**6), 0).map(lambda n: n / 10**5),
    finish_reason=st.sampled_from(["stop", "length", "error"]),
    log_prob_kind=st.sampled_from(["raw", "processed"]),
    prompt=TEXTS,
    model=TEXTS,
    token_ids=st.lists(st.integers(0, 200_000), max_size=4).map(tuple),
)


@SUFFIXES
@on_disk
@given(queries=st.lists(SYNTHETIC, max_size=5, unique_by=lambda query: query.query_id))
def test_synthetic_queries_round_trip(folder, suffix, queries):
    path = folder / f"synthetic.jsonl{suffix}"
    write_jsonl(path, (synthetic_query_record(query) for query in queries))
    assert list(read_synthetic_queries(path)) == queries


@SUFFIXES
@on_disk
@given(triples=st.lists(st.builds(Triple, IDS, IDS, IDS), max_size=6))
def test_triples_round_trip(folder, suffix, triples):
    path = folder / f"triples.tsv{suffix}"
    write_lines(path, triple_id_lines([Triple("first", "a", "b"), *triples]))
    assert list(read_triple_ids(path)) == [Triple("first", "a", "b"), *triples]


# The toy collection


def test_all_forms_of_the_toy_collection_say_the_same():
    documents = list(read_documents(TOY / "beir" / "corpus.jsonl"))
    assert len(documents) == 30
    assert list(read_documents(TOY / "corpus.tsv")) == documents
    qrels = read_qrels(TOY / "beir" / "qrels" / "test.tsv")
    assert read_qrels(TOY / "qrels.trec") == qrels
    assert qrels["q1"] == {"d01": 2, "d02": 1}
    queries = {query.query_id: query.text for query in read_queries(TOY / "beir" / "queries.jsonl")}
    assert {query.query_id: query.text for query in read_queries(TOY / "queries.tsv")}.items() <= queries.items()
    assert read_run(TOY / "run.trec")["q1"] == {"d01": 8.5, "d02": 7.0, "d04": 5.5}
    known = {document.doc_id for document in documents}
    synthetic = {query.query_id: query for query in read_synthetic_queries(TOY / "queries.synthetic.jsonl")}
    for triple in read_triple_ids(TOY / "triples.ids.tsv"):
        assert synthetic[triple.query_id].doc_id == triple.positive_doc_id != triple.negative_doc_id
        assert triple.negative_doc_id in known


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_synthetic_queries_of_the_inpars_toolkit(version):
    """Toolkit fault: v1's files carry `question` and `doc_text`, which its own later commands cannot read."""
    ours = list(read_synthetic_queries(TOY / "queries.synthetic.jsonl"))
    theirs = list(read_synthetic_queries(TOY / f"queries.synthetic.{version}.jsonl"))
    for query, expected in zip(theirs, ours, strict=True):
        assert (query.query_id, query.doc_id, query.text) == (expected.query_id, expected.doc_id, expected.text)
        assert query.token_log_probs == expected.token_log_probs
        assert (query.log_prob_kind, query.finish_reason, query.stop_log_prob) == ("raw", "stop", None)


# What readers accept


@pytest.mark.parametrize(
    ("record", "document"),
    [
        ({"_id": "1", "title": "T", "text": "x", "metadata": {"url": "u"}}, Document("1", "x", "T", {"url": "u"})),
        ({"id": 7, "contents": "x"}, Document("7", "x")),
        ({"doc_id": "1", "text": "x", "title": None}, Document("1", "x")),
        ({"docid": "1", "body": ""}, Document("1", "")),
        ({"_id": 0, "text": "x"}, Document("0", "x")),
        ({"_id": "1", "text": "null"}, Document("1", "null")),
        ({"_id": "1", "text": "NA"}, Document("1", "NA")),
        ({"_id": "1", "text": 'say "x'}, Document("1", 'say "x')),
    ],
)
def test_documents_by_field_names(tmp_path, record, document):
    path = written(tmp_path / "c.jsonl", json.dumps(record))
    assert list(read_documents(path)) == [document]


def test_null_passages_stay_text(tmp_path):
    """Toolkit fault 10: `null` and `NA` became the text None; fault 11: a lone quotation mark broke the file."""
    path = written(tmp_path / "c.tsv", "1\tnull", "2\tNA", '3\tan "unbalanced quote', "4\t")
    assert [document.text for document in read_documents(path)] == ["null", "NA", 'an "unbalanced quote', ""]


def test_unpaired_surrogates_are_replaced(tmp_path):
    # JSON may hold half of an emoji; no UTF-8 file and no tokenizer takes it
    path = written(tmp_path / "c.jsonl", r'{"_id": "1", "title": "a\ud83d", "text": "b\ude00c \ud83d\ude00"}')
    (document,) = read_documents(path)
    assert document == Document("1", "b\ufffdc \U0001f600", "a\ufffd")
    assert write_documents(tmp_path / "back.jsonl", [document]) == 1


@pytest.mark.parametrize(
    ("lines", "qrels"),
    [
        (["q1 0 d1 1", "q1 0 d2 0"], {"q1": {"d1": 1, "d2": 0}}),
        (["q1\t0\td1\t-1"], {"q1": {"d1": -1}}),
        (["query-id\tcorpus-id\tscore", "q1\td1\t2"], {"q1": {"d1": 2}}),
        (["q1\td1\t2"], {"q1": {"d1": 2}}),  # no header here
        (["query-id\tcorpus-id\tscore"], {}),
        ([], {}),
        (["", "q1 Q0 d1 +1"], {"q1": {"d1": 1}}),
    ],
)
def test_qrels(tmp_path, lines, qrels):
    assert read_qrels(written(tmp_path / "qrels", *lines)) == qrels


@pytest.mark.parametrize(
    ("name", "answer"),
    [("a.tsv", True), ("a.tsv.gz", True), ("a.txt", True), ("a.jsonl", False), ("a.jsonl.gz", False), ("tsv", False)],
)
def test_is_tsv(tmp_path, name, answer):
    assert is_tsv(tmp_path / name) is answer


@given(st.text())
def test_one_line_has_neither_tabs_nor_newlines(text):
    assert one_line(text).split() == text.split()
    assert not set("\t\n\r") & set(one_line(text))


# What readers refuse, and where


@pytest.mark.parametrize(
    ("reader", "name", "lines", "line", "said"),
    [
        (read_documents, "c.jsonl", ['{"_id": "1", "text": "x"}', '{"text": "x"}'], 2, "no '_id' field (or id, "),
        (read_documents, "c.jsonl", ["{}"], 1, "no '_id' field (or id, passage_id, pid, "),
        (read_documents, "c.jsonl", ['{"_id": "1"}'], 1, "no 'text' field"),
        (read_documents, "c.jsonl", ['{"_id": "1", "text": 3}'], 1, "field 'text': must be text (found '3')"),
        (read_documents, "c.jsonl", ['{"_id": "1", "body": 3}'], 1, "field 'body': must be text"),
        (read_documents, "c.jsonl", ['{"_id": "1", "text": "x", "title": 3}'], 1, "field 'title': must be text"),
        (read_documents, "c.jsonl", ['{"_id": "a b", "text": "x"}'], 1, "an id must be one word without blanks"),
        (read_documents, "c.jsonl", ['{"_id": "", "text": "x"}'], 1, "an id must be one word"),
        (read_documents, "c.jsonl", ['{"_id": true, "text": "x"}'], 1, "an id must be one word"),
        (read_documents, "c.jsonl", ['{"_id": ["a"], "text": "x"}'], 1, "an id must be one word"),
        (read_documents, "c.tsv", ["1\tx", "2 x"], 2, "1 tab-separated columns, 2 are needed"),
        (read_queries, "q.jsonl", ['{"_id": "1"}'], 1, "no 'text' field (or query, question, "),
        (read_queries, "q.jsonl", ['{"_id": "1", "text": "x"}'] * 2, 2, "duplicate query id"),
        (read_queries, "q.tsv", ["1\tx", "", "1\ty"], 3, "duplicate query id; ids must be unique (found '1')"),
        (read_queries, "q.tsv", ["\tx"], 1, "an id must be one word"),
        (read_qrels, "qrels", ["q1 0 d1 x"], 1, "field 'relevance': must be a whole number"),
        (read_qrels, "qrels", ["q1 0 d1 1.0"], 1, "field 'relevance': must be a whole number"),
        (read_qrels, "qrels", ["q1 0 d1 --1"], 1, "field 'relevance': must be a whole number"),
        (read_qrels, "qrels", ["q1 0 d1 ²"], 1, "field 'relevance': must be a whole number"),
        (read_qrels, "qrels", ["q1 0 d1 1", "q1 d1"], 2, "2 columns, qrels have 4 (TREC) or 3 (BEIR)"),
        (read_qrels, "qrels", ["q\td\tscore", "q1\td1\tx"], 2, "field 'relevance': must be a whole number"),
        (read_run, "run", ["q1 Q0 d1 1 2.0"], 1, "5 columns, a TREC run has 6"),
        (read_run, "run", ["q1 Q0 d1 1 x t"], 1, "field 'score': must be a finite number (found 'x')"),
        (read_run, "run", ["q1 Q0 d1 1 nan t"], 1, "field 'score': must be a finite number"),
        (read_run, "run", ["q1 Q0 d1 1 inf t"], 1, "field 'score': must be a finite number"),
        (read_run, "run", ["q1 Q0 d1 1 2 t", "q1 Q0 d1 2 1 t"], 2, "document 'd1' is ranked twice for query 'q1'"),
        (read_triple_ids, "t.tsv", ["q\ta\tb\tc"], 1, "4 columns, a triple has 3 ids"),
        (read_triple_ids, "t.tsv", ["q\ta"], 1, "2 columns, a triple has 3 ids"),
        (read_triple_ids, "t.tsv", ["q\t\tb"], 1, "an id must be one word"),
        (read_triple_ids, "t.tsv", ["a query\tits text\tb"], 1, "an id must be one word"),
        (read_synthetic_queries, "s.jsonl", ['{"query": "x"}'], 1, "no 'doc_id' field"),
        (read_synthetic_queries, "s.jsonl", ['{"doc_id": "1"}'], 1, "no 'query' field (or question)"),
        (read_synthetic_queries, "s.jsonl", ['{"doc_id": "1", "question": 3}'], 1, "field 'question': must be text"),
        (
            read_synthetic_queries,
            "s.jsonl",
            ['{"doc_id": "1", "query": "x", "log_probs": -1}'],
            1,
            "field 'log_probs': must be a list of numbers",
        ),
        *(
            (read_synthetic_queries, "s.jsonl", [f'{{"doc_id": "1", "query": "x", {field}}}'], 1, said)
            for field, said in (
                ('"log_probs": [NaN]', "field 'log_probs': must be a list of numbers"),
                (f'"log_probs": [-{"1" * 400}]', "field 'log_probs': must be a list of numbers"),
                ('"log_probs": [true]', "field 'log_probs': must be a list of numbers"),
                ('"log_probs": [-1.0, 2.5]', "field 'log_probs': above 0"),  # a loss
                ('"stop_log_prob": 2.5', "field 'stop_log_prob': above 0"),
                ('"stop_log_prob": Infinity', "field 'stop_log_prob': must be a number"),
                ('"token_ids": ["a"]', "field 'token_ids': must be a list of whole numbers"),
                ('"token_ids": [1.5]', "field 'token_ids': must be a list of whole numbers"),
                ('"token_ids": [true]', "field 'token_ids': must be a list of whole numbers"),
                ('"token_ids": "12"', "field 'token_ids': must be a list of whole numbers"),
                ('"query_id": NaN', "an id must be one word"),
            )
        ),
        (
            read_synthetic_queries,
            "s.jsonl",
            ['{"doc_id": "1", "query": "x", "stop_log_prob": "low"}'],
            1,
            "field 'stop_log_prob': must be a number",
        ),
        (
            read_synthetic_queries,
            "s.jsonl",
            ['{"doc_id": "1", "query": "x", "finish_reason": "tired"}'],
            1,
            "unknown log_prob_kind or finish_reason (found 'absent, tired')",
        ),
        (
            read_synthetic_queries,
            "s.jsonl",
            ['{"doc_id": "1", "query": "x", "query_id": "a"}'] * 2,
            2,
            "duplicate query id; ids must be unique (found 'a')",
        ),
    ],
)
def test_what_is_refused_is_named_by_path_and_line(tmp_path, reader, name, lines, line, said):
    path = written(tmp_path / name, *lines)
    with pytest.raises(DataFormatError) as caught:
        list(reader(path))
    assert str(caught.value).startswith(f"{path}:{line}: {said}")
    assert "\n" not in str(caught.value)


# What writers write


def test_a_run_is_written_best_first_and_ties_are_pushed_apart():
    # 0.3 three times: document ids descending, each 0.00001 below the one above; then -1 stays
    lines = list(run_lines({"q1": {"a": 0.3, "c": 0.3, "b": 0.3, "d": -1.0}}, "bm25"))
    assert lines == [
        "q1 Q0 c 1 0.300000 bm25",
        "q1 Q0 b 2 0.299990 bm25",
        "q1 Q0 a 3 0.299980 bm25",
        "q1 Q0 d 4 -1.000000 bm25",
    ]


def test_large_ties_are_pushed_apart_by_what_float32_can_tell():
    # 4096 * 2**-22 = 2**-10 = 0.0009765625, with six decimals 4095.999023
    lines = list(run_lines({"q": {"a": 4096.0, "b": 4096.0}}, "t"))
    assert lines == ["q Q0 b 1 4096.000000 t", "q Q0 a 2 4095.999023 t"]


def test_qrels_are_written_with_beirs_header(tmp_path):
    assert write_qrels(tmp_path / "q.tsv", {"q1": {"d1": 2, "d2": 0}, "q2": {}}) == 2
    assert (tmp_path / "q.tsv").read_bytes() == b"query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t0\n"


def test_the_form_of_a_synthetic_query():
    query = SyntheticQuery("d1-q0", "d1", "why", (-0.12345678, -1.0), -0.5, "stop", "raw", "inpars", "toy")
    assert synthetic_query_record(query, Document("d1", "text", "Title")) == {
        "query_id": "d1-q0",
        "doc_id": "d1",
        "query": "why",
        "log_probs": [-0.123457, -1.0],
        "stop_log_prob": -0.5,
        "finish_reason": "stop",
        "log_prob_kind": "raw",
        "prompt": "inpars",
        "model": "toy",
        "text": "Title text",
    }


def test_absent_log_probs_stay_absent(tmp_path):
    query = SyntheticQuery("d1-q0", "d1", "why", (), None, "stop", "absent", "", "api")
    record = synthetic_query_record(query)
    assert record["log_probs"] is None
    write_jsonl(tmp_path / "s.jsonl", [record])
    assert list(read_synthetic_queries(tmp_path / "s.jsonl")) == [query]


def test_minus_infinity_is_written_as_float32s_lowest_number(tmp_path):
    query = SyntheticQuery("d1-q0", "d1", "why", (float("-inf"), -1.0), float("-inf"), "stop", "raw", "", "")
    write_jsonl(tmp_path / "s.jsonl", [synthetic_query_record(query)])
    (back,) = read_synthetic_queries(tmp_path / "s.jsonl")
    assert back.token_log_probs == (back.stop_log_prob, -1.0)
    assert struct.pack("f", back.stop_log_prob) == struct.pack("f", -3.4028234663852886e38)
    old = written(tmp_path / "old.jsonl", '{"doc_id": "d1", "query": "why", "log_probs": [-Infinity]}')
    assert [found.token_log_probs for found in read_synthetic_queries(old)] == [(float("-inf"),)]


def test_a_query_whose_id_is_the_number_0_keeps_it(tmp_path):
    path = written(tmp_path / "s.jsonl", '{"doc_id": "d1", "query": "x", "query_id": 0, "token_ids": [1, 2.0]}')
    assert [(query.query_id, query.token_ids) for query in read_synthetic_queries(path)] == [("0", (1, 2))]


def test_queries_of_one_document_get_different_ids(tmp_path):
    lines = [json.dumps({"doc_id": doc_id, "query": "x"}) for doc_id in ("d1", "d2", "d1")]
    path = written(tmp_path / "s.jsonl", *lines)
    assert [query.query_id for query in read_synthetic_queries(path)] == ["d1-q0", "d2-q0", "d1-q1"]


def test_metadata_of_documents_comes_back(tmp_path):
    told = {"source": "a.pdf", "page": 3, "headings": ["One", "Two"], "start": 0, "end": 9}
    documents = [Document("a", "text", "title", told), Document("b", "text")]
    path = tmp_path / "corpus.jsonl"
    assert write_documents(path, documents) == 2
    assert list(read_documents(path)) == documents
    assert '"metadata"' not in path.read_text(encoding="utf-8").splitlines()[1]
    assert len(set(documents)) == 2  # a document can still be hashed


def test_metadata_that_is_no_object_is_ignored(tmp_path):
    path = tmp_path / "corpus.jsonl"
    path.write_text('{"_id": "a", "text": "x", "metadata": "2021"}\n', encoding="utf-8")
    assert list(read_documents(path)) == [Document("a", "x")]
