"""Corpora: streaming, lookup by id, rejected files, and when the index is rebuilt."""

import gzip
import os
from itertools import product
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inpars.cache import cache_folder
from inpars.errors import DataFormatError
from inpars.io import corpus as module
from inpars.io.corpus import Corpus, cached_corpus, text_key
from inpars.io.formats import read_documents, write_documents
from inpars.records import Document

TOY = Path(__file__).parents[1] / "data" / "toy"
IDS = st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=6)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("INPARS_CACHE", str(folder))
    return folder


@pytest.fixture
def builds(monkeypatch):
    """The paths an index was built for."""
    made = []
    build = module._build_index

    def counted(plain, shown, folder):
        made.append(plain)
        build(plain, shown, folder)

    monkeypatch.setattr(module, "_build_index", counted)
    return made


def written(path, content):
    path.write_bytes(content)
    return path


@pytest.fixture(params=["corpus.jsonl", "corpus.tsv", "corpus.jsonl.gz"])
def toy(request, tmp_path):
    """The toy collection in each format."""
    if request.param == "corpus.tsv":
        return Corpus(TOY / "corpus.tsv")
    if request.param == "corpus.jsonl":
        return Corpus(TOY / "beir" / "corpus.jsonl")
    packed = tmp_path / request.param
    packed.write_bytes(gzip.compress((TOY / "beir" / "corpus.jsonl").read_bytes()))
    return Corpus(packed)


def test_all_forms_are_iterated_and_looked_up(toy):
    documents = list(read_documents(TOY / "beir" / "corpus.jsonl"))
    assert len(toy) == 30
    assert list(toy) == list(toy) == documents
    assert [toy[document.doc_id] for document in reversed(documents)] == documents[::-1]
    assert toy.texts(["d29", "d26"]) == [documents[28].text, f"Café {documents[25].text}"]


def test_documents_by_their_place_in_the_file(toy):
    documents, placed = list(toy), toy.in_file_order()
    assert len(placed) == 30
    assert [placed[place] for place in (29, 0, -1, 7)] == [documents[place] for place in (29, 0, -1, 7)]
    assert list(placed[3:5]) == documents[3:5]
    with pytest.raises(IndexError):
        placed[30]


def test_unknown_ids(toy):
    assert "d01" in toy
    assert "d31" not in toy
    assert 1 not in toy
    with pytest.raises(DataFormatError, match=r"no document 'd31'; the ids of this file belong to another corpus"):
        toy["d31"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(
    st.lists(
        st.builds(Document, IDS, st.text(max_size=20), st.text(max_size=5)),
        min_size=1,
        max_size=8,
        unique_by=lambda document: document.doc_id,
    )
)
def test_any_corpus_is_found_by_id(tmp_path, documents):
    path = tmp_path / f"{len(list(tmp_path.iterdir()))}.jsonl"  # clocks of file systems are coarse
    write_documents(path, documents)
    corpus = Corpus(path)
    assert list(corpus) == [corpus[document.doc_id] for document in documents] == documents
    keys = [corpus.text_key(document.doc_id) for document in documents]
    squeezed = [" ".join(document.full_text.split()) for document in documents]
    for left, right in product(range(len(documents)), repeat=2):
        assert (keys[left] == keys[right]) == (squeezed[left] == squeezed[right])


@pytest.mark.parametrize(
    "content",
    [
        b'{"_id": "a", "text": "x"}\n{"_id": "b", "text": "y"}',  # no newline at the end
        b'{"_id": "a", "text": "x"}\r\n\r\n{"_id": "b", "text": "y"}\r\n',
        b'\xef\xbb\xbf{"_id": "a", "text": "x"}\n\n   \n{"_id": "b", "text": "y"}\n\n',
    ],
)
def test_line_ends_blank_lines_and_byte_order_marks(tmp_path, content):
    corpus = Corpus(written(tmp_path / "c.jsonl", content))
    assert len(corpus) == 2
    assert list(corpus) == [corpus["a"], corpus["b"]] == [Document("a", "x"), Document("b", "y")]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("c.jsonl", b"", "c.jsonl: the corpus is empty; it needs at least one document"),
        ("c.jsonl", b"\n \n", "c.jsonl: the corpus is empty"),
        ("c.jsonl.gz", gzip.compress(b"", mtime=0), "c.jsonl.gz: the corpus is empty"),
        ("c.tsv", b"a\tx\nb\ty\na\tz\n", "c.tsv: duplicate document id 'a' (1 in all); ids must be unique"),
        ("c.jsonl", b'\xef\xbb\xbf{"_id": 1, "text": "x"}\n{"_id": "1", "text": "y"}\n', "c.jsonl: duplicate document"),
        ("c.jsonl", b'{"_id": "a", "text": "x"}\n{"text": "y"}\n', "c.jsonl:2: no '_id' field"),
        ("c.jsonl", b'{"_id": "a", "text": "x"}\n{"_id": "b"\n', "c.jsonl:2: broken JSON"),
        ("c.jsonl", b'["a"]\n', "c.jsonl:1: not a JSON object"),
        ("c.jsonl", b'{"_id": "a", "text": "\xff"}\n', "c.jsonl:1: not UTF-8"),
        ("c.tsv", b"only one column\n", "c.tsv:1: 1 tab-separated columns, 2 are needed"),
        ("c.jsonl.gz", b"not packed\n", "c.jsonl.gz: not a whole gzip file"),
        (
            "c.jsonl.gz",
            gzip.compress(b'{"_id": "a", "text": "x"}\n', mtime=0)[:-9],
            "c.jsonl.gz: not a whole gzip file",
        ),
    ],
)
def test_what_is_refused_is_named(tmp_path, name, content, said):
    path = written(tmp_path / name, content)
    with pytest.raises(DataFormatError) as caught:
        Corpus(path)
    assert str(caught.value).startswith(f"{tmp_path}/{said}")
    assert not list(tmp_path.rglob("*.tmp"))
    with pytest.raises(DataFormatError):  # nothing half made was kept
        Corpus(path)


def test_an_absent_file_and_a_folder_are_named(tmp_path):
    for path in (tmp_path / "absent.jsonl", tmp_path):
        with pytest.raises(DataFormatError, match="no such corpus file; check the path"):
            Corpus(path)


def test_ids_with_the_same_hash_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "key64", lambda doc_id: 7)
    corpus = Corpus(written(tmp_path / "c.tsv", b"a\tx\nb\ty\nc\tz\n"))
    assert corpus.texts(["c", "a", "b"]) == ["z", "x", "y"]
    assert "d" not in corpus


@pytest.mark.parametrize("same_hash", [False, True])
def test_equal_texts_have_equal_keys(tmp_path, monkeypatch, same_hash):
    """A negative must never have the positive's text, whatever its id, title and whitespace."""
    path = tmp_path / "c.jsonl"
    documents = [
        Document("a", "a red  fox\n"),
        Document("b", "red\tfox", "a"),  # title and text together are the same words
        Document("c", "A red fox"),
        Document("d", "ared fox"),
        Document("e", ""),
        Document("f", " \n", " "),
    ]
    if same_hash:
        hashed = module.key64
        monkeypatch.setattr(module, "key64", lambda text: 7 if len(text) == 1 else hashed(text))
    write_documents(path, documents)
    keys = {document.doc_id: Corpus(path).text_key(document.doc_id) for document in documents}
    assert keys["a"] == keys["b"] == text_key("a red fox")
    assert keys["e"] == keys["f"]
    assert len(set(keys.values())) == 4
    assert all(0 <= key < 2**64 for key in keys.values())
    with pytest.raises(DataFormatError, match="no document 'z'"):
        Corpus(path).text_key("z")


def test_text_keys_are_read_from_the_index(toy, monkeypatch):
    expected = {document.doc_id: text_key(document.full_text) for document in toy}
    monkeypatch.setattr(module, "_parse_line", None)
    assert {doc_id: toy.text_key(doc_id) for doc_id in expected} == expected


def test_the_index_is_built_once_a_file(tmp_path, builds):
    path = written(tmp_path / "c.tsv", b"a\tx\n")
    first, second = Corpus(path), Corpus(path)
    assert (first.sha256, len(builds)) == (second.sha256, 1)
    path.write_bytes(b"b\ty\nc\tz\n")
    assert (len(Corpus(path)), len(builds)) == (2, 2)


def test_a_file_of_the_same_size_written_later_gets_its_own_index(tmp_path, builds):
    path = written(tmp_path / "c.tsv", b"a\tx\n")
    before = Corpus(path)
    path.write_bytes(b"b\ty\n")
    os.utime(path, ns=(1, 1))
    after = Corpus(path)
    assert ("b" in after, "a" in after, len(builds)) == (True, False, 2)
    assert before.sha256 != after.sha256


def test_a_file_whose_time_was_set_back_gets_its_own_index(tmp_path, builds):
    path = tmp_path / "c.jsonl"
    path.write_text('{"_id": "a", "text": "bread"}\n{"_id": "b", "text": "glues"}\n')
    before = path.stat()
    assert Corpus(path)["a"].text == "bread"
    path.write_text('{"_id": "b", "text": "bread"}\n{"_id": "a", "text": "glues"}\n')
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # as cp -p, rsync -t and tar do
    assert Corpus(path)["a"].text == "glues"


def test_an_index_without_its_last_file_is_built_again(tmp_path, builds, cache):
    path = written(tmp_path / "c.tsv", b"a\tx\n")
    Corpus(path)
    (meta,) = cache.rglob("meta.json")
    meta.unlink()
    assert Corpus(path)["a"].text == "x"
    assert len(builds) == 2


def test_a_packed_file_is_unpacked_once(tmp_path, cache):
    path = written(tmp_path / "c.tsv.gz", gzip.compress(b"a\tx\n", mtime=0))
    Corpus(path)
    (plain,) = cache.rglob("c.tsv")
    stamp = plain.stat().st_mtime_ns
    assert Corpus(path)["a"].text == "x"
    assert plain.stat().st_mtime_ns == stamp


def test_a_corpus_from_elsewhere_is_written_once():
    calls = []

    def documents():
        calls.append(1)
        return [Document("a", "x", "T")]

    for _ in range(2):
        assert cached_corpus("some key", documents)["a"] == Document("a", "x", "T")
    assert len(calls) == 1
    cached_corpus("another key", documents)
    assert len(calls) == 2


def test_a_corpus_from_elsewhere_that_breaks_off_is_not_kept():
    def broken():
        yield Document("a", "x")
        raise RuntimeError("lost connection")

    with pytest.raises(RuntimeError, match="lost connection"):
        cached_corpus("key", broken)
    assert len(cached_corpus("key", lambda: [Document("b", "y"), Document("c", "z")])) == 2


def test_where_the_cache_is(tmp_path, monkeypatch):
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("INPARS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "inpars"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "inpars"
