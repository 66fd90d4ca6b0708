"""What has no place among our files, or stands apart in others: grouped, counted or refused, never lost."""

import json
from pathlib import Path

import pytest

from inpars.contrib.interchange.groups import are_together, regrouped
from inpars.contrib.interchange.items import document_of, made_id, query_of
from inpars.contrib.interchange.source import Source
from inpars.contrib.interchange.stage import ExportOptions, ImportOptions, exchanged_line, export_file, import_file
from inpars.errors import DataFormatError
from inpars.io.formats import read_qrels, read_run
from inpars.io.storage import read_jsonl

QRELS_HEADER = "query-id\tcorpus-id\tscore\n"
CORPUS = '{"_id": "d", "text": "yes", "metadata": {"page": 7}}\n{"_id": "e", "text": "no"}\n'
HUGE = "9" * 4000  # JSON holds it, no float does


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("INPARS_CACHE", str(tmp_path / "cache"))


def imported(path: Path, name, content):
    """The manifest of an import of a file, or of a folder of files, into `o` beside it."""
    if isinstance(content, dict):
        for file, text in content.items():
            (path / file).parent.mkdir(parents=True, exist_ok=True)
            (path / file).write_text(text)
    else:
        path.write_text(content)
    return import_file(path, ImportOptions(format=name), output=path.with_name("o"))


def parquet_of(path, columns, *rows):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist([dict(zip(columns, row, strict=True)) for row in rows]), path)
    return import_file(path, ImportOptions(format="sentence-transformers"), output=path.with_name("o"))


def triples(folder):
    path = folder / "o" / "triples.tsv"
    return [tuple(line.split("\t")) for line in path.read_text().splitlines()] if path.exists() else []


LABELS = ("query", "passage", "label")


def test_labelled_pairs_are_grouped_whatever_their_order(tmp_path):
    """sentence-transformers#784: rows of one query are shuffled as a rule."""
    parquet_of(tmp_path / "p.parquet", LABELS, ("a", "x", 1), ("b", "y", 1), ("a", "z", 0), ("b", "w", 0))
    assert triples(tmp_path) == [("a", "x", "z"), ("b", "y", "w")]


def test_shuffled_pairs_give_what_sorted_ones_give(tmp_path):
    rows = [(f"q{n % 3}", f"d{n}", n % 2) for n in range(12)]
    for name, order in (("sorted", sorted(rows)), ("shuffled", rows)):
        (tmp_path / name).mkdir()
        parquet_of(tmp_path / name / "p.parquet", LABELS, *order)
    both = [sorted(triples(tmp_path / name)) for name in ("sorted", "shuffled")]
    assert both[0] == both[1]
    assert len(both[0]) == 3 * 2 * 2  # of each query two positives with two negatives


def test_labels_are_kept_as_grades_and_what_is_left_out_is_counted(tmp_path):
    manifest = parquet_of(
        tmp_path / "p.parquet",
        LABELS,
        *(("a", "x", 3), ("b", "y", 0), ("a", "z", 0), ("a", "x", 3), ("a", "z", 1)),
    )
    query, document = query_of("a").query_id, document_of("x").doc_id
    assert read_qrels(tmp_path / "o" / "qrels" / "train.tsv") == {query: {document: 3}}
    assert triples(tmp_path) == [("a", "x", "z")]
    assert manifest.dropped == {"no_positive": 1, "repeated_label": 1, "other_label_after_the_first": 1}


@pytest.mark.parametrize("label", [None, 0.5, "1", float("nan"), float("inf")])
def test_what_is_no_label_is_refused_with_its_row(tmp_path, label):
    with pytest.raises(DataFormatError, match=r"p\.parquet:1: field 'label'"):
        parquet_of(tmp_path / "p.parquet", LABELS, ("a", "x", label))


def test_booleans_are_labels(tmp_path):
    parquet_of(tmp_path / "p.parquet", LABELS, ("a", "x", True), ("a", "z", False))
    assert triples(tmp_path) == [("a", "x", "z")]


def test_scored_pairs_are_grouped_and_other_columns_named(tmp_path):
    columns = ("query", "passage", "score")
    parquet_of(tmp_path / "p.parquet", columns, ("a", "x", 0.5), ("b", "y", 0.25), ("a", "z", 0.75))
    scores = {"a": {"x": 0.5, "z": 0.75}, "b": {"y": 0.25}}
    ids = {query_of(q).query_id: {document_of(d).doc_id: s for d, s in of.items()} for q, of in scores.items()}
    assert read_run(tmp_path / "o" / "run.trec") == ids


def test_a_second_column_of_labels_is_named(tmp_path):
    columns = ("query", "passage", "label", "score")
    manifest = parquet_of(tmp_path / "p.parquet", columns, ("a", "x", 1, 0.5))
    assert manifest.results["not_kept"] == {"column 'score'": 1}


def test_one_number_for_several_negatives_is_refused(tmp_path):
    with pytest.raises(DataFormatError, match=r"p\.parquet:1: field 'label'.* 2 negatives"):
        parquet_of(tmp_path / "p.parquet", ("a", "p", "n", "m", "label"), ("q", "x", "y", "z", 1.0))


def test_a_query_without_a_positive_is_counted(tmp_path):
    """texttron/tevatron#116."""
    lines = [
        {"query_id": "1", "query": "q", "positive_passages": [{"docid": "a", "text": "x"}], "negative_passages": []},
        {"query_id": "2", "query": "r", "positive_passages": [], "negative_passages": [{"docid": "b", "text": "y"}]},
    ]
    manifest = imported(tmp_path / "t.jsonl", "tevatron", "\n".join(map(json.dumps, lines)))
    assert manifest.dropped == {"no_positive": 1}
    assert "no_positive 1" in exchanged_line(manifest)


def test_made_ids_depend_on_the_title_too(tmp_path):
    passages = [{"title": "Alpha", "text": "same"}, {"title": "Beta", "text": "same"}, {"passage": "c"}]
    line = {"query": "q", "positive_passages": passages[:1], "negative_passages": passages[1:]}
    assert imported(tmp_path / "t.jsonl", "tevatron", json.dumps(line)).dropped == {}
    assert triples(tmp_path) == [("q", "Alpha same", "Beta same"), ("q", "Alpha same", "c")]
    ids = [record["_id"] for _, record in read_jsonl(tmp_path / "o" / "corpus.jsonl")]
    assert ids == [made_id("d", text) for text in ("Alpha same", "Beta same", "c")]


def test_a_positive_listed_twice_or_as_a_negative_makes_no_triple_of_its_own(tmp_path):
    line = {"query": "q", "pos": ["a", "b", "a"], "neg": ["b", "c", "c"], "prompt": "for retrieval"}
    manifest = imported(tmp_path / "f.jsonl", "flagembedding", json.dumps(line))
    assert triples(tmp_path) == [("q", "a", "c"), ("q", "b", "c")]
    # c stands twice against each of the two positives
    assert manifest.dropped == {"repeated_positive": 1, "positive_as_negative": 1, "repeated_negative": 2}
    assert manifest.results["not_kept"] == {"field 'prompt'": 1}


def test_a_pair_that_stands_twice_is_counted(tmp_path):
    manifest = parquet_of(tmp_path / "p.parquet", ("anchor", "positive"), ("a", "x"), ("a", "x"), ("b", "y"))
    assert manifest.dropped == {"repeated_pair": 1}


def test_a_triple_that_stands_twice_is_counted(tmp_path):
    manifest = imported(tmp_path / "t.tsv", "msmarco-triples", "a\tb\tc\na\tb\tc\n")
    assert (triples(tmp_path), manifest.dropped) == ([("a", "b", "c")], {"repeated_negative": 1})


def test_fields_of_rank_llm_that_are_not_kept_are_named(tmp_path):
    candidate = {"docid": "d", "score": 1.0, "doc": {"text": "t", "url": "u"}, "rank": 1}
    request = {"query": {"text": "q", "qid": "1"}, "candidates": [candidate], "invocations_history": [{"x": 1}]}
    manifest = imported(tmp_path / "r.json", "rank-llm", json.dumps([request]))
    names = ("invocations_history", "rank", "url")
    assert manifest.results["not_kept"] == {f"field {name!r}": 1 for name in names}


def test_equal_scores_of_a_ranking_are_kept(tmp_path):
    """Only what ties is lowered, by the least a run can tell apart: 1e-5."""
    scores = [2.0, 2.0, 1.0]
    candidates = [{"docid": f"d{n}", "score": score, "doc": {"text": str(n)}} for n, score in enumerate(scores)]
    content = json.dumps([{"query": {"text": "q", "qid": "1"}, "candidates": candidates}])
    assert imported(tmp_path / "r.json", "rank-llm", content).results["not_kept"] == {}
    assert read_run(tmp_path / "o" / "run.trec") == {"1": {"d0": 2.0, "d1": 1.99999, "d2": 1.0}}


def test_scores_that_contradict_their_order_are_counted(tmp_path):
    candidates = [{"docid": f"d{n}", "score": n, "doc": {"text": str(n)}} for n in range(2)]
    manifest = imported(
        tmp_path / "r.json",
        "rank-llm",
        json.dumps([{"query": {"text": "q", "qid": "1"}, "candidates": candidates}]),
    )
    assert list(manifest.results["not_kept"].values()) == [1]
    assert read_run(tmp_path / "o" / "run.trec") == {"1": {"d0": 1.0, "d1": 0.5}}


@pytest.mark.parametrize("score", [HUGE, "NaN", "1e999", "true", '"1"', "null"])
def test_a_score_that_is_none_is_refused_with_its_line(tmp_path, score):
    content = f'{{"query": {{"text": "q", "qid": 1}}, "candidates": [{{"docid": 1, "score": {score}, "doc": "t"}}]}}'
    with pytest.raises(DataFormatError, match=r"r\.jsonl:1: field 'score'"):
        imported(tmp_path / "r.jsonl", "rank-llm", content)


def test_a_second_request_of_a_query_is_refused(tmp_path):
    request = '{"query": {"text": "q", "qid": 1}, "candidates": []}\n'
    with pytest.raises(DataFormatError, match=r"r\.jsonl:2: .*'1'"):
        imported(tmp_path / "r.jsonl", "rank-llm", request * 2)


@pytest.mark.parametrize(("name", "file"), [("rank-llm", "r.json"), ("llama-index", "l.json"), ("tevatron", "t.jsonl")])
@pytest.mark.parametrize("content", ["[" * 100_000, '{"query": ' + "9" * 5000 + "}"])
def test_deep_nesting_and_huge_integers_are_refused_by_their_line(tmp_path, name, file, content):
    """stanford-crfm/helm#1381."""
    with pytest.raises(DataFormatError, match=rf"{file.replace('.', '[.]')}:1: "):
        imported(tmp_path / file, name, f"[{content}]" if name == "rank-llm" else content)


def test_half_surrogates_become_the_replacement_character(tmp_path):
    imported(tmp_path / "l.json", "llama-index", '{"queries": {"q": "a\\ud800b \\ud83d\\ude00"}, "corpus": {}}')
    assert [record["text"] for _, record in read_jsonl(tmp_path / "o" / "queries.jsonl")] == ["a�b \U0001f600"]


def test_blocks_of_a_run_are_joined(tmp_path):
    lines = "q1 Q0 d1 1 2 x\nq2 Q0 d1 1 2 x\nq1 Q0 d2 1 3 x\n"
    imported(tmp_path / "a.run", "trec", lines)
    assert read_run(tmp_path / "o" / "run.trec") == {"q1": {"d2": 3.0, "d1": 2.0}, "q2": {"d1": 2.0}}
    assert (tmp_path / "o" / "run.trec").read_text().startswith("q1 Q0 d2 1 3.000000 trec\nq1 Q0 d1 2 ")


def test_two_runs_of_one_query_are_not_mixed(tmp_path):
    files = {"a.run": "q1 Q0 d1 1 2 x\n", "b.run": "q1 Q0 d2 1 2 x\n"}
    with pytest.raises(DataFormatError, match=r"b\.run: .*'q1'.* one run at a time"):
        imported(tmp_path / "runs", "trec", files)


def test_repeated_judgements_are_counted(tmp_path):
    manifest = imported(tmp_path / "l.json", "llama-index", '{"relevant_docs": {"q": ["d", "d"]}}')
    assert manifest.dropped == {"repeated_judgement": 1}


def test_judgements_that_disagree_are_refused(tmp_path):
    files = {"corpus.jsonl": CORPUS, "qrels/a.tsv": f"{QRELS_HEADER}q\td\t2\nq\td\t1\n"}
    with pytest.raises(DataFormatError, match=r"'d'.*'q'|'q'.*'d'"):
        imported(tmp_path / "b", "beir", files)


def test_a_positive_that_is_judged_irrelevant_is_counted(tmp_path):
    files = {**GPL, "qgen-qrels/train.tsv": f"{QRELS_HEADER}q\td\t0\nq\te\t2\n"}
    lines = '{"qid": "q", "pos": ["d", "e"], "neg": {}}\n'
    manifest = imported(tmp_path / "g", "gpl", {**files, "hard-negatives.jsonl": lines})
    assert manifest.dropped == {"positive_judged_otherwise": 1}
    assert read_qrels(tmp_path / "o" / "qrels" / "train.tsv") == {"q": {"d": 0, "e": 2}}


def test_metadata_of_documents_is_kept_and_that_of_queries_named(tmp_path):
    files = {
        "corpus.jsonl": CORPUS,
        "queries.jsonl": '{"_id": "q", "text": "w", "metadata": {"narrative": "n"}}\n',
        "qrels/test.tsv": f"{QRELS_HEADER}q\td\t2\n",
        "qrels/notes.txt": "x",
    }
    manifest = imported(tmp_path / "b", "beir", files)
    assert [record.get("metadata") for _, record in read_jsonl(tmp_path / "o" / "corpus.jsonl")] == [{"page": 7}, None]
    assert manifest.results["not_kept"] == {"field 'metadata'": 1, "file 'qrels/notes.txt'": 1}


GPL = {
    "corpus.jsonl": CORPUS,
    "qgen-queries.jsonl": '{"_id": "q", "text": "w"}\n',
    "qgen-qrels/train.tsv": f"{QRELS_HEADER}q\td\t1\n",
}


def test_a_gpl_query_without_positives_is_counted(tmp_path):
    lines = '{"qid": "q", "pos": [], "neg": {"bm25": ["e"]}}\n'
    assert imported(tmp_path / "g", "gpl", {**GPL, "hard-negatives.jsonl": lines}).dropped == {"no_positive": 1}


def test_an_id_without_text_is_named_where_it_stands(tmp_path):
    lines = '{"qid": "q", "pos": ["d"], "neg": {}}\n{"qid": "q", "pos": ["gone"], "neg": {}}\n'
    with pytest.raises(DataFormatError, match=r"hard-negatives\.jsonl:2: .*'gone'"):
        imported(tmp_path / "g", "gpl", {**GPL, "hard-negatives.jsonl": lines})


def exported(tmp_path, name, layout="triplet", **source):
    output = tmp_path / "e.parquet" if name == "sentence-transformers" else tmp_path / "e.jsonl"
    return output, export_file(Source(**source), ExportOptions(format=name, layout=layout), output=output)


def test_triples_of_a_query_that_stand_apart_are_one_line(tmp_path):
    (tmp_path / "t.tsv").write_text("a\tx\tn\nb\ty\tm\na\tx\tk\n")
    output, _ = exported(tmp_path, "flagembedding", triples=tmp_path / "t.tsv")
    first, second = (record for _, record in read_jsonl(output))
    assert first == {"query": "a", "pos": ["x"], "neg": ["n", "k"]}
    assert second == {"query": "b", "pos": ["y"], "neg": ["m"]}


def test_a_run_whose_lines_stand_apart_is_exported(tmp_path):
    from inpars.documents.datasets import load_dataset

    imported(tmp_path / "b", "beir", {**GPL, "queries.jsonl": '{"_id": "q", "text": "w"}\n{"_id": "r", "text": "v"}\n'})
    (tmp_path / "r.run").write_text("q Q0 d 1 2 x\nr Q0 d 1 1e-9 x\nq Q0 e 2 3 x\n")
    (tmp_path / "o" / "qrels").mkdir(exist_ok=True)
    (tmp_path / "o" / "qrels" / "test.tsv").write_text(f"{QRELS_HEADER}q\td\t1\nr\td\t1\n")
    dataset = load_dataset(str(tmp_path / "o"))
    output, _ = exported(tmp_path, "rank-llm", run=tmp_path / "r.run", dataset=dataset)
    found = {
        record["query"]["qid"]: [(candidate["docid"], candidate["score"]) for candidate in record["candidates"]]
        for _, record in read_jsonl(output)
    }
    assert found == {"q": [("e", 3.0), ("d", 2.0)], "r": [("d", 1e-9)]}  # no digit of a score is cut


def test_grades_that_a_format_lacks_are_counted(tmp_path):
    from inpars.documents.datasets import load_dataset

    (tmp_path / "b" / "qrels").mkdir(parents=True)
    (tmp_path / "b" / "corpus.jsonl").write_text(CORPUS)
    (tmp_path / "b" / "queries.jsonl").write_text('{"_id": "q", "text": "w"}\n{"_id": "r", "text": "v"}\n')
    (tmp_path / "b" / "qrels" / "test.tsv").write_text(f"{QRELS_HEADER}q\td\t3\nq\te\t0\nr\te\t0\n")
    _, manifest = exported(tmp_path, "tevatron", dataset=load_dataset(str(tmp_path / "b")))
    assert sorted(manifest.results["not_kept"].values()) == [1, 1, 2]  # a 3; a query without positives; two of grade 0
    assert "not kept" in exchanged_line(manifest)


def test_negatives_that_do_not_fit_into_the_columns_are_counted(tmp_path):
    """Two queries of two negatives decide for two columns; of the third query's three one goes, the fourth's one is
    too few."""
    pytest.importorskip("pyarrow")
    sizes = {"a": 2, "b": 2, "c": 3, "d": 1}
    rows = [f"{query}\tp\tn{number}\n" for query, count in sizes.items() for number in range(count)]
    (tmp_path / "t.tsv").write_text("".join(rows))
    _, manifest = exported(tmp_path, "sentence-transformers", "n-tuple", triples=tmp_path / "t.tsv")
    assert manifest.dropped == {"fewer_negatives": 1}
    assert list(manifest.results["not_kept"].values()) == [1]


def test_rows_are_regrouped_in_the_order_of_their_first():
    rows = ["b1", "a1", "b2", "c1", "a2"]
    assert list(regrouped(rows, lambda row: row[0])) == ["b1", "b2", "a1", "a2", "c1"]
    assert list(regrouped([], str)) == []
    assert (are_together("aabb"), are_together("aba"), are_together("")) == (True, False, True)
