"""The ingest stage: what it writes is a dataset again, what it read is never overwritten."""

import json
from pathlib import Path

import pytest

from inpars.datasets import load_dataset
from inpars.errors import ConfigError, DataFormatError
from inpars.manifest import manifest_path, read_manifest
from inpars.stages.ingesting import IngestOptions, ingest_dataset, ingest_folder

TOY = Path(__file__).parents[1] / "data" / "toy"
BEIR = TOY / "beir"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("INPARS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def output(tmp_path):
    return tmp_path / "out" / "corpus.jsonl"


def ingest(output, name=BEIR, *, parts=(), overwrite=False, sources=(), **options):
    dataset = load_dataset(str(name), **dict(parts))
    return ingest_dataset(dataset, IngestOptions(**options), output=output, sources=sources, overwrite=overwrite)


def below(folder):
    return sorted(part.relative_to(folder).as_posix() for part in folder.rglob("*") if part.is_file())


def test_a_dataset_goes_through_unchanged(output):
    manifest = ingest(output)
    assert below(output.parent) == [
        "corpus.jsonl",
        "corpus.jsonl.manifest.json",
        "qrels/dev.tsv",
        "qrels/test.tsv",
        "queries.jsonl",
    ]
    assert manifest.results == {"files": ["queries.jsonl", "qrels/dev.tsv", "qrels/test.tsv"]}
    there, here = load_dataset(str(output.parent)), load_dataset(str(BEIR))
    assert list(there.corpus) == list(here.corpus)
    for split in ("test", "dev"):
        assert there.topics(split) == here.topics(split)


def test_a_corpus_alone_has_nothing_beside_it(output):
    ingest(output, TOY / "corpus.tsv")
    assert below(output.parent) == ["corpus.jsonl", "corpus.jsonl.manifest.json"]


def test_a_limit_takes_the_judgements_along(output):
    manifest = ingest(output, limit=3)
    made = load_dataset(str(output.parent))
    # of the test judgements only q1 (d01, d02) and q7 (d02, d03; d05 is left out) have a document, of dev none
    assert len(made.corpus) == 3
    assert made.topics().qrels == {"q1": {"d01": 2, "d02": 1}, "q7": {"d02": 1, "d03": 2}}
    assert list(made.topics().queries) == ["q1", "q7"]
    assert list(made.splits) == ["test"]
    assert manifest.dropped == {"not_in_limit": 27}


def test_replaced_parts_are_written(output):
    qrels = output.parent.parent / "mine.tsv"
    qrels.write_text("q2\td05\t1\n", encoding="utf-8")
    ingest(output, parts={"qrels": qrels})
    assert load_dataset(str(output.parent)).topics().qrels == {"q2": {"d05": 1}}


def test_done_is_done_and_a_missing_side_is_made_again(output):
    first = ingest(output)
    assert ingest(output) == first
    queries = output.with_name("queries.jsonl")
    content = queries.read_bytes()
    queries.unlink()
    ingest(output)
    assert queries.read_bytes() == content


def test_files_of_a_former_run_do_not_stay(output):
    ingest(output)
    ingest(output, TOY / "corpus.tsv")
    assert below(output.parent) == ["corpus.jsonl", "corpus.jsonl.manifest.json"]
    ingest(output, limit=3)
    assert "qrels/dev.tsv" not in below(output.parent)


def test_a_changed_split_is_noticed(output, tmp_path):
    qrels = tmp_path / "mine.tsv"
    qrels.write_text("q2\td05\t1\n", encoding="utf-8")
    ingest(output, parts={"qrels": qrels})
    qrels.write_text("q2\td05\t2\n", encoding="utf-8")
    ingest(output, parts={"qrels": qrels})
    assert load_dataset(str(output.parent)).topics().qrels == {"q2": {"d05": 2}}


@pytest.mark.parametrize("name", ["corpus.jsonl", "small.jsonl"])
def test_what_is_read_is_never_overwritten(tmp_path, name):
    ingest(tmp_path / "set" / "corpus.jsonl")
    before = {path: (tmp_path / "set" / path).read_bytes() for path in below(tmp_path / "set")}
    with pytest.raises(ConfigError, match="is an input and would be overwritten; choose another --output"):
        ingest(tmp_path / "set" / name, tmp_path / "set", limit=2)
    assert {path: (tmp_path / "set" / path).read_bytes() for path in below(tmp_path / "set")} == before


def test_given_queries_are_never_overwritten(tmp_path):
    queries = tmp_path / "queries.jsonl"
    queries.write_text('{"_id": "n", "text": "x"}\n', encoding="utf-8")
    with pytest.raises(ConfigError, match=r"queries\.jsonl is an input and would be overwritten"):
        ingest(tmp_path / "new.jsonl", parts={"queries": queries}, sources=[queries])


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "documents"
    (place / "sub").mkdir(parents=True)
    (place / "a.md").write_text("# Bread\n\nMix flour.\n", encoding="utf-8")
    (place / "sub" / "b.txt").write_text("one two three\n\nfour\n", encoding="utf-8")
    (place / "scan.pdf").write_bytes(b"%PDF")
    return place


def test_a_folder_of_texts(folder, output):
    manifest, found = ingest_folder(folder, IngestOptions(max_words=3), output=output)
    rows = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    assert [(row["_id"], row["title"], row["text"]) for row in rows] == [
        ("a.md#1", "Bread", "# Bread"),
        ("a.md#2", "Bread", "Mix flour."),
        ("sub/b.txt#1", "b", "one two three"),
        ("sub/b.txt#2", "b", "four"),
    ]
    assert (manifest.output.records, manifest.dropped, manifest.results) == (4, {"skipped_files": 1}, {"read_files": 2})
    assert list(found.skipped.values()) == [["scan.pdf"]]


def test_an_output_inside_the_folder_is_not_read_again(folder):
    output = folder / "corpus.jsonl"
    first, _ = ingest_folder(folder, IngestOptions(), output=output)
    again, _ = ingest_folder(folder, IngestOptions(), output=output)
    assert again == first
    redone, _ = ingest_folder(folder, IngestOptions(), output=output, overwrite=True)
    assert redone.output == first.output


def test_new_texts_are_noticed(folder, output):
    ingest_folder(folder, IngestOptions(limit=9), output=output)
    (folder / "c.txt").write_text("new", encoding="utf-8")
    manifest, _ = ingest_folder(folder, IngestOptions(limit=9), output=output)
    assert manifest.output.records == 3
    assert len(ingest_folder(folder, IngestOptions(limit=1), output=output)[0].output.sha256) == 64
    assert output.read_text(encoding="utf-8").count("\n") == 1


def test_a_folder_without_any_text(tmp_path, output):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "a.txt").write_text(" \n", encoding="utf-8")
    with pytest.raises(DataFormatError, match="there is no text in any file of this folder"):
        ingest_folder(tmp_path / "empty", IngestOptions(), output=output)
    assert not output.exists()
    assert read_manifest(output) is None
    assert not manifest_path(output).exists()


def test_settings_that_cannot_work(output):
    with pytest.raises(ConfigError, match="--max-words is 0; it must be at least 1; --limit is -1; it must be"):
        ingest(output, max_words=0, limit=-1)
