"""The triples stage with a fake BM25: which files it writes, when it rewrites them, and errors."""

import shutil
from pathlib import Path

import pytest

from inpars.documents.datasets import load_dataset
from inpars.errors import ConfigError, StaleInputError
from inpars.io.formats import read_run, read_synthetic_queries
from inpars.io.manifest import read_manifest
from inpars.io.storage import read_jsonl
from inpars.io.topics import Topics
from inpars.io.triples import read_triple_ids
from inpars.negatives.miner import best_document
from inpars.records import Triple
from inpars.stages import search as search_stage
from inpars.stages import triples as triples_stage
from inpars.stages.stage import Stage
from inpars.stages.triple_files import ids_path, negatives_path
from inpars.stages.triples import TriplesOptions, write_triples
from inpars.training.examples import TripleTexts, read_triple_texts

TOY = Path(__file__).parents[1] / "data" / "toy"
SYNTHETIC = TOY / "queries.synthetic.jsonl"


class FakeIndex:
    """Finds d01, d02 and d03 for every query, but nothing for `silent` ones; counts its searches."""

    def __init__(self, silent=()):
        self.silent, self.searches, self.depths = silent, 0, []
        self.found = {"d01": 3.0, "d02": 2.0, "d03": 1.0}

    def search(self, queries, k, **_):
        self.searches += 1
        self.depths.append(k)
        return {query.query_id: {} if query.query_id in self.silent else dict(self.found) for query in queries}


@pytest.fixture
def index(monkeypatch, tmp_path):
    monkeypatch.setenv("INPARS_CACHE", str(tmp_path / "cache"))
    fake = FakeIndex()
    monkeypatch.setattr(search_stage, "bm25_index", lambda *_, **__: fake)
    return fake


def mine(output, *, source=SYNTHETIC, corpus=None, judgements=(), make_scorer=None, **options):
    dataset = load_dataset(str(corpus or TOY / "beir"))
    return write_triples(
        source,
        dataset.corpus,
        TriplesOptions(**options),
        output=output,
        judgements=judgements,
        make_scorer=make_scorer,
    )


def test_texts_ids_and_run_say_the_same(index, tmp_path):
    output = tmp_path / "out" / "triples.tsv"
    manifest = mine(output, ranks="1-2")
    queries = {query.query_id: query for query in read_synthetic_queries(SYNTHETIC)}
    triples = list(read_triple_ids(output.with_name("triples.ids.tsv")))
    corpus = load_dataset(str(TOY / "beir")).corpus
    assert [triple.query_id for triple in triples] == list(queries)
    assert output.read_text(encoding="utf-8").splitlines() == [
        f"{queries[t.query_id].text}\t{corpus[t.positive_doc_id].full_text}\t{corpus[t.negative_doc_id].full_text}"
        for t in triples
    ]
    assert all(triple.positive_doc_id == queries[triple.query_id].doc_id for triple in triples)
    assert all(triple.negative_doc_id in ("d01", "d02", "d03") for triple in triples)
    assert read_run(output.with_name("negatives.trec"))["d01-q0"] == {"d01": 3.0, "d02": 2.0, "d03": 1.0}
    assert index.depths == [3]  # ranks to 2, and one more for the positive
    # six queries; the positives of d01-q0 and d03-q0 are among the three documents found
    assert (manifest.output.records, manifest.results) == (
        6,
        {"queries": 6, "positives": 6, "positive_not_retrieved": 4, "sources": {"bm25": 6}, "passed_over": {}},
    )
    origins = [row for _, row in read_jsonl(output.with_name("triples.negatives.jsonl"))]
    scores = {"d01": 3.0, "d02": 2.0, "d03": 1.0}
    for origin, triple in zip(origins, triples, strict=True):
        ranked = [doc_id for doc_id in scores if doc_id != triple.positive_doc_id]
        assert origin == {
            "query_id": triple.query_id,
            "positive_doc_id": triple.positive_doc_id,
            "negative_doc_id": triple.negative_doc_id,
            "source": "bm25",
            "rank": ranked.index(triple.negative_doc_id) + 1,
            "score": scores[triple.negative_doc_id],
            "positive_score": scores.get(triple.positive_doc_id),
        }


def test_done_is_done(index, tmp_path):
    output = tmp_path / "triples.tsv"
    first = mine(output)
    assert mine(output) == first
    assert index.searches == 1
    assert mine(output, seed=1).seed == 1
    assert index.searches == 2


@pytest.mark.parametrize("side", ["triples.ids.tsv", "triples.negatives.jsonl", "negatives.trec"])
def test_a_missing_side_is_made_again(index, tmp_path, side):
    output = tmp_path / "triples.tsv"
    mine(output)
    content = (tmp_path / side).read_bytes()
    (tmp_path / side).unlink()
    mine(output)
    assert (tmp_path / side).read_bytes() == content
    assert index.searches == 2


def test_queries_without_results_are_counted(index, tmp_path):
    index.silent = ("d03-q0",)
    manifest = mine(tmp_path / "triples.tsv")
    assert (manifest.output.records, manifest.dropped) == (5, {"no_negatives": 1})


def test_ranks_beyond_every_ranking_are_noted(index, tmp_path, monkeypatch):
    notes = []
    monkeypatch.setattr(Stage, "note", lambda _, line: notes.append(line))
    manifest = mine(tmp_path / "triples.tsv", ranks="50-60")
    assert manifest.results["negatives_above_ranks"] == manifest.output.records == 6
    assert notes[0].startswith("6 ")
    assert "before --ranks 50-60" in notes[0]


def test_texts_stay_on_their_line(index, tmp_path):
    """Toolkit fault: quotes, tabs and newlines in texts broke the lines of a triples file."""
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text(
        '{"_id": "d01", "text": "one\\ttab\\nand \\"quote"}\n'
        '{"_id": "d02", "text": "null"}\n{"_id": "d03", "text": "NA"}\n',
        encoding="utf-8",
    )
    source = tmp_path / "q.jsonl"
    source.write_text('{"doc_id": "d01", "query": "what \\"is\\" it", "log_probs": [-1]}\n', encoding="utf-8")
    mine(tmp_path / "triples.tsv", source=source, corpus=corpus, per_query=2)
    rows = (tmp_path / "triples.tsv").read_text(encoding="utf-8").splitlines()
    assert sorted(rows) == ['what "is" it\tone tab and "quote\tNA', 'what "is" it\tone tab and "quote\tnull']


def test_queries_of_another_corpus_are_refused(index, tmp_path):
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text('{"_id": "d01", "text": "bread"}\n', encoding="utf-8")
    with pytest.raises(StaleInputError, match=r"5 of 6 queries .*this corpus lacks.*'d03'"):
        mine(tmp_path / "triples.tsv", corpus=corpus)
    assert index.searches == 0


def test_without_any_negative_nothing_is_written(index, tmp_path):
    index.silent = {query.query_id for query in read_synthetic_queries(SYNTHETIC)}
    with pytest.raises(ConfigError, match=r"of 6 queries \(6 dropped: no_negatives 6\)"):
        mine(tmp_path / "triples.tsv")
    assert not (tmp_path / "triples.tsv").exists()
    assert read_manifest(tmp_path / "triples.tsv") is None


@pytest.mark.parametrize(
    ("name", "ids"),
    [("triples.tsv", "triples.ids.tsv"), ("a.tsv.gz", "a.ids.tsv"), ("pairs", "pairs.ids.tsv")],
)
def test_where_the_ids_lie(name, ids):
    assert ids_path(Path("folder") / name) == Path("folder") / ids
    assert negatives_path(Path("folder") / name) == Path("folder") / ids.replace(".ids.tsv", ".negatives.jsonl")


def test_blocks_make_no_difference(index, tmp_path, monkeypatch):
    mine(tmp_path / "a" / "triples.tsv", per_query=2)
    monkeypatch.setattr(triples_stage, "QUERIES_PER_BLOCK", 4)
    mine(tmp_path / "b" / "triples.tsv", per_query=2)
    assert index.searches == 3  # one block of six, then one of four and one of two
    for name in ("triples.tsv", "triples.ids.tsv", "triples.negatives.jsonl", "negatives.trec"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_the_order_of_the_queries_makes_no_difference(index, tmp_path):
    lines = SYNTHETIC.read_text(encoding="utf-8").splitlines(keepends=True)
    source = tmp_path / "q.jsonl"
    source.write_text("".join(reversed(lines)), encoding="utf-8")
    mine(tmp_path / "a" / "triples.tsv")
    mine(tmp_path / "b" / "triples.tsv", source=source)
    ids = [(tmp_path / place / "triples.ids.tsv").read_text(encoding="utf-8").splitlines() for place in "ab"]
    assert ids[0] == ids[1][::-1]


def test_judgements_of_any_split_protect_documents(index, tmp_path):
    train = Topics("train", {"t": "why does YEAST make bread rise?"}, {"t": {"d02": 1, "d03": 0}})
    dev = Topics("dev", {"d03-q0": "other words"}, {"d03-q0": {"d02": 1, "gone": 1}})
    manifest = mine(tmp_path / "triples.tsv", judgements=[train, dev], per_query=5)
    drawn = {}
    for triple in read_triple_ids(tmp_path / "triples.ids.tsv"):
        drawn.setdefault(triple.query_id, set()).add(triple.negative_doc_id)
    assert drawn["d01-q0"] == {"d03"}  # of the words of t
    assert drawn["d03-q0"] == {"d01"}  # of the id of d03-q0
    assert set(manifest.inputs) == {"queries", "corpus", "judgements train", "judgements dev"}


def test_judged_queries_have_a_triple_for_each_relevant_document(index, tmp_path):
    topics = Topics("train", {"q1": "bread", "q2": "milk"}, {"q1": {"d01": 2, "d04": 1, "gone": 1, "d05": 0}})
    manifest = mine(tmp_path / "triples.tsv", source=topics, per_query=5)
    assert {
        (t.query_id, t.positive_doc_id, t.negative_doc_id) for t in read_triple_ids(tmp_path / "triples.ids.tsv")
    } == {*(("q1", "d01", "d02"), ("q1", "d01", "d03"), ("q1", "d04", "d02"), ("q1", "d04", "d03"))}
    assert manifest.dropped == {"positive_not_in_corpus": 1}
    with pytest.raises(ConfigError, match=r"split 'train' has no judgements .*--input FILE"):
        mine(tmp_path / "triples.tsv", source=Topics("train", {"q1": "bread"}, {}))


def test_random_negatives_need_no_index(monkeypatch, tmp_path):
    monkeypatch.setenv("INPARS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(search_stage, "bm25_index", None)
    manifest = mine(tmp_path / "triples.tsv", negatives="random", per_query=3)
    assert manifest.results["sources"] == {"random": 18}
    assert not (tmp_path / "negatives.trec").exists()
    origin = next(row for _, row in read_jsonl(tmp_path / "triples.negatives.jsonl"))
    assert (origin["source"], origin["rank"], origin["score"], origin["positive_score"]) == ("random", None, None, None)
    with pytest.raises(ConfigError, match=r"random negatives .*--margin.*--rescore"):
        mine(tmp_path / "triples.tsv", negatives="random", margin=1.0)


def test_random_negatives_do_not_depend_on_the_order_of_the_corpus(tmp_path, monkeypatch):
    monkeypatch.setenv("INPARS_CACHE", str(tmp_path / "cache"))
    lines = (TOY / "beir" / "corpus.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    for name, ordered in (("a", lines), ("b", lines[::-1])):
        (tmp_path / f"{name}.jsonl").write_text("".join(ordered), encoding="utf-8")
        mine(tmp_path / f"{name}.tsv", corpus=tmp_path / f"{name}.jsonl", negatives="random", per_query=3)
    assert (tmp_path / "a.ids.tsv").read_bytes() == (tmp_path / "b.ids.tsv").read_bytes()


class Lengths:
    """Scores a pair by the length of the document's text, and fails at its nth batch."""

    name = "lengths"

    def __init__(self, breaks_at=None):
        self.batches, self.breaks_at = [], breaks_at

    def score(self, pairs):
        if len(self.batches) == self.breaks_at:
            raise KeyboardInterrupt
        self.batches.append(list(pairs))
        return [float(len(document)) for _, document in pairs]


def test_scores_that_were_paid_for_are_not_asked_for_again(index, tmp_path, monkeypatch):
    monkeypatch.setattr(triples_stage, "QUERIES_PER_RESCORED_BLOCK", 2)
    settings = {"rescore": "lengths", "per_query": 2, "margin": 0.0}
    whole, first, second = Lengths(), Lengths(breaks_at=1), Lengths()
    mine(tmp_path / "a" / "triples.tsv", make_scorer=lambda: whole, **settings)
    output = tmp_path / "b" / "triples.tsv"
    with pytest.raises(KeyboardInterrupt):
        mine(output, make_scorer=lambda: first, **settings)
    assert not output.exists()
    with output.with_name("triples.tsv.partial").open("a", encoding="utf-8") as partial:
        partial.write('{"pairs": "torn')  # as a loss of power may leave it
    mine(output, make_scorer=lambda: second, **settings)
    assert first.batches + second.batches == whole.batches
    assert len(whole.batches) == 3
    for name in ("triples.tsv", "triples.ids.tsv", "triples.negatives.jsonl"):
        assert output.with_name(name).read_bytes() == (tmp_path / "a" / name).read_bytes()
    assert not output.with_name("triples.tsv.partial").exists()
    for _, origin in read_jsonl(negatives_path(output)):
        assert origin["reranker_score"] <= origin["positive_reranker_score"]


def test_scores_of_other_settings_are_thrown_away(index, tmp_path, monkeypatch):
    monkeypatch.setattr(triples_stage, "QUERIES_PER_RESCORED_BLOCK", 2)
    output, second = tmp_path / "triples.tsv", Lengths()
    with pytest.raises(KeyboardInterrupt):
        mine(output, make_scorer=lambda: Lengths(breaks_at=1), rescore="lengths")
    mine(output, make_scorer=lambda: second, rescore="lengths", seed=5)
    assert len(second.batches) == 3


def test_null_and_na_stay_words(index, tmp_path):
    """Toolkit fault: passages `null` and `NA` became the text None on the way to training."""
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text('{"_id": "null", "text": "bread"}\n{"_id": "d02", "text": "NA"}\n', encoding="utf-8")
    source = tmp_path / "q.jsonl"
    source.write_text('{"doc_id": "null", "query": "null", "log_probs": [-1]}\n', encoding="utf-8")
    index.found = {"null": 2.0, "d02": 1.0}
    mine(tmp_path / "triples.tsv", source=source, corpus=corpus)
    assert read_triple_texts(tmp_path / "triples.tsv") == [TripleTexts("null", "bread", "NA")]
    assert list(read_triple_ids(tmp_path / "triples.ids.tsv")) == [Triple("null-q0", "null", "d02")]


def test_nothing_is_named_after_the_dataset(index, tmp_path):
    """Toolkit fault: names with a slash made impossible paths; runs kept by name served other queries."""
    folder = tmp_path / "cqadupstack" / "android"
    shutil.copytree(TOY / "beir", folder)
    mine(tmp_path / "triples.tsv", corpus=folder)
    lines = SYNTHETIC.read_text(encoding="utf-8").splitlines(keepends=True)[:2]
    (tmp_path / "fewer.jsonl").write_text("".join(lines), encoding="utf-8")
    manifest = mine(tmp_path / "triples.tsv", corpus=folder, source=tmp_path / "fewer.jsonl")
    assert manifest.output.records == 2
    assert set(read_run(tmp_path / "negatives.trec")) == {"d01-q0", "d03-q0"}


def test_dense_negatives_know_the_positives_score_whatever_its_rank(tiny, index, tmp_path):
    model = tiny("sentence_transformer")
    mine(tmp_path / "triples.tsv", negatives="dense", ranks="1-2", retriever=model)
    origins = [row for _, row in read_jsonl(tmp_path / "triples.negatives.jsonl")]
    assert len(origins) == 6
    run = read_run(tmp_path / "negatives.dense.trec")
    assert any(origin["positive_doc_id"] not in run[origin["query_id"]] for origin in origins)
    for origin in origins:
        ranked = run[origin["query_id"]]
        expected = ranked.get(origin["positive_doc_id"])
        assert (
            origin["positive_score"] == pytest.approx(expected, abs=1e-5)
            if expected
            else origin["positive_score"] <= min(ranked.values()) + 1e-5
        )
    assert index.searches == 0
    mined = mine(tmp_path / "b.tsv", negatives="dense", ranks="1-30", retriever=model, max_score_share=0.99)
    for _, origin in read_jsonl(tmp_path / "b.negatives.jsonl"):
        limit = origin["positive_score"] * (0.99 if origin["positive_score"] >= 0 else 1 / 0.99)
        assert origin["score"] <= limit
    assert mined.output.records


def best(output, source=SYNTHETIC, **settings):
    """Positives chosen by the length of documents among the own one and the three that the fake index finds."""
    options = {"rescore": "lengths", "positives": "best", "per_query": 1, **settings}
    manifest = mine(output, source=source, make_scorer=Lengths, **options)
    return manifest, [row for _, row in read_jsonl(negatives_path(output))]


def test_the_best_document_of_a_query_becomes_its_positive(index, tmp_path):
    manifest, rows = best(tmp_path / "triples.tsv")
    corpus = load_dataset(str(TOY / "beir")).corpus
    own = {query.query_id: query.doc_id for query in read_synthetic_queries(SYNTHETIC)}
    length = {doc_id: len(corpus[doc_id].full_text) for doc_id in (*own.values(), "d01", "d02", "d03")}
    for row in rows:
        offered = [own[row["query_id"]], "d01", "d02", "d03"]
        assert length[row["positive_doc_id"]] == max(length[doc_id] for doc_id in offered)
        replaced = row["positive_doc_id"] != own[row["query_id"]]
        assert row.get("source_doc_id") == (own[row["query_id"]] if replaced else None)
        assert row["negative_doc_id"] not in (row["positive_doc_id"], own[row["query_id"]])
    replaced = {row["query_id"] for row in rows if "source_doc_id" in row}
    assert manifest.results["replaced_positives"] >= len(replaced) > 0
    texts = (tmp_path / "triples.tsv").read_text(encoding="utf-8").splitlines()
    assert all(corpus[row["positive_doc_id"]].full_text in line for row, line in zip(rows, texts, strict=True))


def test_positives_chosen_anew_do_not_depend_on_blocks_or_order(index, tmp_path, monkeypatch):
    first = {row["query_id"]: row for row in best(tmp_path / "a" / "triples.tsv")[1]}
    monkeypatch.setattr(triples_stage, "QUERIES_PER_RESCORED_BLOCK", 1)
    shuffled = tmp_path / "q.jsonl"
    shuffled.write_text(
        "".join(reversed(SYNTHETIC.read_text(encoding="utf-8").splitlines(keepends=True))), encoding="utf-8"
    )
    assert {row["query_id"]: row for row in best(tmp_path / "b" / "triples.tsv", shuffled)[1]} == first


def test_what_people_chose_is_not_replaced(index, tmp_path):
    source = tmp_path / "pairs.jsonl"
    lines = [line.replace('"model": "', '"model": "people", "by": "') for line in SYNTHETIC.read_text().splitlines()]
    source.write_text("\n".join(lines) + "\n")
    assert all(query.by_people for query in read_synthetic_queries(source))
    manifest, rows = best(tmp_path / "triples.tsv", source)
    assert manifest.results["replaced_positives"] == 0
    assert not any("source_doc_id" in row for row in rows)


def test_someone_must_judge_positives(index, tmp_path):
    with pytest.raises(ConfigError, match="--positives best needs a reranker"):
        mine(tmp_path / "triples.tsv", positives="best")


@pytest.mark.parametrize(
    ("scores", "found"),
    [
        ({"own": 1.0, "a": 2.0, "b": 3.0}, "b"),
        ({"own": 3.0, "a": 3.0}, "own"),  # it has to score above
        ({"own": 1.0, "b": 2.0, "a": 2.0}, "a"),
        ({"own": 1.0}, "own"),
    ],
)
def test_the_best_of_scores(scores, found):
    assert best_document("own", scores) == found
