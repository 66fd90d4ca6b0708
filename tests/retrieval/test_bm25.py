"""BM25 by the real Lucene, on corpora small enough to work the scores out by hand."""

import importlib.util
import math
from random import Random

import numpy as np
import pytest

from inpars.errors import BackendError, ConfigError, UnknownNameError
from inpars.io.corpus import Corpus
from inpars.io.formats import write_documents
from inpars.io.runs import rank
from inpars.progress import Silent
from inpars.records import Document, Query
from inpars.retrieval import bm25 as module
from inpars.retrieval.bm25 import BM25Index, bm25_index
from inpars.retrieval.java import find_jar, find_java, java_class

LACKING = [
    name
    for name, found in (
        ("Java 21", find_java()),
        ("pyserini's jar", find_jar()),
        ("pyjnius", importlib.util.find_spec("jnius")),
    )
    if not found
]
pytestmark = pytest.mark.skipif(bool(LACKING), reason=f"missing: {', '.join(LACKING)}")


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("INPARS_CACHE", str(folder))
        yield folder


@pytest.fixture
def corpus(tmp_path):
    def made(*documents):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.jsonl"
        write_documents(path, documents)
        return Corpus(path)

    return made


FRUIT = (
    Document("one", "apple"),
    Document("two", "apple apple"),
    Document("other", "pear plum cherry"),
    Document("long", "apple pear " + "filler " * 20),
)


def search(index, text, k=10):
    return index.search([Query("q", text)], k)["q"]


def test_scores_by_hand(corpus):
    """With b = 0 length is ignored: idf * tf / (tf + k1), idf = ln(1 + (N - n + 0.5) / (n + 0.5))."""
    scores = search(bm25_index(corpus(*FRUIT), k1=0.9, b=0.0), "apple")
    idf = math.log(1 + (4 - 3 + 0.5) / (3 + 0.5))  # 4 documents, 3 of them with apple
    expected = {"two": idf * 2 / 2.9, "one": idf / 1.9, "long": idf / 1.9}
    assert scores == pytest.approx(expected, abs=1e-3)
    assert next(iter(scores)) == "two"


def test_length_counts_with_b(corpus):
    scores = search(bm25_index(corpus(*FRUIT), b=0.4), "apple")
    assert sorted(scores, key=scores.get, reverse=True) == ["two", "one", "long"]
    # lengths 1, 2, 3 and 22: mean 7; the document of one word: tf / (tf + k1 * (1 - b + b * 1 / 7))
    idf = math.log(1 + 1.5 / 3.5)
    assert scores["one"] == pytest.approx(idf / (1 + 0.9 * (0.6 + 0.4 / 7)), abs=1e-3)


def test_titles_are_searched_and_words_are_stemmed(corpus):
    index = bm25_index(corpus(Document("a", "about something", "Bicycles"), Document("b", "about nothing")))
    assert list(search(index, "bicycle")) == ["a"]


def test_every_query_has_its_entry(corpus):
    index = bm25_index(corpus(*FRUIT))
    queries = [Query("known", "pear"), Query("unknown", "zebra"), Query("empty", ""), Query("stop", "the of and")]
    run = index.search(queries, 10)
    assert list(run) == ["known", "unknown", "empty", "stop"]
    assert set(run["known"]) == {"other", "long"}
    assert run["unknown"] == run["empty"] == run["stop"] == {}


def test_k_cuts_and_may_be_beyond_the_list(corpus):
    index = bm25_index(corpus(*FRUIT))
    assert list(search(index, "apple", 1)) == ["two"]
    assert len(search(index, "apple", 1000)) == 3


def test_k_may_be_the_largest_that_a_flag_takes(corpus):
    index = bm25_index(corpus(*FRUIT))
    assert search(index, "apple", k=2**31 - 1) == search(index, "apple", k=4)


def test_threads_and_batches_change_nothing(corpus, monkeypatch):
    index = bm25_index(corpus(*FRUIT))
    queries = [Query(str(number), text) for number, text in enumerate(["apple", "pear", "cherry plum", "filler"] * 5)]
    once = index.search(queries, 3, threads=1)
    assert index.search(queries, 3, threads=4) == once
    monkeypatch.setattr(module, "QUERIES_PER_BATCH", 3)
    assert index.search(queries, 3, threads=2) == once


def test_whole_documents_may_be_queries(corpus):
    words = [f"word{number}" for number in range(3000)]  # Lucene's own limit is 1,024
    index = bm25_index(corpus(Document("a", " ".join(words)), Document("b", "word1")))
    assert list(search(index, " ".join(words))) == ["a", "b"]


def test_ids_and_texts_of_any_script(corpus):
    index = bm25_index(corpus(Document("größe/1#2", "Zürich"), Document("猫", "cats 😺")))
    assert index.search([Query("ü", "zürich"), Query("b", "cats")], 5).keys() == {"ü", "b"}
    assert list(search(index, "zürich")) == ["größe/1#2"]
    assert list(search(index, "cats")) == ["猫"]


def test_other_languages_have_their_analyser(corpus):
    documents = corpus(Document("a", "Häuser"), Document("b", "Katze"))
    assert search(bm25_index(documents), "Haus") == {}
    assert list(search(bm25_index(documents, language="de"), "Haus")) == ["a"]


def test_unknown_languages_are_refused(corpus):
    """Anserini falls back to English for an unknown language."""
    with pytest.raises(UnknownNameError, match=r"unknown language 'xx' \(known: ar, bn, .*\ben\b"):
        bm25_index(corpus(*FRUIT), language="xx")


def simple_searcher(index, queries, k):
    """Anserini's search, hit by hit, as in pyserini's LuceneSearcher."""
    searcher = java_class("io.anserini.search.SimpleSearcher")(str(index.folder))
    searcher.set_bm25(0.9, 0.4)
    return {
        query.query_id: [(hit.docid, float(hit.score)) for hit in searcher.search(query.text, k)] for query in queries
    }


def in_single_precision(run):
    """Hits as `rank` orders them, by their scores alone; Anserini's scores have single precision."""
    return {query_id: [(doc_id, float(np.float32(score))) for doc_id, score in rank(run[query_id])] for query_id in run}


WORDS = ("apple", "pear", "plum", "fig", "the", "größe", "😺", "猫")


@pytest.fixture(scope="module")
def many_ties(tmp_path_factory):
    """Short texts of few words, so most scores are tied; unordered ids of any script, in several segments."""
    random = Random(0)
    names = [f"{random.choice('aZé猫😺')}{number * 7919 % 1000}" for number in range(1000)]
    path = tmp_path_factory.mktemp("ties") / "corpus.jsonl"
    write_documents(path, [Document(name, " ".join(random.choices(WORDS, k=random.randint(0, 9)))) for name in names])
    return bm25_index(Corpus(path), threads=2)


@pytest.mark.parametrize("k", [1, 7, 100, 2000])
def test_lists_and_scores_are_those_of_anserini(many_ties, k):
    texts = [*WORDS, "apple pear", "fig fig plum", "", " ", "unknown", "größe 猫 plum apple pear", "the of"]
    queries = [Query(f"q{number} ", text) for number, text in enumerate(texts)]
    found = many_ties.search(queries, k, threads=2)
    assert in_single_precision(found) == simple_searcher(many_ties, queries, k)
    assert list(found) == [query.query_id for query in queries]


def test_scores_alone_give_the_order_of_long_ties(corpus):
    """Above 16, float32 cannot represent steps of a millionth, so Anserini's tied scores are equal."""
    words = " ".join(f"w{number}" for number in range(40))
    others = (Document(f"o{number}", "pear") for number in range(300))
    index = bm25_index(corpus(*(Document(f"e{number:02}", words) for number in range(60)), *others))
    queries = [Query("q", words)]
    given = simple_searcher(index, queries, 100)["q"]
    for found in (index.search(queries, 100)["q"], index._search_in_order(queries, 100, 1)["q"]):
        assert in_single_precision({"q": found})["q"] == given
    assert [doc_id for doc_id, _ in given] == [f"e{number:02}" for number in range(60)]
    assert len({score for _, score in given}) < 60  # why the order needs more than Anserini's scores


def test_ties_longer_than_was_looked_at(corpus, monkeypatch):
    """Thirty equal documents for two results: ids decide, so Anserini's search is used."""
    slow = []
    search = BM25Index._search_in_order

    def noted(self, queries, k, threads):
        slow.extend(query.text for query in queries)
        return search(self, queries, k, threads)

    monkeypatch.setattr(BM25Index, "_search_in_order", noted)
    equal = (Document(f"e{99 - number}", "apple") for number in range(30))
    index = bm25_index(corpus(Document("best", "apple apple pear"), *equal))
    queries = [Query("cut", "apple"), Query("whole", "pear"), Query("none", "")]
    found = in_single_precision(index.search(queries, 2))
    assert found == simple_searcher(index, queries, 2)
    assert [doc_id for doc_id, _ in found["cut"]] == ["best", "e70"]
    assert slow == ["apple"]
    assert [*index.search([Query("q", "apple")], 100)["q"]][1:] == [f"e{number}" for number in range(70, 100)]
    assert slow == ["apple"]


def test_the_table_of_ids_follows_the_index(corpus, cache):
    index = bm25_index(corpus(Document("a", "apple"), Document("b", "pear")))
    (table,) = index.folder.glob("doc_ids.*.npy")
    stamp = table.stat().st_mtime_ns
    again = BM25Index(index.folder)
    assert (table.stat().st_mtime_ns, list(search(again, "pear"))) == (stamp, ["b"])
    other = bm25_index(corpus(Document("c", "plum"), Document("d", "pear")))
    for path in index.folder.iterdir():
        if not path.name.startswith("doc_ids"):
            path.unlink()
    for path in other.folder.iterdir():
        if not path.name.startswith("doc_ids"):
            (index.folder / path.name).write_bytes(path.read_bytes())
    assert list(search(BM25Index(index.folder), "pear")) == ["d"]
    assert len(list(index.folder.glob("doc_ids.*.npy"))) == 2


class Notes(Silent):
    def __init__(self):
        self.notes = []

    def note(self, message):
        self.notes.append(message)


def test_an_index_is_built_once_for_its_documents(corpus):
    notes = Notes()
    first = bm25_index(corpus(Document("a", "kept once")), progress=notes)
    again = bm25_index(corpus(Document("a", "kept once")), k1=1.2, b=0.75, progress=notes)  # another file, same bytes
    assert again.folder == first.folder
    assert len(notes.notes) == 1
    other = bm25_index(corpus(Document("a", "kept once more")), progress=notes)
    assert other.folder != first.folder
    assert len(notes.notes) == 2


def test_indexing_fits_the_heap(monkeypatch):
    """Anserini's default buffer of 4 GB exceeds many Java heaps, by default a quarter of the memory."""

    class Heap:
        def __init__(self, gigabytes):
            self.bytes = int(gigabytes * 2**30)

        def getRuntime(self):
            return self

        def maxMemory(self):
            return self.bytes

    for gigabytes, megabytes in ((0.1, 64), (2, 512), (100, 2048)):
        heap = Heap(gigabytes)
        monkeypatch.setattr(module, "java_class", lambda _, heap=heap: heap)
        assert module._indexing_megabytes() == megabytes


def test_documents_without_text_are_left_out(corpus):
    index = bm25_index(corpus(Document("a", ""), Document("b", " \n"), Document("c", "text")))
    assert list(search(index, "text")) == ["c"]


def test_an_unfinished_index_is_refused(corpus, monkeypatch, cache):
    """Anserini ignores a full disk; the incomplete index must not be used later."""
    documents = corpus(Document("a", "half"), Document("b", "of it"))
    before = set((cache / "bm25").iterdir()) if (cache / "bm25").exists() else set()
    with monkeypatch.context() as patch:
        patch.setattr(module, "_document_count", lambda _: 1)
        with pytest.raises(BackendError, match=r"1 of 2 documents .*indexed; .*disk"):
            bm25_index(documents)
    assert set((cache / "bm25").iterdir()) == before
    assert list(search(bm25_index(documents), "half")) == ["a"]


def test_an_unfinished_folder_counts_no_documents(tmp_path):
    assert module._document_count(tmp_path) == 0


def test_a_folder_without_an_index_is_named(tmp_path):
    with pytest.raises(BackendError, match=r"cannot be opened; .*remove it") as caught:
        BM25Index(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("settings", [{"k1": -0.1}, {"b": 1.1}, {"b": -0.1}])
def test_settings_that_cannot_work(tmp_path, settings):
    with pytest.raises(ConfigError, match="BM25 needs k1 >= 0 and 0 <= b <= 1"):
        BM25Index(tmp_path, **settings)


def test_k_is_at_least_one(corpus):
    with pytest.raises(ConfigError, match=r"k is 0; .*at least 1"):
        search(bm25_index(corpus(*FRUIT)), "apple", 0)


def test_a_block_of_queries_none_of_which_finds_anything(corpus):
    """xhluca/bm25s#67: nothing is left of such queries, or nobody uses their words."""
    with_text = bm25_index(corpus(*FRUIT))
    for texts in (["zebra"], ["zebra", "", "the of"], ["???"] * 3, ["zebra"] * (module.QUERIES_PER_BATCH + 1)):
        queries = [Query(str(number), text) for number, text in enumerate(texts)]
        assert with_text.search(queries, 3) == {query.query_id: {} for query in queries}
    assert with_text.search([], 3) == {}
    # an empty block before one that finds something
    queries = [Query(str(number), "zebra") for number in range(module.QUERIES_PER_BATCH)]
    assert list(with_text.search([*queries, Query("q", "cherry")], 3)["q"]) == ["other"]


def test_documents_without_any_text_are_an_index_that_finds_nothing(corpus):
    assert search(bm25_index(corpus(Document("a", ""), Document("b", " "))), "apple") == {}
