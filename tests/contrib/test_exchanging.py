"""The stages of import and export: whole outputs, nobody else's files touched, nothing done twice."""

import json
import os
from pathlib import Path

import pytest

from inpars.contrib.interchange.source import Source
from inpars.contrib.interchange.stage import ExportOptions, ImportOptions, export_file, import_file
from inpars.errors import ConfigError, StorageError, UnknownNameError

LINES = "what\tyes\tno\nwhat\tyes\tperhaps\n"


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("INPARS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def triples(tmp_path):
    path = tmp_path / "t.tsv"
    path.write_text(LINES)
    return path


OPTIONS = ImportOptions(format="msmarco-triples")


def test_an_import_is_a_folder_that_every_command_takes(triples, tmp_path):
    from inpars.documents.datasets import load_dataset

    manifest = import_file(triples, OPTIONS, output=tmp_path / "f")
    assert manifest.results["files"] == {
        "queries.jsonl": 1,
        "corpus.jsonl": 3,
        "qrels/train.tsv": 1,
        "triples.negatives.jsonl": 2,
        "triples.ids.tsv": 2,
        "triples.tsv": 2,
    }
    assert (tmp_path / "f" / "triples.tsv").read_text() == LINES
    dataset = load_dataset(str(tmp_path / "f"))
    assert (len(dataset.corpus), list(dataset.splits)) == (3, ["train"])
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_what_is_up_to_date_is_skipped_and_what_changed_is_made_again(triples, tmp_path):
    first = import_file(triples, OPTIONS, output=tmp_path / "f")
    assert import_file(triples, OPTIONS, output=tmp_path / "f") == first
    triples.write_text("what\tyes\tnever\n")
    assert import_file(triples, OPTIONS, output=tmp_path / "f").results["files"]["corpus.jsonl"] == 2
    assert (tmp_path / "f" / "triples.tsv").read_text() == "what\tyes\tnever\n"


@pytest.mark.parametrize("before", ["new", "imported"])
def test_a_folder_with_other_files_is_left_alone(triples, tmp_path, before):
    if before == "imported":
        import_file(triples, OPTIONS, output=tmp_path / "f")
    (tmp_path / "f").mkdir(exist_ok=True)
    (tmp_path / "f" / "thesis.tex").write_text("years of work")
    with pytest.raises(ConfigError, match=r"f holds other files, 'thesis\.tex' for instance"):
        import_file(triples, OPTIONS, output=tmp_path / "f", overwrite=True)
    assert (tmp_path / "f" / "thesis.tex").read_text() == "years of work"
    assert not (tmp_path / ".f.partial").exists()


def test_a_broken_import_leaves_nothing(triples, tmp_path):
    triples.write_text(LINES + "what\n")
    with pytest.raises(Exception, match=r"t\.tsv:3: 1 tab-separated columns"):
        import_file(triples, OPTIONS, output=tmp_path / "f")
    assert not (tmp_path / "f").exists()
    assert not (tmp_path / ".f.partial").exists()


def test_an_export_without_the_scores_it_is_made_of_is_refused(triples, tmp_path):
    pytest.importorskip("pyarrow")
    options = ExportOptions(format="sentence-transformers", layout="margin")
    with pytest.raises(ConfigError, match=r"nothing to write \(2 dropped: margin_unknown 2\); reranker sc"):
        export_file(Source(triples=triples), options, output=tmp_path / "m.parquet")
    assert not (tmp_path / "m.parquet").exists()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_is_never_replaced(triples, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StorageError, match="not a plain file"):
        export_file(Source(triples=triples), ExportOptions(format="tevatron"), output=tmp_path / "pipe")
    assert (tmp_path / "pipe").is_fifo()


def test_synthetic_queries_alone_go_into_a_file(tmp_path):
    (tmp_path / "q.jsonl").write_text('{"doc_id": "1", "doc_text": "t", "question": "q"}\n')
    manifest = import_file(tmp_path / "q.jsonl", ImportOptions(format="inpars"), output=tmp_path / "ours.jsonl")
    assert manifest.results["files"] == {"queries.synthetic.jsonl": 1}
    record = json.loads((tmp_path / "ours.jsonl").read_text())
    assert (record["query_id"], record["query"], record["text"]) == ("1-q0", "q", "t")


def test_a_file_cannot_hold_what_the_input_lacks(triples, tmp_path):
    with pytest.raises(ConfigError, match=r"no queries\.synthetic\.jsonl in this input"):
        import_file(triples, OPTIONS, output=tmp_path / "q.jsonl")


def test_an_export_is_made_again_when_its_negatives_change(triples, tmp_path):
    import_file(triples, OPTIONS, output=tmp_path / "f")
    source = Source(triples=tmp_path / "f" / "triples.tsv")
    options = ExportOptions(format="flagembedding")
    export_file(source, options, output=tmp_path / "o.jsonl")
    assert json.loads((tmp_path / "o.jsonl").read_text()) == {"query": "what", "pos": ["yes"], "neg": ["no", "perhaps"]}
    rows = [json.loads(line) for line in (tmp_path / "f" / "triples.negatives.jsonl").read_text().splitlines()]
    scored = ({**row, "reranker_score": -1.0, "positive_reranker_score": 1.0} for row in rows)
    (tmp_path / "f" / "triples.negatives.jsonl").write_text("".join(json.dumps(row) + "\n" for row in scored))
    export_file(Source(triples=tmp_path / "f" / "triples.tsv"), options, output=tmp_path / "o.jsonl")
    assert json.loads((tmp_path / "o.jsonl").read_text())["neg_scores"] == [-1.0, -1.0]


def test_a_folder_is_exported_beside_nothing_else(triples, tmp_path):
    source, options = Source(triples=triples), ExportOptions(format="msmarco")
    export_file(source, options, output=tmp_path / "m")
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == [
        *("collection.tsv", "qidpidtriples.train.tsv", "qrels.train.tsv", "queries.train.tsv"),
    ]
    (tmp_path / "n").write_text("a file")
    with pytest.raises(ConfigError, match=r"n is a file, .*writes a folder"):
        export_file(source, options, output=tmp_path / "n")


@pytest.mark.parametrize(
    ("source", "error", "problem"),
    [
        (Source(), ConfigError, "nothing to export: give --triples, --input, --run or --dataset"),
        (Source(triples=Path("absent.tsv")), Exception, "no such file of triples"),
    ],
)
def test_an_export_of_nothing_says_so(tmp_path, source, error, problem):
    with pytest.raises(error, match=problem):
        export_file(source, ExportOptions(format="tevatron"), output=tmp_path / "t.jsonl")


def test_an_empty_input_is_refused(tmp_path):
    (tmp_path / "t.tsv").write_text("")
    with pytest.raises(ConfigError, match="nothing of format 'msmarco-triples' in it"):
        import_file(tmp_path / "t.tsv", OPTIONS, output=tmp_path / "f")


def test_an_unknown_format_is_named(triples, tmp_path):
    with pytest.raises(UnknownNameError, match="unknown format 'csv'"):
        import_file(triples, ImportOptions(format="csv"), output=tmp_path / "f")
