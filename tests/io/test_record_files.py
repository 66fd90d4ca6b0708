"""Records in all formats: columns, compression, and agreement of all readers."""

import bz2
import csv
import gzip
import io
import lzma
import os
import threading
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inpars.documents.datasets import load_dataset
from inpars.errors import DataFormatError
from inpars.io.corpus import Corpus
from inpars.io.formats import read_documents, read_queries, read_synthetic_queries
from inpars.io.packing import plain_name
from inpars.io.storage import read_lines
from inpars.io.tables import quoting
from inpars.progress import Silent
from inpars.records import Document, Query
from inpars.stages.caveats import read_query_texts


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("INPARS_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("records")


def written(path, content):
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def both_ways(path):
    """The streamed documents, which must equal those looked up by id, and the remarks."""
    notes = []
    streamed = list(read_documents(path, notes.append))
    corpus = Corpus(path)
    looked_up = [corpus[document.doc_id] for document in streamed]
    assert list(corpus) == list(corpus.in_file_order()) == looked_up == streamed
    assert list(corpus.remarks) == notes == list(Corpus(path).remarks)  # built, then from the cache
    return streamed, " ".join(notes)


DOCUMENT_FILES = {
    # castorini/eval#26: docid, url, title, body
    "msmarco-docs.tsv": (
        "D1\thttps://example.org/a\tApple pies\tSweet.\nD2\thttp://example.org\t\tNight trains.\n",
        [Document("D1", "Sweet.", "Apple pies"), Document("D2", "Night trains.")],
        ["docid, url, title, body", "url is not read"],
    ),
    # performant-software/textlab#91, and the quotes of DPR's psgs_w100.tsv
    "psgs_w100.tsv": (
        'id\ttext\ttitle\n1\t"Aaron or ""Ahron"" is"\tAaron\r\n2\tplain, with commas\tTurin\n',
        [Document("1", 'Aaron or "Ahron" is', "Aaron"), Document("2", "plain, with commas", "Turin")],
        ["header (id, text, title)", "csv"],
    ),
    "header_without_quoting.tsv": (
        'Doc-ID\tText\n1\t"Yes" is not "no"\n2\t5" disks\n',
        [Document("1", '"Yes" is not "no"'), Document("2", '5" disks')],
        ["header (doc_id, text)"],
    ),
    "unclear_quotes.tsv": ('id\ttext\n1\t"Yes"\n', [Document("1", '"Yes"')], ["quotes around fields are kept"]),
    "all_quoted.tsv": ('"id"\t"text"\n"1"\t"Yes"\n', [Document("1", "Yes")], ["csv"]),
    "quoted_over_lines.tsv": (
        'id\ttext\n1\t"two\nlines ""q"""\n2\tz\n',
        [Document("1", 'two\nlines "q"'), Document("2", "z")],
        ["csv"],
    ),
    "pandas_index.tsv": ("\tid\ttext\n0\tp1\tx\n", [Document("p1", "x")], ["not read: without a name"]),
    "more_columns.tsv": ("id\turl\tbody\n1\tu\tx\n", [Document("1", "x")], ["not read: url"]),
    # MS MARCO's collection.tsv: no header, and quotes are signs like others
    "collection.tsv": ('0\t"Yes" is not "no"\n1\t"\n2\tan "odd one\n', [
        Document("0", '"Yes" is not "no"'), Document("1", '"'), Document("2", 'an "odd one')
    ], []),
    "like_csv.tsv": ('0\t"a ""b"" c"\n', [Document("0", '"a ""b"" c"')], ["quotes are kept"]),
    "three.txt": ("1\tthe text of it\tT\n2\tx\n", [Document("1", "the text of it", "T"), Document("2", "x")], []),
    "a_tab_in_a_text.tsv": (
        "1\tone\n2\ttwo\tand more\n3\tthree\n",
        [Document("1", "one"), Document("2", "two", "and more"), Document("3", "three")],
        ["1 of the first 3 lines have a third column"],
    ),
    "title_second.tsv": ("1\tT\tthe text of it\n", [Document("1", "T", "the text of it")], ["third column"]),
    "padded.tsv": (" 1 \tx\n", [Document("1", "x")], []),
    "marked.tsv": ("\ufeffpid\tpassage\r\n7\tx\r\n", [Document("7", "x")], ["header (pid, passage)"]),
    "comma.csv": ('id,text\n1,"a, ""b""\nc"\n', [Document("1", 'a, "b"\nc')], []),
    "excel.csv": ("\ufeffsep=;\r\nid;title;text\r\n1;T;x\r\n", [Document("1", "x", "T")], []),
    "list.json": ('[\n {"id": 1, "text": "x"},\n {"id": 2.0, "text": "y", "title": NaN}\n]\n', [
        Document("1", "x"), Document("2", "y")
    ], []),
    "list.jsonl": ('[{"_id": "1", "text": "x"}]', [Document("1", "x")], []),
    # castorini/anserini#1571: MS MARCO v2's passages name their document too
    "v2_passages.jsonl": (
        '{"pid": "p0", "passage": "x", "spans": "(0,1)", "docid": "d"}\n{"pid": "p1", "passage": "y", "docid": "d"}\n',
        [Document("p0", "x"), Document("p1", "y")],
        ["'pid'", "'docid'"],
    ),
    "v2_documents.jsonl": (
        '{"docid": "d", "url": "u", "title": "T", "headings": "H", "body": "x"}\n', [Document("d", "x", "T")], []
    ),
    "chunks.jsonl": ('{"doc_id": "d", "id": "c", "text": "x"}\n', [Document("c", "x")], ["'id'", "'doc_id'"]),
    "beir.jsonl": ('{"_id": "c", "doc_id": "d", "text": "x"}\n', [Document("c", "x")], []),
    "same.jsonl": ('{"id": "c", "doc_id": "c", "text": "x"}\n', [Document("c", "x")], []),
    "later.jsonl": (
        '{"docid": "a", "text": "x"}\n{"docid": "a", "chunk_id": "b", "text": "y"}\n',
        [Document("a", "x"), Document("b", "y")],
        [":2: ", "'chunk_id'", "'docid'"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DOCUMENT_FILES)
@pytest.mark.parametrize("packing", ["", ".gz", ".bz2", ".xz"])
def test_documents_in_all_forms(tmp_path, name, packing):
    content, documents, said = DOCUMENT_FILES[name]
    pack = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}[packing]
    found, notes = both_ways(written(tmp_path / (name + packing), pack(content.encode())))
    assert found == documents
    assert [part for part in said if part not in notes] == []
    assert bool(notes) == bool(said)


QUERY_FILES = {
    "queries.tsv": ("1\tapple pies\n", []),
    "header.tsv": ("\n\nquery_id\tquery\n1\tapple pies\n", ["header (query_id, query)"]),
    "more.tsv": ("qid\tquery\tnarrative\n1\tapple pies\tn\n", ["not read: narrative"]),
    "q.csv": ("qid,query\n1,apple pies\n", []),
    "q.json": ('[{"id": 1, "query": "apple pies"}]', []),
    "q.jsonl": ('{"_id": 1.0, "text": "apple pies"}\n', []),
}


@pytest.mark.parametrize("name", QUERY_FILES)
def test_queries_in_all_forms(tmp_path, name):
    content, said = QUERY_FILES[name]
    notes, path = [], written(tmp_path / name, content)
    assert list(read_queries(path, notes.append)) == [Query("1", "apple pies")]
    assert [part for part in said if part not in " ".join(notes)] == []
    assert bool(notes) == bool(said)
    assert read_query_texts(path) == {"apple pies"}


def test_parquet(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    rows = {"_id": [1, 2], "text": ["x", "y"], "title": ["T", None]}
    parquet.write_table(pyarrow.table(rows), tmp_path / "c.parquet")
    assert both_ways(tmp_path / "c.parquet") == ([Document("1", "x", "T"), Document("2", "y")], "")
    parquet.write_table(pyarrow.table({"anchor": ["x"]}), tmp_path / "pairs.parquet")
    with pytest.raises(DataFormatError, match=r"pairs\.parquet: a parquet file .*--documents.*anchor"):
        Corpus(tmp_path / "pairs.parquet")
    with pytest.raises(DataFormatError, match=r"pairs\.parquet: a parquet file"):
        list(read_synthetic_queries(tmp_path / "pairs.parquet"))


REFUSED = {
    "four.tsv": ("1\ta\tb\tc\n", "four.tsv:1: 4 tab-separated columns without a header"),
    "urls.tsv": ("1\thttps://a.org\tT\n", "urls.tsv:1: 3 tab-separated columns without a header"),
    "half.tsv": ("id\tsentence\n1\tx y\n", "half.tsv:1: a header row in which no column is known to be the text"),
    "wide.tsv": ("id\ttext\n1\tx\ty\n", "wide.tsv:2: 3 columns, the header row has 2"),
    # 1,000 lines of two columns, then a text with a tab inside
    "tab.tsv": ("".join(f"{n}\tx\n" for n in range(1000)) + "z\tx\ty\n", "tab.tsv:1001: 3 columns, the first 1000"),
    "short.tsv": ("id\ttitle\ttext\n1\tT\n", "short.tsv:2: no 'text' field"),
    "rows.csv": ("1,x\n2,y\n", "rows.csv:1: a csv file whose first line must name its columns"),
    "open.csv": ('id,text\n1,"x\n', "open.csv:2: not csv (unexpected end of data)"),
    "wide.csv": ("id,text\n1,x,y\n", "wide.csv:2: 3 columns, the header row has 2"),
    "words.json": ('["x"]', "words.json:1: not a JSON object"),
    "one.json": ('{\n "a": 1\n}\n', "one.json:1: JSON over several lines"),
    "topics.xml": ("<topics>\n", "topics.xml:1: XML"),
    "topics.txt": ("<top>\n<num> 301\n", "topics.txt:1: XML or SGML (TREC's topics"),
    "lines.txt": ('{"_id": "a", "text": "x"}\n', "lines.txt:1: JSON in a file that is named as a table"),
    "table.jsonl": ("id,text\n1,x\n", "table.jsonl:1: a table"),
    "twins.jsonl": (
        '{"id": "a", "doc_id": "b", "text": "x"}\n{"id": "a", "doc_id": "c", "text": "y"}\n',
        "twins.jsonl: duplicate document id 'a' (1 in all); ids must be unique",
    ),
    "nan.jsonl": ('{"_id": NaN, "text": "x"}\n', "nan.jsonl:1: an id must be"),
    "huge.jsonl": ('{"_id": 1e400, "text": "x"}\n', "huge.jsonl:1: an id must be"),
    "half.jsonl": ('{"_id": 1.5, "text": "x"}\n', "half.jsonl:1: an id must be"),
    "lost.jsonl": ('{"_id": 9007199254740993.0, "text": "x"}\n', "lost.jsonl:1: an id must be"),  # 2**53 + 1
    "bool.jsonl": ('{"_id": true, "text": "x"}\n', "bool.jsonl:1: an id must be"),
    "text.jsonl": ('{"_id": "a", "text": NaN}\n', "text.jsonl:1: field 'text': must be text"),
    "c.jsonl.zst": (b"\x28\xb5\x2f\xfd\x20", "c.jsonl.zst: a zstd file; unpack"),
    "c.sqlite": (b"SQLite format 3\0", "c.sqlite: an SQLite database"),
    "c.pdf": (b"%PDF-1.7\n", "c.pdf: a PDF; inpars ingest --documents"),
    "cut.jsonl.bz2": (bz2.compress(b'{"_id": "a", "text": "x"}\n')[:-9], "cut.jsonl.bz2: not a whole bzip2 file"),
    "cut.jsonl.xz": (lzma.compress(b'{"_id": "a", "text": "x"}\n')[:-9], "cut.jsonl.xz: not a whole xz file"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_understood_is_refused_by_both(tmp_path, name):
    content, said = REFUSED[name]
    path = written(tmp_path / name, content)
    readers = [lambda: list(read_documents(path)), lambda: Corpus(path)]
    for read in readers[1:] if name == "twins.jsonl" else readers:  # an id twice is seen by its index
        with pytest.raises(DataFormatError) as caught:
            read()
        assert str(caught.value).startswith(f"{tmp_path}/{said}")
        assert "mend or remove" not in str(caught.value)


def test_archives_and_office_files_are_told_apart(tmp_path):
    for name, inside in (("c.zip", "corpus.jsonl"), ("c.xlsx", "[Content_Types].xml")):
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as archive:
            archive.writestr(inside, "x")
        with pytest.raises(DataFormatError, match="a zip archive" if name == "c.zip" else "an Office file"):
            list(read_lines(written(tmp_path / name, content.getvalue())))


def test_texts_that_only_begin_like_other_files_are_texts(tmp_path):
    # "ustar" at byte 257 is how a tar archive is known, PAR1 how parquet begins
    lines = ["PAR1\tx", "BZh9\ty", "x\t" + "g" * 239 + " gustar"]
    path = written(tmp_path / "c.tsv", "\n".join(lines) + "\n")
    assert path.read_bytes()[257:262] == b"ustar"
    assert [document.doc_id for document in read_documents(path)] == ["PAR1", "BZh9", "x"]


def test_gzip_without_its_suffix_and_a_name_in_capitals(tmp_path):
    path = written(tmp_path / "corpus.TSV", gzip.compress(b"a\tx\n"))
    assert both_ways(path) == ([Document("a", "x")], "")
    assert [plain_name(tmp_path / name) for name in ("a.tsv.GZ", "a.jsonl.xz", "a.b")] == ["a.tsv", "a.jsonl", "a.b"]


def test_a_pipe_is_read_once(tmp_path):
    for name in ("queries", "queries.tsv"):
        os.mkfifo(tmp_path / name)
    feeding = threading.Thread(target=written, args=(tmp_path / "queries", '{"_id": "1", "text": "x"}\n'))
    feeding.start()
    assert list(read_queries(tmp_path / "queries")) == [Query("1", "x")]
    feeding.join()
    with pytest.raises(DataFormatError, match=r"queries\.tsv: a pipe"):
        list(read_queries(tmp_path / "queries.tsv"))


def test_what_was_guessed_is_noted_once_by_a_dataset(tmp_path):
    class Listening(Silent):
        def __init__(self):
            self.notes = []

        def note(self, message):
            self.notes.append(message)

    corpus, queries = written(tmp_path / "c.tsv", "id\ttext\n1\tx\n"), written(tmp_path / "q.tsv", "qid\tquery\n1\ty\n")
    progress = Listening()
    dataset = load_dataset(None, corpus=corpus, queries=queries, progress=progress)
    assert dataset.topics().queries == {"1": "y"}
    assert [note.partition(":")[0] for note in progress.notes] == [str(corpus), str(queries)]


def test_files_that_are_read_otherwise_than_before_count_as_other_inputs(tmp_path):
    """Indexes and finished stages depend on a corpus's hash, which for plain files is the hash of the bytes."""
    plain = written(tmp_path / "plain.jsonl", '{"docid": "a", "text": "x"}\n')
    chosen = written(tmp_path / "chosen.jsonl", '{"pid": "p", "docid": "a", "text": "x"}\n')
    floats = written(tmp_path / "floats.jsonl", '{"_id": 1.0, "text": "x"}\n')
    docs = written(tmp_path / "docs.tsv", "D\thttp://a\tT\tx\n")
    from inpars.io.manifest import sha256_of

    assert [Corpus(path).sha256 == sha256_of(path) for path in (plain, chosen, floats, docs)] == [True] + 3 * [False]


CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\x85\u2028\u2029"), max_size=12)


@settings(max_examples=60, deadline=None)
@given(st.lists(CELLS, min_size=1, max_size=5))
def test_what_pythons_csv_writes_is_read_back(folder, texts):
    path = folder / "c.csv"
    with path.open("w", newline="", encoding="utf-8") as stream:
        rows = csv.writer(stream)
        rows.writerow(["id", "text"])
        rows.writerows([number, text] for number, text in enumerate(texts))
    assert [document.text for document in read_documents(path)] == texts


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text('"ab \t', max_size=8).map(lambda text: text.replace("\t", "")), min_size=1, max_size=5))
def test_a_table_without_a_header_stays_byte_for_byte(folder, texts):
    path = written(folder / "c.tsv", "".join(f"{number}\t{text}\n" for number, text in enumerate(texts)))
    assert [document.text for document in read_documents(path)] == texts


@pytest.mark.parametrize(
    ("lines", "answer"),
    [
        (["a\tb"], "none"),
        (['1\t"a ""b"" c"'], "quoted"),
        (['1\ta "b" c', '1\t"a ""b"" c"'], "plain"),
        (['1\t"a" b'], "plain"),
        (['1\t"a"'], "unclear"),
        (['1\t"a', 'b ""c"""'], "quoted"),
        (['1\t"a', '2\t5" disk'], "plain"),
        (['1\t"""Yes"""'], "quoted"),
        (['1\t"'], "none"),
    ],
)
def test_whose_quotes_they_are(lines, answer):
    assert quoting(lines) == answer


def test_metadata_is_strict_json(tmp_path):
    told = r'{"\ud83d": [NaN, {"b": -Infinity}, 1e999]}'
    path = written(tmp_path / "c.jsonl", f'{{"_id": "a", "text": "x", "metadata": {told}}}')
    (document,) = read_documents(path)
    assert document.metadata == {"\ufffd": [None, {"b": None}, None]}
