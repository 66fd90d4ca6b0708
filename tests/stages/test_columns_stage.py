"""Score files of all kinds: values, nulls, resuming, and errors."""

import json
import math

import numpy as np
import pytest

from inpars.errors import BackendError, ConfigError, DataFormatError, StaleInputError
from inpars.io.corpus import Corpus
from inpars.io.formats import write_documents
from inpars.io.storage import write_jsonl
from inpars.records import Document
from inpars.stages.query_scorers import MarginColumn, RankColumn, rank_of
from inpars.stages.query_scores import Clustering, cluster_file, score_column_file
from inpars.stages.score import ScoreOptions, Source

DOCUMENTS = [Document(f"d{number}", f"text of {number}", f"Title {number}") for number in range(7)]
ROWS = [
    {"query_id": f"{d.doc_id}-q0", "doc_id": d.doc_id, "query": f"query {d.doc_id}", "text": d.full_text}
    for d in DOCUMENTS
]


class Counter:
    """The length of the document; raises after `blocks` blocks."""

    name, block = "length", 2

    def __init__(self, blocks=99):
        self.blocks, self.seen = blocks, []

    def score(self, rows):
        if not self.blocks:
            raise BackendError("the power is gone")
        self.blocks -= 1
        self.seen += [query.query_id for query, _ in rows]
        lengths = [None if query.doc_id == "d3" else len(record["text"]) + 0.5 for query, record in rows]
        return [{"length": length} for length in lengths]


class Stage:
    def __init__(self, folder):
        self.output, self.source = folder / "scores.jsonl", folder / "queries.jsonl"
        write_jsonl(self.source, ROWS)

    def rows(self):
        return [json.loads(line) for line in self.output.read_text(encoding="utf-8").splitlines()]

    def columns(self, scorer, **settings):
        options = ScoreOptions(kind="reranker", model="counter", **settings)
        return score_column_file(self.source, options, output=self.output, make_scorer=lambda: scorer)

    def clusters(self, encoder, **settings):
        options = ScoreOptions(kind="cluster", model="letters", **settings)
        return cluster_file(self.source, options, output=self.output, make_encoder=lambda: encoder)


@pytest.fixture
def stage(tmp_path, monkeypatch):
    monkeypatch.setattr(Clustering, "block", 2)
    return Stage(tmp_path)


def test_a_number_a_query_in_their_order(stage):
    manifest = stage.columns(Counter())
    assert stage.rows()[2:4] == [{"query_id": "d2-q0", "length": 17.5}, {"query_id": "d3-q0", "length": None}]
    assert [row["query_id"] for row in stage.rows()] == [row["query_id"] for row in ROWS]
    assert manifest.results == {"missing": 1, "mean": 17.5}
    assert manifest.output.records == 7
    assert stage.columns(Counter(), limit=3).output.records == 3


@pytest.mark.parametrize("blocks", range(4))
def test_an_interrupted_run_goes_on_where_it_stopped(stage, blocks):
    stage.columns(Counter())
    expected = stage.output.read_bytes()
    stage.output.unlink()
    with pytest.raises(BackendError):
        stage.columns(Counter(blocks))
    with stage.output.with_name("scores.jsonl.partial").open("ab") as stream:
        stream.write(b'{"query_id": "d0-')  # a truncated line
    scorer = Counter()
    stage.columns(scorer)
    assert stage.output.read_bytes() == expected
    assert len(scorer.seen) == 7 - 2 * blocks
    assert not stage.output.with_name("scores.jsonl.partial").exists()


def test_other_settings_begin_anew_and_what_is_finished_is_skipped(stage):
    with pytest.raises(BackendError):
        stage.columns(Counter(1))
    scorer = Counter()
    stage.columns(scorer, max_length=9)
    assert len(scorer.seen) == 7
    again = Counter()
    stage.columns(again, max_length=9)
    assert again.seen == []


def test_margins_are_no_probabilities_and_texts_come_from_corpus_or_rows(stage, tmp_path):
    class Pairs:
        name = "pairs"

        def score(self, pairs):
            return [math.inf if "6" in document else len(document) * 100.0 for _, document in pairs]

    stage.columns(MarginColumn("reranker", Pairs(), Source(stage.source)))
    assert [row["reranker"] for row in stage.rows()] == [1700.0] * 6 + [None]
    write_documents(tmp_path / "c.jsonl", [Document(d.doc_id, "other") for d in DOCUMENTS])
    corpus = Corpus(tmp_path / "c.jsonl", tmp_path / "cache")
    stage.columns(MarginColumn("reranker", Pairs(), Source(stage.source, corpus)), seed=1)
    assert {row["reranker"] for row in stage.rows()} == {500.0}
    write_jsonl(stage.source, [{"doc_id": "d1", "query": "x"}])
    with pytest.raises(DataFormatError, match=r"'d1-q0' has no document text; .*--dataset"):
        stage.columns(MarginColumn("reranker", Pairs(), Source(stage.source)))


def test_the_rank_of_the_own_document(stage, tmp_path):
    write_documents(tmp_path / "c.jsonl", DOCUMENTS)
    corpus = Corpus(tmp_path / "c.jsonl", tmp_path / "cache")

    def search(queries, depth, pairs):
        # d0 is first for its query, second for that of d1; nothing is found for d2 and the others
        return {"d0-q0": {"d0": 2.0, "d1": 1.0}, "d1-q0": {"d0": 2.0, "d1": 1.0}, "d2-q0": {}}, {}

    manifest = stage.columns(RankColumn(search, 100, Source(stage.source, corpus), "bm25_rank"))
    assert [row["bm25_rank"] for row in stage.rows()] == [1, 2, None, None, None, None, None]
    assert manifest.results["missing"] == 5
    write_jsonl(stage.source, [{**ROWS[0], "doc_id": "elsewhere"}])
    with pytest.raises(StaleInputError, match="about document 'elsewhere', which this corpus lacks"):
        stage.columns(RankColumn(search, 100, Source(stage.source, corpus), "bm25_rank"))


def test_a_dense_rank_comes_with_the_similarity(stage, tmp_path):
    write_documents(tmp_path / "c.jsonl", DOCUMENTS)

    def search(queries, depth, pairs):
        return {"d1-q0": {"d0": 0.9, "d1": 0.8}}, dict.fromkeys(pairs, 0.25)

    source = Source(stage.source, Corpus(tmp_path / "c.jsonl", tmp_path / "cache"))
    stage.columns(RankColumn(search, 100, source, "dense_rank", "dense_score"), limit=2)
    assert stage.rows() == [
        {"query_id": "d0-q0", "dense_rank": None, "dense_score": 0.25},
        {"query_id": "d1-q0", "dense_rank": 2, "dense_score": 0.25},
    ]


def test_ranks_are_those_of_trec_eval_under_ties():
    assert [rank_of({"a": 1.0, "b": 1.0, "c": 0.5}, doc_id) for doc_id in "bacd"] == [1, 2, 3, None]


class Letters:
    """Separates queries about even and odd documents; raises after `blocks` blocks."""

    def __init__(self, blocks=99):
        self.blocks, self.seen = blocks, []

    def encode_queries(self, texts):
        if not self.blocks:
            raise BackendError("the power is gone")
        self.blocks -= 1
        self.seen += texts
        odd = [text[-1].isdigit() and int(text[-1]) % 2 for text in texts]
        return np.array([[1.0, 0.0] if one else [0.0, 1.0] for one in odd], dtype=np.float32)


def test_clusters_by_embedding(stage):
    manifest = stage.clusters(Letters(), clusters=2)
    result = [row["cluster"] for row in stage.rows()]
    assert len({*result[::2]}) == len({*result[1::2]}) == 1
    assert result[0] != result[1]
    assert manifest.results == {"clusters": 2, "largest": 4}
    assert not stage.output.with_name("scores.jsonl.partial").exists()
    assert stage.clusters(Letters(), limit=3).output.records == 3


@pytest.mark.parametrize("blocks", range(4))
def test_an_interrupted_clustering_goes_on_where_it_stopped(stage, blocks):
    stage.clusters(Letters())
    expected = stage.output.read_bytes()
    stage.output.unlink()
    with pytest.raises(BackendError):
        stage.clusters(Letters(blocks))
    with stage.output.with_name("scores.jsonl.partial").open("ab") as stream:
        stream.write(b'{"embedding": "AA')  # a truncated row
    encoder = Letters()
    stage.clusters(encoder)
    assert stage.output.read_bytes() == expected
    assert len(encoder.seen) == 7 - 2 * blocks


def test_settings_that_cannot_work(stage):
    with pytest.raises(ConfigError, match="--kind answerability needs a --model"):
        score_column_file(stage.source, ScoreOptions(kind="answerability"), output=stage.output)
    with pytest.raises(ConfigError, match=r"--kind bm25-rank searches a corpus; .*--dataset"):
        score_column_file(stage.source, ScoreOptions(kind="bm25-rank"), output=stage.output)
    stage.source.write_text("\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="no queries to score"):
        stage.columns(Counter())
