"""The search stage with fake indexes: depth, queries that are documents, fusion, and errors."""

import sys
import types
from pathlib import Path

import pytest

from inpars.documents.datasets import load_dataset
from inpars.errors import ConfigError
from inpars.io.corpus import Corpus
from inpars.io.formats import read_run, write_documents
from inpars.progress import Silent
from inpars.records import Document, Query
from inpars.stages import search as search_stage
from inpars.stages.search import SearchOptions, own_documents, retrieve, search_dataset

TOY = Path(__file__).parents[1] / "data" / "toy"
DOCUMENTS = [
    Document("a", "Apples  grow on trees.", "Fruit"),
    Document("1", "Something else altogether."),
    Document("b", "Pears."),
    Document("c", "Plums."),
]


class FakeIndex:
    def __init__(self, run):
        self.run, self.asked = run, []

    def search(self, queries, k, **_):
        self.asked.append(([query.query_id for query in queries], k))
        return {query.query_id: dict(list(self.run.items())[:k]) for query in queries}


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    monkeypatch.setenv("INPARS_CACHE", str(tmp_path / "cache"))
    write_documents(tmp_path / "corpus.jsonl", DOCUMENTS)
    return Corpus(tmp_path / "corpus.jsonl")


@pytest.fixture
def bm25(monkeypatch):
    fake = FakeIndex({"a": 4.0, "1": 3.0, "b": 2.0, "c": 1.0})
    monkeypatch.setattr(search_stage, "bm25_index", lambda *_, **__: fake)
    return fake


def retrieved(*arguments):
    return {query_id: scores for run in retrieve(*arguments) for query_id, scores in run.items()}


@pytest.mark.parametrize(
    ("query_id", "text", "is_own"),
    [
        ("a", "apples grow on trees.", True),
        ("a", "Fruit Apples\ngrow on", True),  # title and text are one; case and blanks do not count
        ("a", "where do apples grow", False),
        ("a", "Fruit", True),  # the title
        ("a", "apples", False),  # a word of it, in a document that only bears the same number
        ("1", "what is a pear", False),  # numbers often name a query and a document that have nothing in common
        ("z", "Pears.", False),
    ],
)
def test_what_a_querys_own_document_is(corpus, query_id, text, is_own):
    assert own_documents({query_id: text}, corpus) == ({query_id} if is_own else set())


def test_the_own_document_goes_only_where_it_is_the_querys_text(corpus, bm25):
    """Toolkit fault: ids alone were compared, so that query 1 lost the unrelated document 1, or kept itself."""
    run = retrieved(corpus, [Query("a", "Apples grow on trees."), Query("1", "what is a pear")], SearchOptions(k=2))
    assert run == {"a": {"1": 3.0, "b": 2.0}, "1": {"a": 4.0, "1": 3.0}}
    assert bm25.asked == [(["a", "1"], 3)]  # one more, so that two are left


def test_queries_that_are_documents_are_counted(corpus, bm25):
    class Notes(Silent):
        def __init__(self):
            self.lines = []

        def note(self, message):
            self.lines.append(message)

    notes, asked = Notes(), [Query("a", "Fruit"), Query("b", "Pears."), Query("c", "x")]
    list(retrieve(corpus, asked, SearchOptions(), progress=notes))
    (line,) = notes.lines
    assert "2 queries are documents" in line
    list(retrieve(corpus, asked[2:], SearchOptions(), progress=notes))
    assert notes.lines == [line]


def test_one_retriever_is_asked_for_k(corpus, bm25):
    run = retrieved(corpus, [Query("q", "x")], SearchOptions(k=3))
    assert list(run["q"]) == ["a", "1", "b"]
    assert bm25.asked == [(["q"], 3)]


def test_queries_are_searched_block_by_block(corpus, bm25, monkeypatch):
    """A large run is never in memory as a whole."""
    queries = [Query("a", "Pears."), Query("b", "Pears."), Query("q", "x")]
    whole = retrieved(corpus, queries, SearchOptions(k=2))
    monkeypatch.setattr(search_stage, "QUERIES_PER_BLOCK", 2)
    blocks = list(retrieve(corpus, queries, SearchOptions(k=2)))
    assert [list(run) for run in blocks] == [["a", "b"], ["q"]]
    assert blocks[0] | blocks[1] == whole
    assert bm25.asked == [(["a", "b", "q"], 3), (["a", "b"], 3), (["q"], 2)]


def test_fused_retrievers_are_read_to_the_fusion_depth(corpus, bm25, monkeypatch):
    dense = FakeIndex({"b": 0.9, "c": 0.5, "a": 0.1})
    module = types.ModuleType("inpars.retrieval.dense")
    module.Encoder = lambda *_, **__: types.SimpleNamespace(index=lambda *_, **__: dense)
    monkeypatch.setitem(sys.modules, "inpars.retrieval.dense", module)
    run = retrieved(corpus, [Query("q", "x")], SearchOptions(retriever=("bm25", "minilm"), k=2, fusion_depth=3))
    assert bm25.asked == dense.asked == [(["q"], 3)]
    # z-scores of three equal steps are 1.2247, 0, -1.2247:
    # a 1.2247 - 1.2247 = 0, 1 is 0 - 1.2247 (the dense run lacks it), b -1.2247 + 1.2247 = 0, c -1.2247 + 0
    assert run["q"] == pytest.approx({"b": 0.0, "a": 0.0})
    assert list(run["q"]) == ["b", "a"]


def search(tmp_path, monkeypatch, **options):
    monkeypatch.setenv("INPARS_CACHE", str(tmp_path / "cache"))
    dataset = load_dataset(str(TOY / "beir"))
    return search_dataset(dataset, dataset.topics(), SearchOptions(**options), output=tmp_path / "run.trec")


def test_the_run_is_written_in_order(tmp_path, monkeypatch):
    fake = FakeIndex({"d02": 1.0, "d01": 2.0})
    monkeypatch.setattr(search_stage, "bm25_index", lambda *_, **__: fake)
    manifest = search(tmp_path, monkeypatch, limit=2)
    assert (tmp_path / "run.trec").read_text(encoding="utf-8").splitlines() == [
        "q1 Q0 d01 1 2.000000 bm25",
        "q1 Q0 d02 2 1.000000 bm25",
        "q2 Q0 d01 1 2.000000 bm25",
        "q2 Q0 d02 2 1.000000 bm25",
    ]
    assert (manifest.output.records, manifest.results) == (4, {"queries": 2, "without_results": 0})
    assert search(tmp_path, monkeypatch, limit=2, threads=7).output == manifest.output  # threads change nothing
    assert len(fake.asked) == 1
    search(tmp_path, monkeypatch, limit=3)
    assert len(read_run(tmp_path / "run.trec")) == 3


def test_queries_that_find_nothing_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(search_stage, "bm25_index", lambda *_, **__: FakeIndex({}))
    manifest = search(tmp_path, monkeypatch)
    assert (manifest.output.records, manifest.results) == (0, {"queries": 8, "without_results": 8})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0, "threads": -1}, "--k is 0; it must be at least 1; --threads is -1; it must be at least 1"),
        ({"limit": 0}, "--limit is 0; it must be at least 1"),
    ],
)
def test_settings_that_cannot_work(tmp_path, monkeypatch, options, message):
    with pytest.raises(ConfigError, match=message):
        search(tmp_path, monkeypatch, **options)
