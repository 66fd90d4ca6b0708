"""The ingest stage: its output is a dataset, and its input is never overwritten."""

from pathlib import Path

import pytest

from inpars.documents.datasets import load_dataset
from inpars.errors import ConfigError
from inpars.stages.ingest import IngestOptions, ingest_dataset

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


def test_settings_that_cannot_work(output):
    with pytest.raises(ConfigError, match="--limit is -1; it must be at least 1; --max-tokens is 0; it must be"):
        ingest(output, max_tokens=0, limit=-1)
