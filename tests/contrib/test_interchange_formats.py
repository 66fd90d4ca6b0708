"""Each format's own files: fields as the other toolkit has them, faults of the existing toolkits, what is refused."""

import json
import os
from pathlib import Path

import pytest

from inpars.contrib.interchange import FORMATS
from inpars.contrib.interchange.folder import Folder
from inpars.contrib.interchange.items import Example, JudgedQuery, Margin, Negative, Unkept, document_of, query_of
from inpars.contrib.interchange.source import Source, Written
from inpars.documents.datasets import load_dataset
from inpars.errors import ConfigError, DataFormatError
from inpars.io.corpus import Corpus
from inpars.io.formats import read_run, read_synthetic_queries
from inpars.io.storage import read_jsonl
from inpars.io.triples import read_triple_ids
from inpars.records import Document, Qrel, Query, ScoredDocument, Triple

TOY = Path(__file__).parents[1] / "data" / "toy"
DATA = Path(os.environ.get("INPARS_TEST_DATA") or Path(__file__).parents[3] / "shared" / "data")
GPL = DATA / "interop" / "gpl" / "fiqa"


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("INPARS_CACHE", str(tmp_path / "cache"))


def read(name, path, content=None):
    if content is not None:
        path.write_text(content, encoding="utf-8")
    return list(FORMATS[name].read(path))


def into_folder(folder, items):
    with Folder(folder, "test", Path("test")) as written:
        written.add(items)
    return folder


def write(name, path, source, layout="triplet"):
    written = Written()
    FORMATS[name].write(source, path, layout, written)
    return written


def records(path):
    return [record for _, record in read_jsonl(path)]


@pytest.fixture
def ours(tmp_path):
    """Two queries: one with two negatives, one with one; reranker scores for all."""
    bread, milk, tide = (
        Document("d1", 'Yeast "eats"\tsugar', "Bread"),
        Document("d2", "milk sours"),
        Document("d3", "sea"),
    )
    first = (Negative(milk, "bm25", 1, 2.5, 0.25), Negative(tide, "bm25", 4, 1.5, -1.0))
    second = (Negative(tide, "dense", 2, 0.5, -2.0),)
    items = [
        Example(Query("q1", "why rise"), bread, first, 3.0, 2.0),
        Example(Query("q2", "why sour"), milk, second, 1, 1),
    ]
    return into_folder(tmp_path / "ours", items)


def source_of(folder, **others):
    return Source(triples=folder / "triples.tsv", dataset=load_dataset(str(folder)), split="train", **others)


def test_fields_of_tevatron(ours, tmp_path):
    write("tevatron", tmp_path / "t.jsonl", source_of(ours))
    bread = {"docid": "d1", "title": "Bread", "text": 'Yeast "eats"\tsugar'}
    milk, tide = {"docid": "d2", "title": "", "text": "milk sours"}, {"docid": "d3", "title": "", "text": "sea"}
    first = {"query_id": "q1", "query": "why rise", "positive_passages": [bread], "negative_passages": [milk, tide]}
    second = {"query_id": "q2", "query": "why sour", "positive_passages": [milk], "negative_passages": [tide]}
    assert records(tmp_path / "t.jsonl") == [first, second]


def test_fields_of_flagembedding(ours, tmp_path):
    write("flagembedding", tmp_path / "f.jsonl", source_of(ours))
    first, second = records(tmp_path / "f.jsonl")
    assert first == {
        "query": "why rise",
        "pos": ['Bread Yeast "eats"\tsugar'],
        "neg": ["milk sours", "sea"],
        "pos_scores": [2.0],
        "neg_scores": [0.25, -1.0],
    }
    assert second["neg_scores"] == [-2.0]


def test_flagembedding_gets_no_scores_where_one_is_unknown(ours, tmp_path):
    rows = records(ours / "triples.negatives.jsonl")
    del rows[2]["reranker_score"]
    (ours / "triples.negatives.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write("flagembedding", tmp_path / "f.jsonl", source_of(ours))
    assert [sorted(record) for record in records(tmp_path / "f.jsonl")] == [["neg", "pos", "query"]] * 2


def test_files_of_gpl(ours, tmp_path):
    (tmp_path / "g").mkdir()
    write("gpl", tmp_path / "g", source_of(ours))
    assert records(tmp_path / "g" / "hard-negatives.jsonl") == [
        {"qid": "q1", "pos": ["d1"], "neg": {"bm25": ["d2", "d3"]}},
        {"qid": "q2", "pos": ["d2"], "neg": {"dense": ["d3"]}},
    ]
    # margins: 2 - 0.25, 2 - -1, 1 - -2
    lines = (tmp_path / "g" / "gpl-training-data.tsv").read_text().splitlines()
    assert lines == ["q1\td1\td2\t1.750000", "q1\td1\td3\t3.000000", "q2\td2\td3\t3.000000"]
    assert (
        tmp_path / "g" / "qgen-qrels" / "train.tsv"
    ).read_text() == "query-id\tcorpus-id\tscore\nq1\td1\t1\nq2\td2\t1\n"


def test_gpl_is_left_to_make_margins_that_are_unknown(ours, tmp_path):
    (ours / "triples.negatives.jsonl").unlink()
    (tmp_path / "g").mkdir()
    written = write("gpl", tmp_path / "g", source_of(ours))
    assert not (tmp_path / "g" / "gpl-training-data.tsv").exists()
    assert written.dropped == {"margin_unknown": 3}
    assert records(tmp_path / "g" / "hard-negatives.jsonl")[0]["neg"] == {"inpars": ["d2", "d3"]}


def test_fields_of_rank_llm(ours, tmp_path):
    (tmp_path / "run.trec").write_text("q1 Q0 d3 1 2.5 bm25\nq1 Q0 d1 2 1.25 bm25\n")
    source = Source(run=tmp_path / "run.trec", dataset=load_dataset(str(ours)), split="train")
    write("rank-llm", tmp_path / "r.json", source)
    candidates = [
        {"docid": "d3", "score": 2.5, "doc": {"text": "sea"}},
        {"docid": "d1", "score": 1.25, "doc": {"title": "Bread", "text": 'Yeast "eats"\tsugar'}},
    ]
    expected = [{"query": {"text": "why rise", "qid": "q1"}, "candidates": candidates}]
    assert json.loads((tmp_path / "r.json").read_text()) == expected


def test_fields_of_llama_index(ours, tmp_path):
    write("llama-index", tmp_path / "l.json", source_of(ours))
    assert json.loads((tmp_path / "l.json").read_text()) == {
        "queries": {"q1": "why rise", "q2": "why sour"},
        "corpus": {"d1": 'Bread Yeast "eats"\tsugar', "d2": "milk sours", "d3": "sea"},
        "relevant_docs": {"q1": ["d1"], "q2": ["d2"]},
        "mode": "text",
    }


def test_lines_of_msmarco_and_of_the_toolkit(ours, tmp_path):
    source = source_of(ours)
    write("msmarco-triples", tmp_path / "m.tsv", source)
    write("inpars-triples", tmp_path / "i.tsv", source)
    write("msmarco-ids", tmp_path / "ids.tsv", source)
    plain = 'why rise\tBread Yeast "eats" sugar\tmilk sours'
    assert (tmp_path / "m.tsv").read_text().splitlines()[0] == plain
    quoted = 'why rise\t"Bread Yeast ""eats"" sugar"\tmilk sours'
    assert (tmp_path / "i.tsv").read_text().splitlines()[0] == quoted
    assert (tmp_path / "ids.tsv").read_text() == "q1\td1\td2\nq1\td1\td3\nq2\td2\td3\n"


@pytest.mark.parametrize(
    ("layout", "rows"),
    [
        ("triplet", [{"anchor": "why sour", "positive": "milk sours", "negative": "sea"}]),
        ("pair", [{"anchor": "why sour", "positive": "milk sours"}]),
        ("margin", [{"anchor": "why sour", "positive": "milk sours", "negative": "sea", "score": 3.0}]),
        ("labeled-list", [{"query": "why sour", "docs": ["milk sours", "sea"], "labels": [1, 0]}]),
        (
            "labeled-pair",
            [
                {"query": "why sour", "passage": "milk sours", "label": 1},
                {"query": "why sour", "passage": "sea", "label": 0},
            ],
        ),
        (
            "scored-pair",
            [
                {"query": "why sour", "passage": "milk sours", "score": 1.0},
                {"query": "why sour", "passage": "sea", "score": -2.0},
            ],
        ),
    ],
)
def test_columns_of_sentence_transformers(ours, tmp_path, layout, rows):
    parquet = pytest.importorskip("pyarrow.parquet")
    write("sentence-transformers", tmp_path / "t.parquet", source_of(ours), layout)
    table = parquet.read_table(tmp_path / "t.parquet")
    assert table.to_pylist()[-len(rows) :] == rows
    assert table.column_names == list(rows[0])


def test_an_n_tuple_has_as_many_negatives_as_most_queries_have(ours, tmp_path):
    """Of 2 and 1 negatives, once each, the larger number; the query with fewer is counted."""
    parquet = pytest.importorskip("pyarrow.parquet")
    written = write("sentence-transformers", tmp_path / "t.parquet", source_of(ours), "n-tuple")
    table = parquet.read_table(tmp_path / "t.parquet")
    assert table.column_names == ["anchor", "positive", "negative_1", "negative_2"]
    assert (table.num_rows, written.dropped) == (1, {"fewer_negatives": 1})


def test_synthetic_queries_of_ours_in_the_toolkits_spellings(tmp_path):
    source = Source(synthetic=TOY / "queries.synthetic.jsonl")
    write("inpars", tmp_path / "v2.jsonl", source)
    write("inpars-v1", tmp_path / "v1.jsonl", source)
    v2, v1 = records(tmp_path / "v2.jsonl")[0], records(tmp_path / "v1.jsonl")[0]
    assert list(v2)[:6] == ["doc_id", "text", "query", "log_probs", "prompt_text", "fewshot_examples"]
    assert list(v1)[:4] == ["doc_id", "doc_text", "question", "log_probs"]
    assert (v1["doc_text"], v1["question"]) == (v2["text"], v2["query"])
    assert v2["query"] == "why does yeast make bread rise"


def test_a_line_of_flagembedding_with_two_positives(tmp_path):
    line = '{"query": "q", "pos": ["a", "b"], "neg": ["c"], "prompt": "for retrieval"}\n'
    *found, unkept = read("flagembedding", tmp_path / "f.jsonl", line)
    assert unkept == Unkept("field 'prompt'")
    assert [(e.positive.text, [n.document.text for n in e.negatives]) for e in found] == [("a", ["c"]), ("b", ["c"])]


def test_tevatrons_newer_form_has_its_texts_beside_it(tmp_path):
    (tmp_path / "corpus.jsonl").write_text(
        '{"docid": "7", "title": "T", "text": "yes"}\n{"docid": "8", "text": "no"}\n'
    )
    line = '{"query_id": 5, "query_text": "q", "positive_document_ids": ["7"], "negative_document_ids": ["8"]}\n'
    (found,) = read("tevatron", tmp_path / "t.jsonl", line)
    assert found == Example(Query("5", "q"), Document("7", "yes", "T"), (Negative(Document("8", "no"), rank=1),))


def test_a_ranking_whose_scores_contradict_it_keeps_its_order(tmp_path):
    """A listwise reranking may keep the first stage's scores: 1 / rank then."""
    candidates = [
        {"docid": 2, "score": 1.0, "doc": {"contents": "b"}},
        {"docid": 1, "score": 9.0, "doc": {"text": "a"}},
    ]
    content = json.dumps([{"query": {"text": "q", "qid": 3}, "candidates": candidates}], indent=2)
    found = read("rank-llm", tmp_path / "r.json", content)
    assert [item for item in found if isinstance(item, ScoredDocument)] == [
        ScoredDocument("3", "2", 1.0),
        ScoredDocument("3", "1", 0.5),
    ]
    assert [item.text for item in found if isinstance(item, Document)] == ["b", "a"]


def test_llama_index_in_any_order_of_its_parts(tmp_path):
    content = (
        '{"relevant_docs": {"q": ["d"]}, "mode": "text", "corpus": {"d": "t"}, "more": [1], "queries": {"q": "w"}}'
    )
    found = read("llama-index", tmp_path / "l.json", content)
    assert found == [JudgedQuery(Qrel("q", "d", 1)), Document("d", "t"), Unkept("field 'more'"), Query("q", "w")]


def test_names_of_columns_do_not_count(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    rows = [{"question": "q", "answer": "a", "neg": "n", "neg2": None, "scores": [2.0, 1.0]}]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "t.parquet")
    (found,) = read("sentence-transformers", tmp_path / "t.parquet")
    negative = Negative(document_of("n"), rank=1, reranker_score=1.0)
    assert found == Example(query_of("q"), document_of("a"), (negative,), positive_reranker_score=2.0)


def test_files_of_msmarco_with_their_splits(tmp_path):
    (tmp_path / "collection.tsv").write_text('0\tThe "presence" of\n1\t"Manhattan\n')
    (tmp_path / "queries.dev.small.tsv").write_text("9\twhat is\n")
    (tmp_path / "qrels.dev.small.tsv").write_text("9\t0\t1\t1\n")
    (tmp_path / "qidpidtriples.train.full.2.tsv").write_text("9\t1\t0\n")
    assert read("msmarco", tmp_path) == [
        Document("0", 'The "presence" of'),
        Document("1", '"Manhattan'),
        Query("9", "what is"),
        JudgedQuery(Qrel("9", "1", 1), "dev.small"),
        Triple("9", "1", "0"),
    ]


def test_which_trec_file_it_is_follows_from_its_first_line(tmp_path):
    assert read("trec", tmp_path / "a.tsv", "301\tborn in 1990\n") == [Query("301", "born in 1990")]
    assert read("trec", tmp_path / "b.txt", "301 0 d1 2\n") == [JudgedQuery(Qrel("301", "d1", 2), "test")]
    assert read("trec", tmp_path / "c.run", "301 Q0 d1 1 3.5 tag\n") == [ScoredDocument("301", "d1", 3.5)]
    assert len(read("trec", tmp_path)) == 3
    with pytest.raises(DataFormatError, match=r"d.txt:1: neither a topic"):
        read("trec", tmp_path / "d.txt", "one\n")


@pytest.mark.parametrize("name", ["inpars-triples", "msmarco-triples"])
@pytest.mark.parametrize("text", ["null", "NA", "None", "nan", "n/a"])
def test_passages_that_read_null_stay_text(tmp_path, name, text):
    """6.1 #10: the toolkit's loader turned them into the string "None"."""
    (found,) = read(name, tmp_path / "t.tsv", f"{text}\tgood\t{text}\n")
    assert (found.query.text, found.negatives[0].document.text) == (text, text)


@pytest.mark.parametrize("name", ["inpars", "inpars-triples", "msmarco-triples"])
def test_unbalanced_quotes_of_v1_do_not_swallow_lines(tmp_path, name):
    """6.1 #11: the toolkit's loader stopped at v1's raw lines."""
    content = 'a\t"The pipe is 5" wide\tc\nd\te"\t"f\n"g\th\ti"\n'
    found = read(name, tmp_path / "t.tsv", content)
    texts = [(e.query.text, e.positive.text, e.negatives[0].document.text) for e in found]
    assert texts == [("a", '"The pipe is 5" wide', "c"), ("d", 'e"', '"f'), ('"g', "h", 'i"')]


@pytest.mark.parametrize("file", ["queries.synthetic.v1.jsonl", "queries.synthetic.v2.jsonl"])
def test_both_spellings_are_read(tmp_path, file):
    """6.2: v1's `question` and `doc_text` could not go through the toolkit, nor its own names through v1's scripts."""
    folder = into_folder(tmp_path / "f", read("inpars", TOY / file))
    texts = [query.text for query in read_synthetic_queries(folder / "queries.synthetic.jsonl")]
    assert texts[:2] == ["why does yeast make bread rise", "how is yoghurt made from milk"]
    assert "yeast eats sugar" in Corpus(folder / "corpus.jsonl")["d01"].text


def test_v1s_filtered_queries_have_a_score_in_place_of_log_probs(tmp_path):
    """Section 3: its filter overwrote them."""
    line = '{"doc_id": "1", "doc_text": "t", "question": "q", "log_probs": -0.25}\n'
    (found,) = read("inpars-v1", tmp_path / "q.jsonl", line)
    assert (found.query.log_prob_kind, found.query.token_log_probs, found.others) == ("absent", (), {"score": -0.25})


def test_queries_without_log_probs_are_counted(tmp_path):
    (tmp_path / "q.jsonl").write_text('{"doc_id": "1", "text": "t", "query": "q"}\n')
    written = write("inpars", tmp_path / "o.jsonl", Source(synthetic=tmp_path / "q.jsonl"))
    assert written.dropped == {"log_probs_absent": 1}


@pytest.mark.parametrize(
    ("name", "file", "content", "problem"),
    [
        ("flagembedding", "f.jsonl", '{"pos": ["a"]}', r"f.jsonl:1: field 'query': must be text"),
        ("flagembedding", "f.jsonl", '{"query": "q", "pos": "a"}', r"f.jsonl:1: field 'pos': must be a list"),
        ("flagembedding", "f.jsonl", '{"query": "q", "pos": []}', r"f.jsonl:1: field 'pos': at least one text"),
        ("flagembedding", "f.jsonl", '{"query": "q", "pos": ["a"], "neg": [null]}', "field 'neg': must be text"),
        (
            "flagembedding",
            "f.jsonl",
            '{"query": "q", "pos": ["a"], "pos_scores": [1, 2]}',
            "field 'pos_scores': has 2 numbers for 1 texts",
        ),
        ("tevatron", "t.jsonl", '{"query_id": "1"}', r"t.jsonl:1: field 'query': must be text"),
        ("tevatron", "t.jsonl", '{"query": "q", "positive_passages": ["a"]}', "'positive_passages': must be an object"),
        ("tevatron", "t.jsonl", '{"query_text": "q", "positive_document_ids": ["7"]}', "ids without texts"),
        ("rank-llm", "r.jsonl", '{"query": "q"}', r"r.jsonl:1: field 'query': must be an object"),
        ("rank-llm", "r.txt", "x", r"ends in \.json or \.jsonl"),
        (
            "rank-llm",
            "r.jsonl",
            '{"query": {"text": "q", "qid": 1}, "candidates": [{"docid": 1, "score": "x", "doc": {"text": "a"}}]}',
            "field 'score': must be a number",
        ),
        ("llama-index", "l.json", '{"queries": {"q": 1}}', r"l.json:1: field 'queries': must be text"),
        ("llama-index", "l.json", '{"relevant_docs": {"q": "d"}}', "must be a list of ids"),
        ("llama-index", "l.json", '{"mode": "image"}', "only mode 'text'"),
        ("inpars-triples", "t.tsv", "a\tb\n", r"t.tsv:1: 2 tab-separated columns"),
        ("msmarco-ids", "t.tsv", "a b\tb\tc\n", "an id must be one word"),
    ],
)
def test_what_is_refused_is_named_by_path_line_and_field(tmp_path, name, file, content, problem):
    with pytest.raises(DataFormatError, match=problem):
        read(name, tmp_path / file, content)


def test_not_a_parquet_file(tmp_path):
    pytest.importorskip("pyarrow")
    with pytest.raises(DataFormatError, match="not parquet"):
        read("sentence-transformers", tmp_path / "t.parquet", "x")


@pytest.mark.parametrize(
    ("column", "problem"),
    [({"label": 0.5}, "a label is a whole number"), ({"query_id": 7}, "field 'query_id': must be te")],
)
def test_columns_that_cannot_be_read(tmp_path, column, problem):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist([{"q": "a", "d": "b", **column}]), tmp_path / "t.parquet")
    with pytest.raises(DataFormatError, match=problem):
        read("sentence-transformers", tmp_path / "t.parquet")


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("inpars", "--input"), ("rank-llm", "--dataset"), ("tevatron", "--dataset"), ("beir", "--dataset")],
)
def test_what_a_format_needs_is_said(tmp_path, name, wanted):
    with pytest.raises(ConfigError, match=wanted):
        write(name, tmp_path / "x.jsonl", Source())


@pytest.mark.skipif(not GPL.is_dir(), reason="the GPL folder is not here; set INPARS_TEST_DATA")
def test_a_real_gpl_folder_comes_back(tmp_path):
    folder = into_folder(tmp_path / "f", read("gpl", GPL))
    assert len(Corpus(folder / "corpus.jsonl")) == 10
    assert len(list(read_triple_ids(folder / "triples.ids.tsv"))) == 30 * 9
    (tmp_path / "g").mkdir()
    write("gpl", tmp_path / "g", source_of(folder))
    for file in ("corpus.jsonl", "qgen-queries.jsonl", "hard-negatives.jsonl"):
        theirs, again = records(GPL / file), records(tmp_path / "g" / file)
        assert [{**record, "metadata": {}} for record in again] == [{**record, "metadata": {}} for record in theirs]
    assert read("gpl", tmp_path / "g") == read("gpl", GPL)
    assert next(item for item in read("gpl", GPL) if isinstance(item, Margin)).value == 18.465141


def test_a_run_is_scored_pairs(ours, tmp_path):
    pytest.importorskip("pyarrow")
    (tmp_path / "run.trec").write_text("q1 Q0 d3 1 2.5 bm25\nq1 Q0 d2 2 1.25 bm25\n")
    source = Source(run=tmp_path / "run.trec", dataset=load_dataset(str(ours)), split="train")
    write("sentence-transformers", tmp_path / "t.parquet", source, "scored-pair")
    folder = into_folder(tmp_path / "again", read("sentence-transformers", tmp_path / "t.parquet"))
    scores = read_run(folder / "run.trec")[query_of("why rise").query_id]
    assert scores == {document_of("sea").doc_id: 2.5, document_of("milk sours").doc_id: 1.25}


def test_a_dataset_for_the_hub_is_loaded_by_its_library(ours, tmp_path):
    datasets = pytest.importorskip("datasets")
    record = {"query_id": "q1", "doc_id": "d1", "query": "why rise", "text": "Yeast", "log_probs": [-0.5, -1.0]}
    (tmp_path / "queries.jsonl").write_text(json.dumps({**record, "prompt": "inpars", "model": "words"}) + "\n")
    written = write("huggingface", tmp_path / "hub", source_of(ours, synthetic=tmp_path / "queries.jsonl"))
    assert written.counts == {"queries.jsonl": 1, "triples.jsonl": 3}
    queries = datasets.load_dataset(str(tmp_path / "hub"), "queries", split="train", cache_dir=str(tmp_path / "cached"))
    triples = datasets.load_dataset(str(tmp_path / "hub"), "triples", split="train", cache_dir=str(tmp_path / "cached"))
    assert queries[0]["log_probs"] == [-0.5, -1.0]
    assert (queries[0]["title"], queries[0]["text"]) == ("Bread", 'Yeast "eats"\tsugar')
    assert [(row["query_id"], row["positive_id"], row["negative_id"]) for row in triples] == [
        ("q1", "d1", "d2"),
        ("q1", "d1", "d3"),
        ("q2", "d2", "d3"),
    ]
    assert triples[0]["positive"] == 'Bread Yeast "eats"\tsugar'
    card = (tmp_path / "hub" / "README.md").read_text(encoding="utf-8")
    assert "| `triples.jsonl` | 3 |" in card
    assert "- config_name: queries\n  data_files: queries.jsonl" in card


def test_a_dataset_for_the_hub_needs_something_made(ours, tmp_path):
    with pytest.raises(ConfigError, match=r"synthetic queries \(--input"):
        write("huggingface", tmp_path / "hub", Source(dataset=load_dataset(str(ours)), split="train"))
