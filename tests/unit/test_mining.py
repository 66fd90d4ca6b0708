"""The triples stage: which files it writes, when it writes them again, and what it refuses. BM25 is a fake here."""

from pathlib import Path

import pytest

from inpars.datasets import load_dataset
from inpars.errors import ConfigError, StaleInputError
from inpars.formats import read_run, read_synthetic_queries, read_triple_ids
from inpars.manifest import read_manifest
from inpars.stages import mining
from inpars.stages.mining import TriplesOptions, ids_path, write_triples

TOY = Path(__file__).parents[1] / "data" / "toy"
SYNTHETIC = TOY / "queries.synthetic.jsonl"


class FakeIndex:
    """Finds d01, d02 and d03 for every query, but nothing for `silent` ones; counts its searches."""

    def __init__(self, silent=()):
        self.silent, self.searches, self.depths = silent, 0, []

    def search(self, queries, k, **_):
        self.searches += 1
        self.depths.append(k)
        found = {"d01": 3.0, "d02": 2.0, "d03": 1.0}
        return {query.query_id: {} if query.query_id in self.silent else dict(found) for query in queries}


@pytest.fixture
def index(monkeypatch, tmp_path):
    monkeypatch.setenv("INPARS_CACHE", str(tmp_path / "cache"))
    fake = FakeIndex()
    monkeypatch.setattr(mining, "bm25_index", lambda *_, **__: fake)
    return fake


def mine(output, *, source=SYNTHETIC, corpus=None, **options):
    dataset = load_dataset(str(corpus or TOY / "beir"))
    return write_triples(source, dataset.corpus, dataset.corpus_stamp, TriplesOptions(**options), output=output)


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
    assert (manifest.output.records, manifest.results) == (6, {"queries": 6, "positive_not_retrieved": 4})


def test_done_is_done(index, tmp_path):
    output = tmp_path / "triples.tsv"
    first = mine(output)
    assert mine(output) == first
    assert index.searches == 1
    assert mine(output, seed=1).seed == 1
    assert index.searches == 2


@pytest.mark.parametrize("side", ["triples.ids.tsv", "negatives.trec"])
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
    with pytest.raises(StaleInputError, match=r"5 of 6 queries are about documents this corpus lacks, 'd03' first"):
        mine(tmp_path / "triples.tsv", corpus=corpus)
    assert index.searches == 0


def test_without_any_negative_nothing_is_written(index, tmp_path):
    index.silent = {query.query_id for query in read_synthetic_queries(SYNTHETIC)}
    with pytest.raises(ConfigError, match="BM25 finds no negative for any of its 6 queries"):
        mine(tmp_path / "triples.tsv")
    assert not (tmp_path / "triples.tsv").exists()
    assert read_manifest(tmp_path / "triples.tsv") is None


@pytest.mark.parametrize(
    ("name", "ids"), [("triples.tsv", "triples.ids.tsv"), ("a.tsv.gz", "a.ids.tsv"), ("pairs", "pairs.ids.tsv")]
)
def test_where_the_ids_lie(name, ids):
    assert ids_path(Path("folder") / name) == Path("folder") / ids
