"""`inpars rerank` with tiny models: several runs, forms of runs, windows; and `python -m inpars.rerank`."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

from inpars import rerank as toolkit_rerank
from inpars.cli import main as cli
from inpars.io.formats import read_run
from inpars.io.runs import rank
from inpars.retrieval.java import find_jar, find_java

TOY = Path(__file__).parents[1] / "data" / "toy"
needs_bm25 = pytest.mark.skipif(
    not (find_java() and find_jar() and importlib.util.find_spec("jnius")),
    reason="pyserini, pyjnius or Java is missing",
)
EXACT = ("--device", "cpu", "--dtype", "float32", "--quiet")
TREC = "q1 Q0 d1 1 3.0 x\nq1 Q0 d2 2 2.0 x\nq1 Q0 d3 3 1.0 x\nq2 Q0 d3 1 2.0 x\nq2 Q0 d1 2 1.0 x\n"
OTHER = "q1 Q0 d4 1 9.0 y\nq1 Q0 d1 2 8.0 y\n"
MARCO = "q1\td1\t1\nq1\td2\t2\nq1\td3\t3\nq2\td3\t1\nq2\td1\t2\n"


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INPARS_CACHE", str(tmp_path / "cache"))
    texts = ["amber lake", "river of copper " * 20, "garden", "winter willow"]
    Path("c.tsv").write_text("".join(f"d{n}\t{text}\n" for n, text in enumerate(texts, 1)), encoding="utf-8")
    Path("q.tsv").write_text("q1\twhich lake\nq2\twhich garden\n", encoding="utf-8")
    for name, text in (("a.trec", TREC), ("b.trec", OTHER), ("m.tsv", MARCO)):
        Path(name).write_text(text, encoding="utf-8")


def rerank(model, *flags, runs=("a.trec",), output="o.trec"):
    arguments = ("rerank", "--corpus", "c.tsv", "--queries", "q.tsv", "--model", model, *EXACT, "--output", output)
    assert cli.main([*arguments, *(part for run in runs for part in ("--run", run)), *flags]) == 0
    return read_run(Path(output))


def order(run, query_id="q1"):
    return [doc_id for doc_id, _ in rank(run[query_id])]


def test_msmarcos_form_is_the_same_run(tiny):
    model = tiny("bert_classifier")
    expected = rerank(model, "--depth", "2")
    assert rerank(model, "--depth", "2", runs=["m.tsv"], output="p.trec") == expected
    assert order(expected)[2] == "d3", "the tail"


@pytest.mark.parametrize(("fusion", "first"), [("rrf", "d1"), ("z-score", "d1")])
def test_several_runs_are_fused_first(tiny, fusion, first):
    # q1 by rrf: d1 1/61 + 1/62, then d4 1/61, d2 1/62, d3 1/63.
    # By z-scores: d1 1.22 - 1, d4 -1.22 + 1, d2 0 - 1, d3 -1.22 - 1
    reranked = rerank(tiny("bert_classifier"), "--depth", "1", "--fusion", fusion, runs=["a.trec", "b.trec"])
    assert order(reranked) == ["d1", "d4", "d2", "d3"]
    assert order(reranked, "q2") == ["d3", "d1"]
    manifest = json.loads(Path("o.trec.manifest.json").read_text(encoding="utf-8"))
    assert {"run", "run 2"} <= set(manifest["inputs"])


def test_the_reranker_and_the_first_stage_are_fused_as_asked(tiny):
    model = tiny("bert_classifier")
    alone = rerank(model)
    summed, ranked = rerank(model, "--fuse"), rerank(model, "--fuse", "--fusion", "rrf")
    first = {"d1": 1, "d2": 2, "d3": 3}
    expected = {doc_id: 1 / (60 + first[doc_id]) + 1 / (60 + place) for place, doc_id in enumerate(order(alone), 1)}
    assert ranked["q1"] == pytest.approx(expected, abs=3e-5)  # a file pushes equal scores apart
    assert sum(summed["q1"].values()) == pytest.approx(0.0, abs=1e-4)


def test_scores_of_the_first_documents_alone_order_no_more_of_them(tiny, capsys):
    rerank(tiny("bert_classifier"), "--depth", "1", output="s.trec")
    arguments = ("rerank", "--run", "a.trec", "--scores", "s.trec", "--output", "o.trec", "--quiet")
    assert cli.main(arguments) == 1
    assert re.search(r"inpars: s\.trec: .* first 1 .*; give --depth 1$", capsys.readouterr().err)
    assert cli.main([*arguments, "--depth", "1"]) == 0


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (("--model", "m", "--fusion", "rrf"), "--fusion rrf has nothing to fuse; add --fuse"),
        (("--scores", "a.trec", "--fusion", "rrf"), "leave --prompt, --limit and --fusion out"),
        (("--scores", "a.trec", "--limit", "1"), "leave --prompt, --limit and --fusion out"),
    ],
)
def test_flags_without_effect_are_refused(capsys, flags, problem):
    arguments = ("rerank", "--corpus", "c.tsv", "--queries", "q.tsv", "--run", "a.trec", "--output", "o.trec")
    assert cli.main([*arguments, *flags]) == 1
    assert problem in capsys.readouterr().err


def test_a_run_of_distances_is_noted(tiny, capsys):
    Path("a.trec").write_text("q1 Q0 d1 1 0.1 x\nq1 Q0 d2 2 0.9 x\n", encoding="utf-8")
    arguments = ("rerank", "--corpus", "c.tsv", "--queries", "q.tsv", "--run", "a.trec", "--output", "o.trec")
    assert cli.main([*arguments, "--model", tiny("bert_classifier"), "--device", "cpu"]) == 0
    assert "disagree for 1 of 1 queries, 'q1' first" in capsys.readouterr().err


@pytest.mark.parametrize("windows", ["maxp", "firstp", "mean"])
def test_windows_change_the_long_document_only(tiny, windows):
    model = tiny("bert_classifier")
    plain = rerank(model)
    reranked = rerank(model, "--windows", windows, "--window-tokens", "12", "--window-stride", "6")
    assert {doc_id for doc_id in plain["q1"] if abs(plain["q1"][doc_id] - reranked["q1"][doc_id]) > 1e-3} == {"d2"}


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("q1\td1\t0", "field 'rank'"),
        ("q1\td1\tbest", "field 'rank'"),
        ("q1 d1 1", "3 columns, a TREC run has 6"),
    ],
)
def test_three_columns_that_are_no_ranks_are_refused(capsys, line, problem):
    Path("m.tsv").write_text(line + "\n", encoding="utf-8")
    arguments = ("rerank", "--corpus", "c.tsv", "--queries", "q.tsv", "--run", "m.tsv", "--output", "o.trec", "--quiet")
    assert cli.main(arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("inpars: m.tsv:1: ")
    assert problem in error


def parsed(*flags):
    return toolkit_rerank.translate(toolkit_rerank._parser().parse_args(flags))


def test_toolkit_a_run_of_ones_own():
    assert parsed("--input_run", "r.trec", "--output_run", "o.trec", "--dataset", "scifact", "--fp16") == [
        [
            *("rerank", "--dataset=beir/scifact", "--run=r.trec", "--model=castorini/monot5-small-msmarco-100k"),
            *("--depth=1000", "--dtype=bfloat16", "--output=o.trec"),
        ]
    ]


@pytest.mark.parametrize("named", [(), ("--input_run", "scifact")])
def test_toolkit_bm25_where_no_run_is_given(named):
    search, rerank = parsed("--output_run", "out/o.trec", "--dataset", "scifact", "--top_k", "50", *named)
    assert search == [
        *("search", "--dataset=beir/scifact", "--retriever=bm25", "--k=50", "--output=out/o.bm25.trec"),
    ]
    assert rerank[:3] == ["rerank", "--dataset=beir/scifact", "--run=out/o.bm25.trec"]


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        ([], "the documents are needed"),
        (["--dataset", "scifact", "--queries", "q.csv"], "--queries q.csv: give it as .tsv"),
        (["--corpus", "c.csv", "--queries", "q.tsv"], "--corpus c.csv: give it as .tsv"),
    ],
)
def test_toolkit_what_cannot_be_read(capsys, flags, problem):
    assert toolkit_rerank.main(["--output_run", "o.trec", *flags]) == 1
    assert problem in capsys.readouterr().err


def test_toolkit_a_run_that_is_not_there_is_said(capsys):
    """1.5: it was taken for a dataset's name, and whatever came back was saved as its run."""
    arguments = ["--corpus", "c.tsv", "--queries", "q.tsv", "--output_run", "o.trec", "--input_run", "gone.trec"]
    assert toolkit_rerank.main(arguments) == 1
    assert "gone.trec: no such file" in capsys.readouterr().err


@needs_bm25
def test_toolkit_search_and_rerank(tiny, capsys):
    arguments = ["--corpus", "c.tsv", "--queries", "q.tsv", "--output_run", "o.trec", "--device", "cpu", "--top_k", "3"]
    assert toolkit_rerank.main([*arguments, "--model", tiny("bert_classifier"), "--batch_size", "16"]) == 0
    warning, *_ = capsys.readouterr().err.splitlines()
    assert warning == "ignored: --batch_size (batches hold so many tokens, whatever the number of pairs)"
    assert {query_id: set(scores) for query_id, scores in read_run(Path("o.trec")).items()} == {
        query_id: set(scores) for query_id, scores in read_run(Path("o.bm25.trec")).items()
    }
    assert order(read_run(Path("o.trec"))) == ["d1"]
