"""The audit stage: what it scores, writes, carries over and resumes, with a fake reranker that reads numbers."""

import json
from pathlib import Path

import pytest

from inpars.documents.datasets import load_dataset
from inpars.errors import ConfigError, DataFormatError, StaleInputError
from inpars.io.manifest import read_manifest
from inpars.io.storage import read_jsonl
from inpars.io.triples import read_triple_ids
from inpars.stages import audit as audit_stage
from inpars.stages.audit import AuditOptions, audit_triples, report_path
from inpars.stages.triple_files import ids_path, negatives_path


class Numbers:
    """The score of a pair is the number at the end of the document; fails at its nth batch."""

    name = "numbers"

    def __init__(self, breaks_at=None):
        self.batches, self.breaks_at = [], breaks_at

    def score(self, pairs):
        if len(self.batches) == self.breaks_at:
            raise KeyboardInterrupt
        self.batches.append(list(pairs))
        return [float(document.split()[-1]) for _, document in pairs]

    @property
    def asked(self):
        return [pair for batch in self.batches for pair in batch]


ROWS = [  # query, positive, negative; the score of a document is its number
    ("q1", 5, 7),
    ("q1", 5, 1),
    ("q1", 5, 5),
    ("q2", 3, 1),
    ("q3", 2, 9),
]


@pytest.fixture
def source(tmp_path):
    """Triples with ids and origins."""
    path = tmp_path / "triples.tsv"
    write(path, ROWS)
    return path


def write(path, rows, sides=True):
    path.write_text("".join(f"ask {q}\tdoc {p}\tdoc {n}\n" for q, p, n in rows), encoding="utf-8")
    if sides:
        ids_path(path).write_text("".join(f"{q}\td{p}\td{n}x\n" for q, p, n in rows), encoding="utf-8")
        with negatives_path(path).open("w", encoding="utf-8") as stream:
            for q, p, n in rows:
                row = {"query_id": q, "positive_doc_id": f"d{p}", "negative_doc_id": f"d{n}x"}
                stream.write(
                    json.dumps(row | {"source": "bm25", "rank": n, "score": n / 2, "positive_score": None}) + "\n"
                )


def audit(source, output, scorer=None, corpus=None, **options):
    dataset = load_dataset(None, corpus=corpus) if corpus else None
    return audit_triples(
        source,
        AuditOptions(**options),
        output=output,
        make_scorer=lambda: scorer or Numbers(),
        corpus=dataset.corpus if dataset else None,
    )


def report(output):
    return json.loads(report_path(output).read_text(encoding="utf-8"))


def test_each_pair_is_scored_once(source, tmp_path):
    scorer = Numbers()
    manifest = audit(source, tmp_path / "out.tsv", scorer)
    assert scorer.asked == [
        *(("ask q1", "doc 5"), ("ask q1", "doc 7"), ("ask q1", "doc 1")),
        *(("ask q2", "doc 3"), ("ask q2", "doc 1"), ("ask q3", "doc 2"), ("ask q3", "doc 9")),
    ]
    assert manifest.results["pairs"] == 7


def test_keep_carries_everything_over_and_notes_the_scores(source, tmp_path):
    output = tmp_path / "made" / "out.tsv"
    audit(source, output)
    assert output.read_bytes() == source.read_bytes()
    assert ids_path(output).read_bytes() == ids_path(source).read_bytes()
    before, after = ([row for _, row in read_jsonl(negatives_path(path))] for path in (source, output))
    assert after == [
        row | {"reranker_score": float(n), "positive_reranker_score": float(p)}
        for row, (_, p, n) in zip(before, ROWS, strict=True)
    ]
    result = report(output)
    examples = result.pop("examples")
    counts = {"triples": 5, "above_positive": 2, "above_margin": 2}
    assert result == {
        "queries": 3,
        **counts,
        "written": 5,
        "dropped": 0,
        "relabelled": 0,
        "by_source": {"bm25": counts},
    }
    # the worst first: 9 against 2, then 7 against 5
    assert [(one["query"], one["reranker_score"], one["positive_reranker_score"]) for one in examples] == [
        *(("ask q3", 9.0, 2.0), ("ask q1", 7.0, 5.0))
    ]
    assert (examples[0]["negative"], examples[0]["negative_doc_id"]) == ("doc 9", "d9x")


def test_drop_and_relabel(source, tmp_path):
    dropped, relabelled = tmp_path / "dropped.tsv", tmp_path / "relabelled.tsv"
    manifest = audit(source, dropped, action="drop")
    ids = [(t.query_id, t.positive_doc_id, t.negative_doc_id) for t in read_triple_ids(ids_path(dropped))]
    assert ids == [("q1", "d5", "d1x"), ("q1", "d5", "d5x"), ("q2", "d3", "d1x")]
    assert (manifest.output.records, manifest.dropped) == (3, {"false_negative": 2})
    manifest = audit(source, relabelled, action="relabel")
    ids = [(t.query_id, t.positive_doc_id, t.negative_doc_id) for t in read_triple_ids(ids_path(relabelled))]
    # of q1 doc 7 is false and becomes a positive against doc 1 and doc 5; of q3 nothing is left
    assert ids == [
        *(("q1", "d5", "d1x"), ("q1", "d5", "d5x"), ("q1", "d7x", "d1x"), ("q1", "d7x", "d5x"), ("q2", "d3", "d1x"))
    ]
    texts = relabelled.read_text(encoding="utf-8").splitlines()
    assert texts[2] == "ask q1\tdoc 7\tdoc 1"
    assert (manifest.results["dropped"], manifest.results["relabelled"]) == (2, 2)
    origins = [row for _, row in read_jsonl(negatives_path(relabelled))]
    assert [row.get("relabelled", False) for row in origins] == [False, False, True, True, False]
    audit(relabelled, tmp_path / "again.tsv", action="drop")  # what was written can be read again
    assert (tmp_path / "again.tsv").read_bytes() == relabelled.read_bytes()


def test_a_margin(source, tmp_path):
    result = audit(source, tmp_path / "out.tsv", margin=2.5).results
    # above 5 - 2.5: 7 and 5; above 3 - 2.5: 1; above 2 - 2.5: 9; not 1 against 5
    assert (result["above_positive"], result["above_margin"]) == (2, 4)


def test_no_more_examples_than_asked_for(source, tmp_path):
    audit(source, tmp_path / "out.tsv", examples=1)
    assert [one["query"] for one in report(tmp_path / "out.tsv")["examples"]] == ["ask q3"]


def test_triples_without_ids(tmp_path):
    write(tmp_path / "texts.tsv", ROWS, sides=False)
    output = tmp_path / "out.tsv"
    result = audit(tmp_path / "texts.tsv", output, action="drop").results
    assert (result["written"], result["by_source"]["unknown"]["above_positive"]) == (3, 2)
    assert not ids_path(output).exists()
    assert not negatives_path(output).exists()
    assert report(output)["examples"][0]["negative"] == "doc 9"


def test_a_corpus_gives_the_texts_as_they_are(source, tmp_path):
    corpus = tmp_path / "corpus.jsonl"
    ids = {f"d{p}": p for _, p, _ in ROWS} | {f"d{n}x": n for _, _, n in ROWS}
    rows = [{"_id": doc_id, "title": "T", "text": f"two\nlines {number}"} for doc_id, number in ids.items()]
    corpus.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    scorer = Numbers()
    audit(source, tmp_path / "out.tsv", scorer, corpus)
    assert scorer.asked[0] == ("ask q1", "T two\nlines 5")


def test_scores_that_were_paid_for_are_not_asked_for_again(source, tmp_path, monkeypatch):
    monkeypatch.setattr(audit_stage, "PAIRS_PER_BATCH", 2)
    first, second, whole = Numbers(breaks_at=2), Numbers(), Numbers()
    output = tmp_path / "out.tsv"
    with pytest.raises(KeyboardInterrupt):
        audit(source, output, first)
    assert read_manifest(output) is None
    audit(source, output, second)
    audit(source, tmp_path / "whole.tsv", whole)
    assert first.batches + second.batches == whole.batches
    assert negatives_path(output).read_bytes() == negatives_path(tmp_path / "whole.tsv").read_bytes()
    assert not list(tmp_path.glob("*.partial"))
    audit(source, output, third := Numbers())
    assert third.batches == []


def test_sides_of_other_triples_are_refused(source, tmp_path):
    lines = ids_path(source).read_text(encoding="utf-8").splitlines(keepends=True)
    for wrong in (lines[:-1], [*lines, lines[0]], lines[::-1]):
        ids_path(source).write_text("".join(wrong), encoding="utf-8")
        with pytest.raises(StaleInputError, match=r"other triples; .*remove triples\.ids\.tsv"):
            audit(source, tmp_path / "out.tsv")
    negatives_path(source).unlink()
    ids_path(source).write_text("".join(lines[:-1]), encoding="utf-8")
    with pytest.raises(StaleInputError, match="belong to other triples"):
        audit(source, tmp_path / "out.tsv")


def test_what_cannot_be_audited(tmp_path):
    path = tmp_path / "t.tsv"
    path.write_text("\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="no triples to audit"):
        audit(path, tmp_path / "out.tsv")
    path.write_text("q\tdoc 1\tdoc 2\nonly two\tcolumns\n", encoding="utf-8")
    with pytest.raises(DataFormatError, match=r"t\.tsv:2: a triple has 3 tab-separated texts"):
        audit(path, tmp_path / "out.tsv")
    write(path, [("q1", 5, 1), ("q2", 5, 1), ("q1", 5, 2)])
    with pytest.raises(DataFormatError, match=r"not adjacent; .*sort"):
        audit(path, tmp_path / "out.tsv", action="relabel")
    audit(path, tmp_path / "out.tsv", action="drop")
    write(path, [("q1", 1, 2)])
    with pytest.raises(ConfigError, match="no triple is left"):
        audit(path, tmp_path / "none.tsv", action="drop")
    assert not (tmp_path / "none.tsv").exists()
    assert not Path(report_path(tmp_path / "none.tsv")).exists()
    with pytest.raises(ConfigError, match="would be overwritten"):
        audit(path, path)
