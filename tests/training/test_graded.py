"""Several graded positives per query: in triples, groups, trainings, audits and other formats."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from tiny_models import WORDS

from inpars.contrib.interchange.items import grouped as grouped_examples
from inpars.contrib.interchange.source import Source
from inpars.contrib.interchange.stage import ExportOptions, ImportOptions, export_file, import_file
from inpars.documents.datasets import load_dataset
from inpars.errors import ConfigError, DataFormatError
from inpars.io.formats import synthetic_query_record
from inpars.io.judgements import read_qrels
from inpars.io.storage import read_jsonl, write_jsonl
from inpars.io.topics import Topics
from inpars.negatives.audit import AuditedTriple, apply_action
from inpars.pairs.records import Pair
from inpars.progress import Silent
from inpars.records import Triple
from inpars.stages.train import train_reranker_from_file, train_retriever_from_file
from inpars.stages.triple_files import has_grades, read_grades
from inpars.stages.triples import TriplesOptions, write_triples
from inpars.training.examples import Group, TripleTexts, grouped, listed, read_triple_texts
from inpars.training.options import RerankerOptions, RetrieverOptions
from inpars.training.reranker import with_negatives
from inpars.training.retriever import train_retriever  # noqa: F401 - torch is loaded once, outside the tests

EXACT = {"device": "cpu", "dtype": "float32", "batch_size": 2}
QRELS = {"q1": {"d1": 2, "d2": 1, "d3": 0}, "q2": {"d4": 1}, "q3": {"d5": 1, "d6": 1}}
QUERIES = {name: f"{WORDS[n]} {WORDS[n + 1]}" for n, name in enumerate(QRELS)}


@pytest.fixture
def dataset(tmp_path, monkeypatch):
    monkeypatch.setenv("INPARS_CACHE", str(tmp_path / "cache"))
    rows = [{"_id": f"d{n}", "text": " ".join(WORDS[n : n + 4])} for n in range(1, 13)]
    write_jsonl(tmp_path / "corpus.jsonl", rows)
    return load_dataset(None, corpus=tmp_path / "corpus.jsonl")


def mine(dataset, output, source=None, **options):
    topics = source or Topics("test", QUERIES, QRELS)
    settings = TriplesOptions(negatives="random", per_query=3, **options)
    return write_triples(topics, dataset.corpus, settings, output=output)


def origins(path):
    return [row for _, row in read_jsonl(path.with_name("triples.negatives.jsonl"))]


def test_grades_are_kept_where_a_query_has_several_or_higher_ones(dataset, tmp_path):
    mine(dataset, tmp_path / "triples.tsv", graded=True)
    kept = {
        (row["query_id"], row["positive_doc_id"]): row.get("positive_grade")
        for row in origins(tmp_path / "triples.tsv")
    }
    assert kept == {("q1", "d1"): 2, ("q1", "d2"): 1, ("q2", "d4"): None, ("q3", "d5"): 1, ("q3", "d6"): 1}
    texts = {name: dataset.corpus[name].full_text for name in ("d1", "d2")}
    grades = read_grades(tmp_path / "triples.tsv")
    assert (grades[QUERIES["q1"], texts["d1"]], grades[QUERIES["q1"], texts["d2"]]) == (2, 1)


def test_without_the_flag_nothing_is_kept_and_one_positive_of_grade_1_has_none_to_keep(dataset, tmp_path):
    for name, topics, same in (("all", None, False), ("one", Topics("test", QUERIES, {"q2": {"d4": 1}}), True)):
        plain, graded = tmp_path / name / "plain" / "triples.tsv", tmp_path / name / "graded" / "triples.tsv"
        before = mine(dataset, plain, topics)
        mine(dataset, graded, topics, graded=True)
        assert "graded" not in before.arguments
        assert not has_grades(plain)
        assert not read_grades(plain)
        for ending in ("triples.tsv", "triples.ids.tsv"):
            assert plain.with_name(ending).read_bytes() == graded.with_name(ending).read_bytes()
        negatives = [path.with_name("triples.negatives.jsonl").read_bytes() for path in (plain, graded)]
        assert (negatives[0] == negatives[1]) is same


@pytest.mark.parametrize("graded", [True, False])
def test_a_lower_grade_is_never_the_negative_of_a_higher_one(dataset, tmp_path, graded):
    """Negatives of d1 and d2 are only d3, judged 0, and unjudged documents."""
    drawn = set()
    for seed in range(12):
        mine(dataset, tmp_path / "triples.tsv", graded=graded, seed=seed)
        drawn |= {row["negative_doc_id"] for row in origins(tmp_path / "triples.tsv") if row["query_id"] == "q1"}
    assert drawn == {f"d{n}" for n in range(3, 13)}


def test_queries_with_grades_are_mined_for_all_their_documents(dataset, tmp_path):
    query = Pair("some words", "vote", {"d1": 3, "d2": 1}).query()
    write_jsonl(tmp_path / "q.jsonl", [synthetic_query_record(query)])
    mine(dataset, tmp_path / "triples.tsv", tmp_path / "q.jsonl", graded=True)
    assert {(row["positive_doc_id"], row["positive_grade"]) for row in origins(tmp_path / "triples.tsv")} == {
        ("d1", 3),
        ("d2", 1),
    }


ROWS = [TripleTexts("q", "low", "x"), TripleTexts("q", "high", "low"), TripleTexts("r", "one", "y")]


def test_a_list_has_all_positives_by_grade_and_no_positive_as_a_negative():
    found = listed([*ROWS, TripleTexts("q", "high", "z")], {("q", "high"): 3, ("q", "low"): 2})
    assert found == [Group("q", "high", ("x", "z"), ("low",), (3, 2)), Group("r", "one", ("y",))]
    assert found[0].pairs == [("q", "high"), ("q", "low"), ("q", "x"), ("q", "z")]
    assert found[0].labels == [3.0, 2.0, 0.0, 0.0]
    many = Group("q", "high", tuple("abcdefgh"), ("low",), (3, 2))
    assert len(with_negatives(many, 2, seed=0).negatives) == 4  # two of each positive


@given(st.dictionaries(st.sampled_from("qrstu"), st.lists(st.sampled_from("abcd"), min_size=1, unique=True)))
def test_of_one_positive_a_list_is_the_group_of_before(negatives):
    rows = [TripleTexts(query, f"to {query}", text) for query, texts in negatives.items() for text in texts]
    assert listed(rows, {}) == grouped(rows)
    assert [group.labels for group in grouped(rows)] == [[1.0, *[0.0] * len(texts)] for texts in negatives.values()]


def weights(folder):
    return load_file(folder / "model.safetensors")


def equal(one, other):
    return all((one[name] == other[name]).all() for name in one)


@pytest.fixture
def graded_triples(dataset, tmp_path):
    mine(dataset, tmp_path / "triples.tsv", graded=True)
    return tmp_path / "triples.tsv"


@pytest.mark.parametrize(("kind", "model"), [("cross-encoder", "bert_classifier"), ("monot5", "t5")])
def test_a_training_reads_the_grades(tiny, graded_triples, tmp_path, kind, model):
    def train(name, triples=graded_triples, **settings):
        options = RerankerOptions(model=tiny(model), kind=kind, learning_rate=1e-3, **EXACT, **settings)
        return train_reranker_from_file(triples, options, output=tmp_path / name, progress=Silent())

    lists, apart = train("lists"), train("apart", graded=False)
    assert (lists.results["examples"], apart.results["examples"]) == (3, 5)  # queries, and pairs of query and positive
    assert not equal(weights(tmp_path / "lists"), weights(tmp_path / "apart"))
    assert "grades" in lists.inputs
    assert "grades" not in apart.inputs
    plain = tmp_path / "plain" / "triples.tsv"  # the same triples without what lies beside them: as before
    plain.parent.mkdir()
    plain.write_bytes(graded_triples.read_bytes())
    before = train("plain-model", plain)
    assert equal(weights(tmp_path / "plain-model"), weights(tmp_path / "apart"))
    assert "graded" not in before.arguments


def test_losses_for_one_positive_are_refused(tiny, graded_triples, tmp_path):
    options = RerankerOptions(model=tiny("bert_classifier"), loss="pairwise", **EXACT)
    with pytest.raises(ConfigError, match=r"pairwise compares one positive.*listwise.*--no-graded"):
        train_reranker_from_file(graded_triples, options, output=tmp_path / "model", progress=Silent())
    train_reranker_from_file(
        graded_triples, replace(options, graded=False), output=tmp_path / "model", progress=Silent()
    )


@pytest.mark.parametrize("loss", ["bce", "listwise", "ranknet", "listnet", "lambda"])
def test_graded_losses_learn_the_order_of_grades(tiny, graded_triples, tmp_path, loss):
    from inpars.rerankers import load_scorer

    options = RerankerOptions(model=tiny("bert_classifier"), loss=loss, epochs=40, learning_rate=5e-3, **EXACT)
    train_reranker_from_file(graded_triples, options, output=tmp_path / "model", progress=Silent())
    (best, *_) = listed(read_triple_texts(graded_triples), read_grades(graded_triples))
    scores = load_scorer(str(tmp_path / "model"), device="cpu", dtype="float32").score(best.pairs)
    assert min(scores[:2]) > max(scores[2:])
    if loss != "bce":  # for which both are relevant
        assert scores[0] > scores[1]


def test_a_bi_encoder_says_that_it_reads_no_grades(tiny, graded_triples, tmp_path):
    notes = []

    class Noting(Silent):
        def note(self, message):
            notes.append(message)

    options = RetrieverOptions(model=tiny("sentence_transformer"), **EXACT)
    manifest = train_retriever_from_file(graded_triples, options, output=tmp_path / "bi", progress=Noting())
    assert any("bi-encoder loss uses the grades" in note for note in notes)
    assert manifest.results["examples"] == 15  # every triple


def test_a_relabelled_positive_has_a_grade_of_its_own():
    def triple(negative, score):
        origin = {"source": "bm25", "score": 1.0, "positive_score": 2.0, "positive_grade": 3}
        return AuditedTriple("q", "p", negative, 5.0, score, Triple("q1", "d1", negative), origin)

    kept, new = apply_action([triple("true", 1.0), triple("false", 9.0)], "relabel")
    assert (kept.record()["positive_grade"], new.record()["positive_grade"]) == (3, 1)
    assert new.ids == Triple("q1", "false", "true")


@pytest.mark.parametrize("grade", [0, -1, "2", 1.5])
def test_what_is_no_grade_is_named(graded_triples, grade):
    path = graded_triples.with_name("triples.negatives.jsonl")
    rows = origins(graded_triples)
    rows[0]["positive_grade"] = grade
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataFormatError, match=r"negatives\.jsonl:1.*positive_grade"):
        read_grades(graded_triples)


@pytest.mark.parametrize("layout", ["labeled-list", "labeled-pair"])
def test_grades_go_to_sentence_transformers_and_come_back(dataset, graded_triples, tmp_path, layout):
    source = Source(triples=graded_triples, dataset=dataset)
    options = ExportOptions(format="sentence-transformers", layout=layout)
    manifest = export_file(source, options, output=tmp_path / "out.parquet", progress=Silent())
    assert manifest.results["not_kept"] == {}
    import_file(
        tmp_path / "out.parquet",
        ImportOptions(format="sentence-transformers"),
        output=tmp_path / "back",
        progress=Silent(),
    )
    back = read_grades(tmp_path / "back" / "triples.tsv")
    texts = {doc_id: dataset.corpus[doc_id].full_text for doc_id in ("d1", "d2")}
    assert back[QUERIES["q1"], texts["d1"]] == 2
    assert back[QUERIES["q1"], texts["d2"]] == 1
    qrels = read_qrels(tmp_path / "back" / "qrels" / "train.tsv")
    assert sorted(grade for grades in qrels.values() for grade in grades.values() if grade > 0) == [1, 1, 1, 1, 2]


def test_formats_without_grades_say_what_is_lost(dataset, graded_triples, tmp_path):
    source = Source(triples=graded_triples, dataset=dataset)
    manifest = export_file(source, ExportOptions(format="tevatron"), output=tmp_path / "out.jsonl", progress=Silent())
    assert manifest.results["not_kept"] == {"grades above 1": 1}
    (first, *_) = grouped_examples(source.together())
    assert first.grades == (2, 1)


def test_grades_of_queries_become_judgements(dataset, tmp_path):
    query = Pair("some words", "vote", {"d1": 3, "d2": 1}).query()
    write_jsonl(tmp_path / "q.jsonl", [synthetic_query_record(query, dataset.corpus["d1"])])
    source = Source(synthetic=tmp_path / "q.jsonl", dataset=dataset)
    export_file(source, ExportOptions(format="beir"), output=tmp_path / "beir", progress=Silent())
    assert read_qrels(tmp_path / "beir" / "qrels" / "train.tsv") == {query.query_id: {"d1": 3, "d2": 1}}
