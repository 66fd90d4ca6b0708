"""A run's funnel: rows from manifests made by hand."""

import json
from pathlib import Path

import pytest

from inpars.io.manifest import FileStamp, Manifest, read_manifest, write_manifest
from inpars.pipeline.funnel import funnel_of, steps_taken, with_split

OLD_RUN = Path(__file__).parents[1] / "data" / "old_run" / "run"


def manifest(stage, records=None, dropped=None, results=None, arguments=None, inputs=None, sha256="ab"):
    output = FileStamp(stage, sha256, 1, records)
    return Manifest(stage, arguments or {}, inputs or {}, output, dropped=dropped or {}, results=results or {})


def funnel_line(rows):
    return ", ".join(f"{row.count:,} {row.what}" for row in rows)


def whole_run():
    curve = {"steps": [1, 2, 3, 4, 5, 6], "losses": [1.0] * 6, "validation_steps": [], "validations": []}
    return {
        "generate": manifest("generate", 500, {"not_sampled": 15_500}, {"documents": 500}),
        "filter": manifest("filter", 393, {"duplicate": 7, "no_stop": 90, "below_top_k": 10}),
        "triples": manifest(
            "triples",
            192,
            {"positive_not_retrieved": 89, "no_negatives": 112},
            {"queries": 393, "positives": 393},
            {"positive_within": 20, "negatives": "bm25"},
            {"queries": FileStamp("queries.filtered.jsonl", "ab", 1)},
        ),
        "retriever": manifest(
            "train retriever", results={"examples": 192, "curve": curve}, arguments={"batch_size": 32}
        ),
    }


def test_every_count_has_a_row_in_the_order_of_the_stages():
    rows = funnel_of(whole_run(), {"reranker": "it tells them already"})
    assert funnel_line(rows) == (
        "15,500 documents not in the sample, 500 documents written for, 500 queries written, 90 cut off before their "
        "end, 7 with the words of a better one, 10 below the best that are kept, 393 queries kept, 89 whose own "
        "document BM25 does not find among its first 20, 112 without negatives, 192 triples, 6 steps of the "
        "bi-encoder's training, 0 steps of the reranker's training"
    )
    flags = {row.count: row.changed_by for row in rows}
    assert flags[15_500] == "--max-documents"
    assert flags[89] == "--positive-within"
    assert flags[112] == "--ranks"
    assert flags[0] == "not trained: it tells them already"
    assert [row.count for row in rows if row.left_out] == [15_500, 90, 7, 10, 89, 112]


def test_queries_with_negatives_are_told_where_they_are_not_as_many_as_the_triples():
    found = {"triples": manifest("triples", 384, {"no_negatives": 1}, {"positives": 193})}
    assert funnel_line(funnel_of(found)) == "1 without negatives, 192 queries with negatives, 384 triples"


def test_reasons_nobody_has_words_for_are_shown_by_name():
    found = {"filter": manifest("filter", 1, {"bm25_rank": 3, "copied": 2, "too_short": 0})}
    assert funnel_line(funnel_of(found)) == "2 copied from their document, 3 bm25 rank, 1 query kept"


def test_manifests_that_say_nothing_have_no_rows():
    assert funnel_of({}) == []
    assert funnel_of({name: manifest(name) for name in ("generate", "filter", "split", "triples", "retriever")}) == []


def test_a_split_is_shown_where_the_triples_come_from_it(tmp_path):
    train = tmp_path / "queries.train.jsonl"
    train.write_text("{}\n")
    results = {"dev": 39, "train": 353}
    split = manifest("split", 353, {"words_of_a_dev_query": 1}, results, sha256="ef")
    write_manifest(split, train)
    manifests = whole_run()
    assert "split" not in with_split(manifests, tmp_path), "left by an earlier run"
    of_it = {"queries": FileStamp("queries.train.jsonl", "ef", 1)}
    manifests["triples"] = manifest("triples", 192, inputs=of_it)
    shown = funnel_line(funnel_of(with_split(manifests, tmp_path)))
    assert "393 queries kept, 39 held out to measure by, 1 with the words of one of these, 353 queries to" in shown
    assert "split" not in with_split({}, tmp_path)


def test_queries_held_out_to_choose_by_are_shown_behind_those_to_measure_by(tmp_path):
    measured = manifest("split", 353, {}, {"dev": 39}, sha256="ef")
    chosen = manifest("split", 265, {}, {"dev": 88}, inputs={"queries": FileStamp("a", "ef", 1)}, sha256="cd")
    for name, split in (("train", measured), ("to_train_on", chosen)):
        (tmp_path / f"queries.{name}.jsonl").write_text("{}\n")
        write_manifest(split, tmp_path / f"queries.{name}.jsonl")
    manifests = whole_run() | {"triples": manifest("triples", 192, inputs={"queries": FileStamp("a", "cd", 1)})}
    counts = [row.count for row in funnel_of(with_split(manifests, tmp_path)) if "queries" in row.what or row.left_out]
    assert counts[-5:] == [393, 39, 353, 88, 265]


@pytest.mark.parametrize(
    ("results", "arguments", "steps"),
    [
        ({}, {}, None),
        ({"curve": {"steps": [2, 4], "validation_steps": [0, 5]}}, {}, 5),
        ({"curve": {"steps": [2, 4]}}, {}, 4),
        ({"curve": {"steps": [2, 84]}, "examples": 680}, {"batch_size": 8}, 85),  # logged at every second step
        ({"curve": {"steps": [1, 2, 3]}, "examples": 680}, {"batch_size": 8, "max_steps": 3}, 3),
        ({"curve": {"steps": [1]}, "examples": 9}, {"batch_size": 2, "gradient_accumulation": 2, "epochs": 2.0}, 6),
    ],
)
def test_steps_of_a_finished_training(results, arguments, steps):
    assert steps_taken(manifest("train", results=results, arguments=arguments)) == steps


def test_manifests_of_an_old_run_are_read():
    names = {"generate": "queries.synthetic.jsonl", "filter": "queries.filtered.jsonl", "triples": "triples.tsv"}
    names |= {name: f"models/{name}" for name in ("retriever", "reranker")}
    manifests = {name: read_manifest(OLD_RUN / file) for name, file in names.items()}
    rows = {row.what: row.count for row in funnel_of(manifests)}
    assert rows["queries written"] == 24
    assert rows["cut off before their end"] == 8
    assert rows["queries kept"] == 11
    assert rows["whose own document BM25 does not find among its first 30"] == 10
    assert rows["triple"] == 1
    assert rows["step of the reranker's training"] == 1
    assert json.dumps(rows)
