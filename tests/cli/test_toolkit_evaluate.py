"""`python -m inpars.evaluate` with the flags of the InPars toolkit, against the numbers trec_eval's code gives."""

import json
from pathlib import Path

import pytest
import pytrec_eval

from inpars import evaluate as toolkit
from inpars.io.formats import read_qrels, read_run

TOY = Path(__file__).parents[1] / "data" / "toy"
RUN, QRELS = TOY / "run.trec", TOY / "qrels.trec"


def translated(*arguments):
    return toolkit.translate(toolkit._parser().parse_args(["--run", "run.txt", *arguments]))


def values_of(capsys, *arguments):
    assert toolkit.main(["--run", str(RUN), "--json", *map(str, arguments)]) == 0
    return json.loads(capsys.readouterr().out)["systems"]["run"]["means"]


def test_the_numbers_are_those_of_its_trec_eval(capsys):
    names = {"recip_rank", "recall.1000", "ndcg_cut.10,20", "map", "P.10"}
    theirs = pytrec_eval.RelevanceEvaluator(read_qrels(QRELS), names).evaluate(read_run(RUN))
    ours = values_of(capsys, "--qrels", QRELS)
    pairs = zip(ours, ("recip_rank", "recall_1000", "ndcg_cut_10", "ndcg_cut_20", "map", "P_10"), strict=True)
    queries = len(read_qrels(QRELS))  # its -c: queries without results count 0
    for name, theirs_name in pairs:
        assert ours[name] == pytest.approx(sum(values[theirs_name] for values in theirs.values()) / queries), name


def test_the_threshold_changes_binary_measures_alone(capsys):
    plain, strict = values_of(capsys, "--qrels", QRELS), values_of(capsys, "--qrels", QRELS, "--relevance_threshold", 2)
    assert strict["nDCG@10"] == plain["nDCG@10"]
    assert strict["AP(rel=2)"] != plain["AP"]
    assert toolkit.measures(2) == "RR(rel=2) R(rel=2)@1000 nDCG@10 nDCG@20 AP(rel=2) P(rel=2)@10"


def test_unjudged_documents_are_removed(capsys, tmp_path):
    # u is unjudged and first: with it the reciprocal rank of d01 is 1/2, without it 1
    (tmp_path / "run.trec").write_text("q1 Q0 u 1 3.0 t\nq1 Q0 d01 2 2.0 t\n", encoding="utf-8")
    (tmp_path / "qrels").write_text("q1 0 d01 1\n", encoding="utf-8")
    arguments = ["--run", str(tmp_path / "run.trec"), "--qrels", str(tmp_path / "qrels"), "--json"]
    for extra, expected in (([], 0.5), (["--remove_unjudged"], 1.0)):
        assert toolkit.main([*arguments, *extra]) == 0
        assert json.loads(capsys.readouterr().out)["systems"]["run"]["means"]["RR"] == expected


def test_a_mistyped_path_of_judgements_is_an_error(capsys):
    """6.2: it was silently replaced by the dataset's judgements there."""
    assert toolkit.main(["--run", str(RUN), "--dataset", "scifact", "--qrels", "gone.tsv"]) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("inpars: gone.tsv: no such file")


def test_datasets_are_those_the_toolkit_means():
    assert "--dataset=msmarco-passage/dev/small" in translated()[0]
    assert "--dataset=beir/nfcorpus/test" in translated("--dataset", "nfcorpus")[0]
    assert "--dataset=beir/trec-covid" in translated("--dataset", "trec-covid")[0]
    assert not [flag for flag in translated("--qrels", "q.tsv")[0] if flag.startswith("--dataset")]
    assert "--order=score" in translated()[0]  # its trec_eval does not read MS MARCO's file order


def test_the_run_called_bm25_is_searched_first():
    search, evaluate = toolkit.translate(toolkit._parser().parse_args(["--run", "bm25", "--dataset", "scifact"]))
    assert search == [
        *("search", "--dataset=beir/scifact/test", "--retriever=bm25", "--k=1000"),
        "--output=run.beir-scifact-test.bm25.trec",
    ]
    assert evaluate[:3] == ["evaluate", "--dataset=beir/scifact/test", "--run=run.beir-scifact-test.bm25.trec"]


def test_a_threshold_of_nothing_is_refused(capsys):
    assert toolkit.main(["--run", "r", "--relevance_threshold", "0"]) == 1
    assert "be at least 1" in capsys.readouterr().err
