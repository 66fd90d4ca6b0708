"""What all formats rest on: keys, JSON in pieces, quoted lines, the folder of an import, triples joined."""

import csv
import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inpars.contrib.interchange import FORMATS, format_of
from inpars.contrib.interchange.folder import Folder
from inpars.contrib.interchange.groups import SeenKeys
from inpars.contrib.interchange.items import Example, JudgedQuery, Negative, document_of, made_id, query_of
from inpars.contrib.interchange.source import Source
from inpars.contrib.interchange.toolkit import join_quoted, split_quoted
from inpars.contrib.interchange.triples_source import read_examples, triple_files
from inpars.errors import ConfigError, DataFormatError, StaleInputError, UnknownNameError
from inpars.io import json_stream
from inpars.io.json_stream import JsonStream, read_json_list
from inpars.records import Document, Qrel, Query, ScoredDocument

FIELDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n")) | st.text('"a\t', max_size=5)


@given(st.lists(st.integers(0, 30).map(str), max_size=60), st.integers(1, 9))
def test_keys_are_new_once_however_often_they_are_merged(keys, recent):
    seen, plain = SeenKeys(recent), set()
    for key in keys:
        assert seen.add(key) == (key not in plain)
        plain.add(key)
    assert all((key,) in seen for key in plain)


def test_the_parts_of_a_key_are_kept_apart():
    seen = SeenKeys()
    assert seen.add("a", "bc")
    assert seen.add("ab", "c")
    assert not seen.add("a", "bc")


@pytest.mark.parametrize("chunk", [1, 2, 7, 1 << 16])
@given(
    st.lists(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
            lambda children: st.lists(children) | st.dictionaries(st.text(), children),
            max_leaves=8,
        ),
        max_size=4,
    ),
    st.sampled_from([None, 1]),
    st.booleans(),
)
def test_a_list_in_pieces_is_the_list(chunk, values, indent, ascii_only):
    raw = json.dumps(values, indent=indent, ensure_ascii=ascii_only).encode("utf-8", "replace")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "CHUNK", chunk)
        walk = JsonStream(io.BytesIO(raw), Path("x"))
        assert [walk.value() for _ in walk.elements()] == json.loads(raw)
        walk.finish()


@pytest.mark.parametrize(
    ("text", "line"),
    [("[1,\n 2", 2), ("[1 2]", 1), ("[1,]", 1), ("{}", 1), ("", 1), ("[1]\n[2]", 2), ('["a\n', 1), ("[tru]", 1)],
)
def test_broken_json_is_named_with_its_line(tmp_path, text, line):
    path = tmp_path / "r.json"
    path.write_text(text)
    with pytest.raises(DataFormatError, match=f"r.json:{line}: broken JSON"):
        list(read_json_list(path))


@given(st.lists(FIELDS, min_size=2, max_size=4))
def test_lines_that_csv_wrote_are_read_as_it_reads_them(fields):
    stream = io.StringIO()
    csv.writer(stream, delimiter="\t", lineterminator="").writerow(fields)
    assert split_quoted(stream.getvalue()) == fields


@given(st.lists(FIELDS, min_size=2, max_size=4))
def test_csv_reads_the_lines_that_we_write(fields):
    assert next(csv.reader([join_quoted(tuple(fields))], delimiter="\t", strict=True)) == fields


@pytest.mark.parametrize(
    ("line", "fields"),
    [
        ('"unbalanced\tb\tc', ['"unbalanced', "b", "c"]),
        ('"all" about it\tb\tc', ['"all" about it', "b", "c"]),
        ('5" pipe\tb\tc', ['5" pipe', "b", "c"]),
        ('"a ""b"" c"\tb\tc', ['a "b" c', "b", "c"]),
        ('"a\tb"\tc\td', ["a\tb", "c", "d"]),
        ('""\tb\tc', ["", "b", "c"]),
    ],
)
def test_quotes_that_csv_cannot_have_written_are_plain_characters(line, fields):
    assert split_quoted(line) == fields


def folder_of(path, items):
    with Folder(path, "test", Path("x.tsv")) as folder:
        folder.add(items)
    return folder


def test_a_positive_is_never_written_as_its_own_negative(tmp_path):
    """The toolkit's generate_triples did not leave the positive out of the negatives."""
    positive = Document("d1", "the  text")
    twin, other, empty = Document("d2", "the text"), Document("d3", "another"), Document("d4", " ")
    example = Example(query_of("q"), positive, tuple(map(Negative, (positive, twin, other, empty))))
    folder = folder_of(tmp_path / "f", [example])
    assert folder.dropped == {"positive_as_negative": 2, "empty_text": 1}
    assert (tmp_path / "f" / "triples.tsv").read_text() == "q\tthe text\tanother\n"


def test_of_two_texts_with_one_id_the_first_stays_and_the_second_is_counted(tmp_path):
    folder = folder_of(
        tmp_path / "f", [Document("d", "one"), Document("d", "two"), Document("d", "two"), Query("d", "q")]
    )
    assert folder.dropped == {"other_text_for_known_document_id": 1}
    assert (tmp_path / "f" / "corpus.jsonl").read_text() == '{"_id": "d", "title": "", "text": "one"}\n'


def test_judgements_are_written_once_and_by_split(tmp_path):
    row = Qrel("q", "d", 2)
    folder = folder_of(tmp_path / "f", [JudgedQuery(row), JudgedQuery(row), JudgedQuery(row, "dev")])
    assert folder.counts == {"qrels/train.tsv": 1, "qrels/dev.tsv": 1}
    assert (tmp_path / "f" / "qrels" / "dev.tsv").read_text() == "query-id\tcorpus-id\tscore\nq\td\t2\n"


@pytest.mark.parametrize(
    ("rows", "problem"), [("q1 d1,q2 d1,q1 d2", "'q1' are not together"), ("q1 d1,q1 d1", "'d1' is ranked twice")]
)
def test_rankings_must_be_whole(tmp_path, rows, problem):
    items = [ScoredDocument(*row.split(), 1.0) for row in rows.split(",")]
    with pytest.raises(DataFormatError, match=problem):
        folder_of(tmp_path / "f", items)
    assert not (tmp_path / "f" / "run.trec").exists()


def test_equal_texts_get_equal_ids():
    assert made_id("d", "a") == made_id("d", "a") != made_id("d", "b")
    assert query_of("a").query_id != document_of("a").doc_id


def test_an_unknown_format_is_named_with_the_known_ones():
    assert format_of("Rank_LLM") == ("rank-llm", FORMATS["rank-llm"])
    with pytest.raises(UnknownNameError, match="did you mean 'tevatron'"):
        format_of("tevatrn")


def triples(tmp_path, texts=None, ids=None, negatives=None):
    for name, content in (("t.tsv", texts), ("t.ids.tsv", ids), ("t.negatives.jsonl", negatives)):
        if content is not None:
            (tmp_path / name).write_text(content)
    return triple_files(tmp_path / ("t.tsv" if texts is not None else "t.ids.tsv"))


IDS = '"query_id": "{}", "positive_doc_id": "{}", "negative_doc_id": "{}"'
ROW = f'{{{{{IDS}, "source": "bm25", "rank": 3, "score": 1.5}}}}\n'


def test_ids_texts_and_scores_are_joined_line_by_line(tmp_path):
    rows = ROW.format("q0", "p", "n") + ROW.format("q1", "p1", "n2") + ROW.format("q1", "p1", "n1")
    files = triples(tmp_path, "a\tb\tc\na\tb\td\n", "q1\tp1\tn1\nq1\tp1\tn2\n", rows)
    (example,) = read_examples(files, None, None)
    assert (example.query, example.positive) == (Query("q1", "a"), Document("p1", "b"))
    assert [negative.document for negative in example.negatives] == [Document("n1", "c"), Document("n2", "d")]
    assert {(negative.source, negative.rank, negative.score) for negative in example.negatives} == {("bm25", 3, 1.5)}


def test_negatives_of_other_triples_are_refused(tmp_path):
    files = triples(tmp_path, "a\tb\tc\n", "q1\tp1\tn1\n", ROW.format("q2", "p1", "n1"))
    with pytest.raises(StaleInputError, match=r"negatives\.jsonl has nothing on query 'q1'"):
        list(read_examples(files, None, None))


@pytest.mark.parametrize("texts", ["a\tb\tc\n", "a\tb\tc\n" * 3])
def test_ids_and_texts_of_different_length_are_refused(tmp_path, texts):
    files = triples(tmp_path, texts, "q1\tp1\tn1\nq1\tp1\tn2\n")
    with pytest.raises(StaleInputError, match="not the same number of lines"):
        list(read_examples(files, None, None))


def test_ids_alone_need_documents_and_queries(tmp_path):
    with pytest.raises(
        ConfigError, match="give the documents with --dataset or --corpus, and the queries with --input"
    ):
        list(read_examples(triples(tmp_path, ids="q1\tp1\tn1\n"), None, None))


def test_ids_alone_are_looked_up(tmp_path, monkeypatch):
    from inpars.documents.datasets import load_dataset

    monkeypatch.setenv("INPARS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "c.tsv").write_text("p1\tgood\nn1\tbad\n")
    (tmp_path / "q.jsonl").write_text('{"query_id": "q1", "doc_id": "p1", "query": "what"}\n')
    triples(tmp_path, ids="q1\tp1\tn1\n")
    dataset = load_dataset(None, corpus=tmp_path / "c.tsv")
    source = Source(triples=tmp_path / "t.ids.tsv", synthetic=tmp_path / "q.jsonl", dataset=dataset)
    (example,) = source.examples()
    assert (example.query, example.positive.text) == (Query("q1", "what"), "good")
    assert [negative.document.text for negative in example.negatives] == ["bad"]
