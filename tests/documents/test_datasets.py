"""Collections by name and path: opening, replacing parts, and error messages."""

import gzip
import logging
import shutil
import sys
import types
import zipfile
from pathlib import Path

import pytest

from inpars.documents import ir_collections, python_docs
from inpars.documents.datasets import load_dataset, load_judged, load_topics
from inpars.documents.ir_collections import ir_splits, like_named
from inpars.errors import BackendError, ConfigError, DataFormatError, UnknownNameError
from inpars.io.formats import read_documents
from inpars.progress import Silent
from inpars.records import Query

TOY = Path(__file__).parents[1] / "data" / "toy"
BEIR = TOY / "beir"


class Notes(Silent):
    def __init__(self):
        self.notes = []

    def note(self, message):
        self.notes.append(message)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("INPARS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def written(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_a_beir_folder():
    dataset = load_dataset(str(BEIR))
    assert len(dataset.corpus) == 30
    assert sorted(dataset.splits) == ["dev", "test"]
    topics = dataset.topics()
    assert (topics.split, len(topics.queries), topics.queries["q1"]) == ("test", 8, "why does bread dough rise")
    assert topics.qrels["q1"] == {"d01": 2, "d02": 1}
    assert topics.as_queries()[0] == Query("q1", "why does bread dough rise")
    assert sorted(dataset.topics("dev").queries) == ["q10", "q11", "q12", "q9"]  # only the judged ones


def test_stamps_follow_the_content():
    dataset = load_dataset(str(BEIR))
    assert dataset.corpus_stamp.records == 30
    assert dataset.topics().stamp == load_dataset(str(BEIR)).topics().stamp
    assert dataset.topics().stamp.sha256 != dataset.topics("dev").stamp.sha256
    changed = load_dataset(str(BEIR), qrels=TOY / "qrels.trec").topics()
    assert changed.query_stamp == dataset.topics().query_stamp


def packed(path, inside):
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(part for part in BEIR.rglob("*") if part.is_file()):
            archive.write(file, f"{inside}{file.relative_to(BEIR)}")
    return path


@pytest.mark.parametrize("inside", ["", "nfcorpus/"])
def test_a_zip_with_or_without_a_folder_in_it(tmp_path, inside):
    dataset = load_dataset(str(packed(tmp_path / "toy.zip", inside)))
    assert list(dataset.corpus) == list(read_documents(BEIR / "corpus.jsonl"))
    assert sorted(dataset.splits) == ["dev", "test"]
    assert len(dataset.topics().queries) == 8


@pytest.mark.parametrize("name", ["corpus.tsv", "beir/corpus.jsonl"])
def test_a_corpus_file_has_no_queries(name):
    dataset = load_dataset(str(TOY / name))
    assert len(dataset.corpus) == 30
    with pytest.raises(ConfigError, match=r"no queries here; .*--queries FILE"):
        dataset.topics()


def test_a_folder_without_judgements_has_all_its_queries(tmp_path):
    for name in ("corpus.jsonl", "queries.jsonl"):
        shutil.copy(BEIR / name, tmp_path)
    topics = load_dataset(str(tmp_path)).topics()
    assert (len(topics.queries), topics.qrels) == (12, {})


def test_a_folder_without_corpus_is_named(tmp_path):
    with pytest.raises(DataFormatError, match=r"no corpus here; a BEIR folder has one of corpus\.jsonl") as caught:
        load_dataset(str(tmp_path))
    assert str(tmp_path) in str(caught.value)


def test_queries_and_judgements_may_be_replaced(tmp_path):
    queries = written(tmp_path / "q.tsv", "n1\tnew words\nn2\tother words\n")
    assert load_dataset(str(BEIR), queries=queries).topics().queries == {"n1": "new words", "n2": "other words"}
    assert load_dataset(str(BEIR), queries=queries).topics().qrels == {}
    qrels = written(tmp_path / "qrels", "q2 0 d05 1\n")
    topics = load_dataset(str(BEIR), qrels=qrels).topics()
    assert topics.queries == {"q2": "how to remove lime from a kettle"}
    assert topics.qrels == {"q2": {"d05": 1}}
    both = load_dataset(str(BEIR), queries=queries, qrels=written(tmp_path / "both", "n2 0 d01 1\n"))
    assert (both.topics().queries, sorted(both.splits)) == ({"n2": "other words"}, ["test"])


def test_the_corpus_may_be_replaced_or_stand_alone(tmp_path):
    alone = load_dataset(None, corpus=TOY / "corpus.tsv", queries=TOY / "queries.tsv", qrels=TOY / "qrels.trec")
    assert alone.name == str(TOY / "corpus.tsv")
    assert alone.topics().qrels == load_dataset(str(BEIR)).topics().qrels
    other = written(tmp_path / "other.tsv", "d01\tbread\nd02\tdough\n")
    assert len(load_dataset(str(BEIR), corpus=other).corpus) == 2
    with pytest.raises(ConfigError, match="no documents named: give --dataset NAME or --corpus FILE"):
        load_dataset(None, queries=TOY / "queries.tsv")


def test_judgements_without_queries_are_refused():
    with pytest.raises(ConfigError, match="--qrels without queries: give --queries FILE too"):
        load_dataset(str(TOY / "corpus.tsv"), qrels=TOY / "qrels.trec").topics()


def test_judged_queries_need_a_text(tmp_path):
    qrels = written(tmp_path / "qrels", "q1 0 d01 1\nq77 0 d01 1\nq78 0 d01 1\n")
    with pytest.raises(DataFormatError, match=r"2 judged queries .*no text.*'q77'"):
        load_dataset(str(BEIR), qrels=qrels).topics()


def test_an_empty_file_of_queries_is_named(tmp_path):
    with pytest.raises(DataFormatError, match=r"q\.tsv: no queries"):
        load_dataset(str(BEIR), queries=written(tmp_path / "q.tsv", "")).topics()


@pytest.fixture
def unknown(tmp_path):
    """Judgements of d90 and d91, which are not in the corpus; q2 has no others."""
    return written(tmp_path / "qrels", "q1 0 d01 2\nq1 0 d90 1\nq2 0 d91 1\n")


def test_unknown_judgements_are_an_error(unknown):
    with pytest.raises(DataFormatError, match=r"2 of 3 judged documents .*not in the corpus.*'d90'") as caught:
        load_dataset(str(BEIR), qrels=unknown).topics()
    assert "--unknown-judgements keep or drop" in str(caught.value)


def test_unknown_judgements_may_be_kept(unknown):
    topics = load_dataset(str(BEIR), qrels=unknown, unknown_judgements="keep").topics()
    assert topics.qrels == {"q1": {"d01": 2, "d90": 1}, "q2": {"d91": 1}}


def test_unknown_judgements_may_be_dropped(unknown):
    notes = Notes()
    topics = load_dataset(str(BEIR), qrels=unknown, unknown_judgements="drop", progress=notes).topics()
    assert topics.qrels == {"q1": {"d01": 2}}
    assert notes.notes == ["2 of 3 judged documents are not in the corpus, 'd90' first; their judgements are dropped"]


def test_unknown_splits_are_named():
    with pytest.raises(
        UnknownNameError, match=r"unknown split of .*'tset'; did you mean 'test'\? \(known: dev, test\)"
    ):
        load_dataset(str(BEIR)).topics("tset")


@pytest.mark.parametrize("name", ["./nowhere", "/no/such/folder", "gone.zip", "gone.jsonl", "~/gone"])
def test_mistyped_paths_are_no_dataset_names(name):
    """Toolkit fault: a mistyped path was treated as the name of a download."""
    with pytest.raises(DataFormatError, match="no such dataset"):
        load_dataset(name)


def test_unknown_names_are_answered_with_near_ones():
    with pytest.raises(UnknownNameError, match=r"unknown dataset 'python-doc'; did you mean 'python-docs'\?"):
        load_dataset("python-doc")


def test_judgements_alone_need_no_corpus(tmp_path):
    """Toolkit fault: a mistyped judgements file was silently replaced by the dataset's judgements."""
    assert load_judged(None, TOY / "qrels.trec").qrels["q1"] == {"d01": 2, "d02": 1}
    assert load_judged(str(BEIR), None, "dev").qrels["q9"] == {"d23": 2}
    with pytest.raises(DataFormatError, match="no such file"):
        load_judged(str(BEIR), tmp_path / "typo.tsv")
    with pytest.raises(ConfigError, match="no judgements named: give --dataset NAME or --qrels FILE"):
        load_judged(None, None)
    shutil.copy(BEIR / "corpus.jsonl", tmp_path)
    shutil.copy(BEIR / "queries.jsonl", tmp_path)
    with pytest.raises(ConfigError, match=r"split 'test' has no judgements; .*--qrels FILE"):
        load_judged(str(tmp_path), None)


def test_python_docs(cache):
    notes = Notes()
    dataset = load_dataset("python-docs", progress=notes)
    test, dev = dataset.topics(), dataset.topics("dev")
    assert len(dataset.corpus) > 2500
    assert not set(test.queries) & set(dev.queries)
    assert all(doc_id in dataset.corpus for grades in test.qrels.values() for doc_id in grades)
    assert test.queries.keys() == test.qrels.keys()
    assert load_dataset(python_docs.NAME).corpus.path == dataset.corpus.path  # read once, then kept
    assert cache in dataset.corpus.path.parents


def test_what_python_docs_lacks_is_said_where_judgements_are_used_alone(cache, monkeypatch):
    monkeypatch.setattr(python_docs, "_judgements", lambda split: {"q01": {"os.path.join": 2, "gone.from.here": 1}})
    monkeypatch.setattr(python_docs, "queries", lambda split: [Query("q01", "join paths")])
    notes = Notes()
    topics = load_dataset("python-docs", progress=notes).topics()
    assert topics.qrels == {"q01": {"os.path.join": 2}}
    assert notes.notes == []
    load_judged("python-docs", None, progress=notes)
    assert ["gone.from.here" in note for note in notes.notes] == [True]


def test_dropping_all_judgements_is_refused(tmp_path):
    strange = written(tmp_path / "qrels", "q1 0 x1 2\nq2 0 x2 1\n")
    with pytest.raises(DataFormatError, match=r"2 of 2 judged documents .*not in the corpus.*none would be left"):
        load_dataset(str(BEIR), qrels=strange, unknown_judgements="drop").topics()


class FakeIrDataset:
    """An ir_datasets collection with one judged query without text."""

    def __init__(self, *, queries=True, fail=None):
        self.queries, self.fail = queries, fail

    def has_docs(self):
        return True

    def has_queries(self):
        return self.queries

    def has_qrels(self):
        return self.queries

    def docs_iter(self):
        if self.fail:
            raise OSError(self.fail)
        yield types.SimpleNamespace(doc_id="1", text="plain", title=None)
        yield types.SimpleNamespace(doc_id="2", abstract="shown", title="Titled")
        yield types.SimpleNamespace(doc_id="3", default_text=lambda: "whatever it has")
        yield types.SimpleNamespace(doc_id="4", body=b"<p>of a crawl", default_text=lambda: "of a crawl")

    def queries_iter(self):
        yield types.SimpleNamespace(query_id="7", default_text=lambda: "what")
        yield types.SimpleNamespace(query_id="8", default_text=lambda: "unjudged")

    def qrels_iter(self):
        yield types.SimpleNamespace(query_id="7", doc_id="2", relevance=1)
        yield types.SimpleNamespace(query_id="9", doc_id="1", relevance=1)


@pytest.fixture
def ir_datasets(monkeypatch):
    def install(dataset):
        module = types.ModuleType("ir_datasets")
        module.load = lambda _: dataset
        module.docs_parent_id = lambda name: name.split("/")[0]
        log = types.ModuleType("ir_datasets.log")
        log.Logger = type("Logger", (), {"pbar": lambda self, items, **_: items})
        monkeypatch.setitem(sys.modules, "ir_datasets", module)
        monkeypatch.setitem(sys.modules, "ir_datasets.log", log)

    return install


def test_ir_datasets_by_any_name(ir_datasets):
    """Toolkit fault: only names that begin with beir/ had queries, and slashes made wrong file paths."""
    ir_datasets(FakeIrDataset())
    dataset = load_dataset("fake/of/any/depth")
    assert [(document.title, document.text) for document in dataset.corpus] == [
        ("", "plain"),
        ("Titled", "shown"),
        ("", "whatever it has"),
        ("", "of a crawl"),
    ]
    topics = dataset.topics()
    assert (topics.queries, topics.qrels) == ({"7": "what"}, {"7": {"2": 1}})


def test_splits_of_ir_datasets_share_their_documents(ir_datasets):
    ir_datasets(FakeIrDataset())
    assert load_dataset("fake/test").corpus.path == load_dataset("fake/dev").corpus.path
    assert load_dataset("other/test").corpus.path != load_dataset("fake/test").corpus.path


def test_ir_datasets_without_queries(ir_datasets):
    ir_datasets(FakeIrDataset(queries=False))
    assert load_dataset("fake").splits == {}


def test_ir_datasets_that_cannot_be_fetched(ir_datasets, cache):
    ir_datasets(FakeIrDataset(fail="no route to host\nat length"))
    with pytest.raises(BackendError, match=r"fake: ir_datasets .*\(no route to host\)"):
        load_dataset("fake")
    assert not list(cache.rglob("corpus.jsonl"))


def test_judgements_are_read_without_the_documents(tmp_path, monkeypatch):
    """Reading a judgements file must not index or download millions of documents."""
    monkeypatch.setattr("inpars.documents.datasets.Corpus", None)  # whoever opens one fails
    topics = load_topics(str(BEIR), "dev")
    assert topics.qrels["q9"] == {"d23": 2}
    assert topics.queries.keys() == topics.qrels.keys()
    assert load_judged(str(BEIR), None, "dev").qrels == topics.qrels
    with pytest.raises(UnknownNameError, match=r"split of .* 'train'"):
        load_topics(str(BEIR), "train")
    (tmp_path / "corpus.jsonl").write_text('{"_id": "a", "text": "b"}\n', encoding="utf-8")
    with pytest.raises(ConfigError, match=r"no queries here; .*--queries FILE"):
        load_topics(str(tmp_path))
    with pytest.raises(UnknownNameError, match="unknown dataset 'beir/scifat/test'"):
        load_topics("beir/scifat/test")


@pytest.mark.parametrize(
    ("name", "like"),
    [
        ("nfcorpus", ["beir/nfcorpus/test"]),  # Heidelberg's own, beside BEIR's
        ("nfcorpus/test", ["beir/nfcorpus/test"]),
        ("nq", ["beir/nq"]),
        ("beir/nfcorpus/test", []),
        ("antique", []),
    ],
)
def test_collections_of_the_same_name_within_another_one(name, like):
    assert like_named(name) == like


def test_a_collection_without_judgements_has_the_splits_below_its_name():
    """`--dataset beir/nfcorpus --split test` searched with all 3,237 queries, judged or not."""
    names = {name: ir_splits(ir_collections.ir_dataset(name), name) for name in ("beir/nfcorpus", "msmarco-passage")}
    assert set(names["beir/nfcorpus"]) == {"train", "dev", "test"}
    assert {"dev/small", "trec-dl-2019/judged"} <= set(names["msmarco-passage"])
    assert "test" not in names["msmarco-passage"]


def test_ir_datasets_shows_no_bar_for_what_takes_no_time(capfd):
    module = ir_collections._quiet_ir_datasets()
    assert list(module.log.easy().pbar(["a"])) == ["a"]
    assert capfd.readouterr().err == ""


def test_ir_datasets_keeps_its_own_progress_to_itself(ir_datasets):
    ir_datasets(FakeIrDataset())
    ir_collections.ir_dataset("toy")
    logger = logging.getLogger("ir_datasets")
    records = [logging.LogRecord("ir_datasets", level, "", 0, "", (), None) for level in (logging.INFO, logging.ERROR)]
    assert [bool(logger.filter(record)) for record in records] == [False, True]


def collection(folder, qrels="qrels/test.tsv", text="q1\td1\t1\n"):
    (folder / qrels).parent.mkdir(parents=True, exist_ok=True)
    (folder / "corpus.jsonl").write_text('{"_id": "d1", "text": "bread"}\n{"_id": "d2", "text": "water"}\n')
    (folder / "queries.jsonl").write_text('{"_id": "q1", "text": "yeast"}\n{"_id": "q2", "text": "lake"}\n')
    data = f"query-id\tcorpus-id\tscore\n{text}".encode()
    (folder / qrels).write_bytes(gzip.compress(data) if qrels.endswith(".gz") else data)
    return folder


def test_a_folder_of_collections_is_not_taken_for_its_first(tmp_path):
    for name in ("arguana", "scifact"):
        collection(tmp_path / name)
    with pytest.raises(DataFormatError, match=r"2 collections here \(arguana, scifact\)"):
        load_dataset(str(tmp_path))
    assert len(load_dataset(str(tmp_path / "scifact")).corpus) == 2


@pytest.mark.parametrize("qrels", ["qrels/test.tsv.gz", "qrels.tsv", "qrels.tsv.gz"])
def test_judgements_are_found_packed_and_beside_the_corpus(tmp_path, qrels):
    topics = load_dataset(str(collection(tmp_path, qrels))).topics("test")
    assert (topics.queries, topics.qrels) == ({"q1": "yeast"}, {"q1": {"d1": 1}})


def test_unpacked_judgements_count_where_both_are_there(tmp_path):
    collection(tmp_path, "qrels/test.tsv.gz", "q2\td2\t1\n")
    collection(tmp_path)
    assert load_dataset(str(tmp_path)).topics("test").qrels == {"q1": {"d1": 1}}


def test_other_judgements_find_their_queries_in_the_whole_file(tmp_path):
    folder = collection(tmp_path, "qrels/dev.tsv")
    (tmp_path / "other.tsv").write_text("query-id\tcorpus-id\tscore\nq2\td2\t1\n")
    assert load_dataset(str(folder), qrels=tmp_path / "other.tsv").topics("test").queries == {"q2": "lake"}
