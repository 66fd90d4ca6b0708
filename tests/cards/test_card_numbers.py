"""Measures reach the cards of the models behind a run, and of no others; what cannot be changed is noted."""

import pytest

from inpars.cards.card import NOT_MEASURED, CardFacts, write_card
from inpars.cli import main as cli
from inpars.evaluation.measures import evaluate
from inpars.io.manifest import CARD, Manifest, stamp, why_stale, write_manifest
from inpars.progress import Silent
from inpars.stages.card_numbers import add_numbers_of_run

QRELS = {"1": {"a": 1}, "2": {"b": 1}}


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def trained(folder, stage):
    """A finished model with its card."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"inpars": {"kind": "monot5"}}', encoding="utf-8")
    write_card(folder, CardFacts("minilm", folder / "t.tsv", {}, {}, "cpu"))
    manifest = Manifest(stage=stage, arguments={}, inputs={}, output=stamp(folder))
    write_manifest(manifest, folder)
    return manifest


def run_file(path, first, stage, **inputs):
    """A run that has `first` on top for both queries, and a manifest."""
    second = "b" if first == "a" else "a"
    rows = [f"{query} Q0 {doc} {rank} {9 - rank} x\n" for query in "12" for rank, doc in ((1, first), (2, second))]
    path.write_text("".join(rows), encoding="utf-8")
    write_manifest(Manifest(stage=stage, arguments={}, inputs=inputs, output=stamp(path)), path)
    return path


def card_of(folder):
    return (folder / CARD).read_text(encoding="utf-8")


def test_evaluate_fills_the_cards_of_the_models_behind_its_runs(tmp_path, capsys):
    for name in ("retriever", "reranker", "unused"):
        trained(tmp_path / "models" / name, "train")
    models = tmp_path / "models"
    bm25 = run_file(tmp_path / "bm25.trec", "a", "search")
    tuned = run_file(tmp_path / "tuned.trec", "a", "search", retriever=stamp(models / "retriever"))
    run_file(tmp_path / "reranked.trec", "b", "rerank", run=stamp(tuned), model=stamp(models / "reranker"))
    (tmp_path / "qrels.tsv").write_text("1 0 a 1\n2 0 b 1\n", encoding="utf-8")
    names = [part for path in (bm25, tmp_path / "reranked.trec") for part in ("--run", path.name)]
    command = ["evaluate", "--qrels", "qrels.tsv", *names, "--metrics", "RR@10", "--quiet"]
    for _ in range(2):
        assert cli.main(command) == 0
    # each ranks one query's document first and the other's second: (1 + 1/2) / 2
    for name in ("retriever", "reranker"):
        for system in ("bm25", "reranked"):
            assert card_of(models / name).count(f"| qrels.tsv, test (2 queries) | {system} | RR@10 | 0.7500 |") == 1
        assert why_stale(models / name, "train", {}, {}) is None
    assert NOT_MEASURED in card_of(models / "unused")
    assert "numbers are not added" not in capsys.readouterr().err


@pytest.mark.parametrize(("judged", "flags", "code"), [("9 0 a 1", (), 1), ("1 0 a 1", ("--judged-only",), 0)])
def test_what_is_no_result_or_of_judged_documents_alone_is_on_no_card(tmp_path, judged, flags, code):
    trained(tmp_path / "m", "train")
    run_file(tmp_path / "tuned.trec", "a", "search", retriever=stamp(tmp_path / "m"))
    (tmp_path / "qrels.tsv").write_text(f"{judged}\n", encoding="utf-8")
    assert cli.main(["evaluate", "--qrels", "qrels.tsv", "--run", "tuned.trec", "--quiet", *flags]) == code
    assert NOT_MEASURED in card_of(tmp_path / "m")


def test_a_model_that_was_trained_again_since_keeps_its_card(tmp_path):
    trained(tmp_path / "m", "train")
    run_file(tmp_path / "tuned.trec", "a", "search", retriever=stamp(tmp_path / "m"))
    (tmp_path / "m" / "config.json").write_text('{"inpars": {"kind": "causal"}}', encoding="utf-8")
    write_manifest(Manifest(stage="train", arguments={}, inputs={}, output=stamp(tmp_path / "m")), tmp_path / "m")
    (tmp_path / "qrels.tsv").write_text("1 0 a 1\n", encoding="utf-8")
    assert cli.main(["evaluate", "--qrels", "qrels.tsv", "--run", "tuned.trec", "--quiet"]) == 0
    assert NOT_MEASURED in card_of(tmp_path / "m")


class Noting(Silent):
    def __init__(self):
        self.notes = []

    def note(self, message):
        self.notes.append(message)


def test_a_whole_runs_systems_go_to_the_model_they_are_about(tmp_path):
    manifests = {name: trained(tmp_path / "models" / name, "train") for name in ("retriever", "reranker")}
    run = {query: {"a": 2.0, "b": 1.0} for query in QRELS}
    names = ("bm25", "tuned", "fusion", "fusion + reranker")
    evaluations = {name: evaluate(run, QRELS, ["nDCG@10"]) for name in names}
    measured_on = (str(tmp_path), "held-out")  # a dataset named by its path, which a card does not tell
    progress = Noting()
    add_numbers_of_run(manifests, evaluations, "nDCG@10", measured_on, " + reranker", progress)
    systems = {
        name: [line.split(" | ")[1] for line in card_of(tmp_path / "models" / name).splitlines() if "held-out" in line]
        for name in manifests
    }
    assert systems == {"retriever": ["bm25", "tuned", "fusion"], "reranker": ["fusion", "fusion + reranker"]}
    assert str(tmp_path) not in card_of(tmp_path / "models" / "reranker")
    (tmp_path / "models" / "reranker" / CARD).unlink()
    add_numbers_of_run(manifests, evaluations, "nDCG@10", measured_on, " + reranker", progress)
    (note,) = progress.notes
    assert str(tmp_path / "models" / "reranker" / CARD) in note
