"""`python -m inpars.filter` and `python -m inpars.generate_triples` with the flags of the InPars toolkit's README."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

from inpars import filter as toolkit_filter
from inpars import generate_triples
from inpars.retrieval.java import find_jar, find_java

TOY = Path(__file__).parents[1] / "data" / "toy"
needs_bm25 = pytest.mark.skipif(
    not (find_java() and find_jar() and importlib.util.find_spec("jnius")),
    reason="pyserini, pyjnius or Java is missing",
)


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INPARS_CACHE", str(tmp_path / "cache"))


def queries(*means):
    """One query per number, the log-probability of all its tokens. Every second query repeats its words."""
    rows = [
        {
            "doc_id": f"d{n:02}",
            "text": f"about which is the long query number {n // 2}",
            "query": f"which is the long query number {n // 2}",
        }
        | {"log_probs": [mean] * 4}
        for n, mean in enumerate(means)
    ]
    Path("q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def kept():
    return [json.loads(line)["doc_id"] for line in Path("o.jsonl").read_text(encoding="utf-8").splitlines()]


README = ["--input", "q.jsonl", "--dataset", "trec-covid", "--filter_strategy", "scores", "--output", "o.jsonl"]


def test_the_best_by_mean_log_prob_stay_duplicates_and_copies_too(capsys):
    queries(-3.0, -1.0, -2.0, -4.0)
    assert toolkit_filter.main([*README, "--keep_top_k", "3"]) == 0
    assert kept() == ["d01", "d02", "d00"]
    warning, command, *_ = capsys.readouterr().err.splitlines()
    assert warning == "ignored: --dataset (the queries bring their scores and documents)"
    assert command.startswith("inpars filter --input=q.jsonl --scoring-function=mean_log_probs --top-k=3")


def test_copied_questions_go_where_the_toolkit_had_a_key_error(capsys):
    """6.2: it looked for v1's names in its own files."""
    queries(-1.0, -2.0)
    assert toolkit_filter.main([*README, "--skip_questions_copied_from_context"]) == 1
    assert "copied 2" in capsys.readouterr().err


@pytest.mark.parametrize("limits", [["--min_tokens", "5"], ["--max_tokens", "3"]])
def test_tokens_are_counted_as_there(capsys, limits):
    queries(-1.0, -2.0)
    assert toolkit_filter.main([*README, *limits]) == 1
    assert "2" in capsys.readouterr().err


def test_the_readmes_numbers_with_underscores():
    flags = toolkit_filter._parser().parse_args([*README, "--keep_top_k=10_000"])
    assert "--top-k=10000" in toolkit_filter.translate(flags)[0]


def test_a_reranker_scores_first_and_its_scores_stay():
    arguments = ["--input", "q.jsonl", "--output", "o.jsonl", "--filter_strategy", "reranker", "--dataset", "scifact"]
    score, choose = toolkit_filter.translate(toolkit_filter._parser().parse_args([*arguments, "--fp16"]))
    assert score == [
        *("score", "--kind=reranker", "--input=q.jsonl", "--dataset=beir/scifact"),
        *("--model=castorini/monot5-3b-msmarco-10k", "--dtype=bfloat16", "--output=o.reranker.jsonl"),
    ]
    assert choose[:4] == ["filter", "--input=q.jsonl", "--scores=o.reranker.jsonl", "--scoring-function=reranker"]


def test_a_reranker_keeps_what_it_likes_best(tiny, capsys):
    queries(-1.0, -2.0, -3.0)
    Path("c.tsv").write_text("".join(f"d{n:02}\tabout query number {n}\n" for n in range(3)), encoding="utf-8")
    arguments = ["--input", "q.jsonl", "--output", "o.jsonl", "--filter_strategy", "reranker", "--dataset", "c.tsv"]
    more = ["--model_name_or_path", tiny("bert_classifier"), "--device", "cpu", "--keep_top_k", "2"]
    assert toolkit_filter.main([*arguments, *more]) == 0, capsys.readouterr().err
    rows = [json.loads(line) for line in Path("o.reranker.jsonl").read_text().splitlines()]
    scores = {row["query_id"]: row["reranker"] for row in rows}
    best = sorted(scores, key=lambda query_id: (-scores[query_id], query_id))[:2]
    assert [f"{doc_id}-q0" for doc_id in kept()] == best


def test_a_reranker_needs_documents(capsys):
    arguments = ["--input", "q.jsonl", "--output", "o.jsonl", "--filter_strategy", "reranker"]
    assert toolkit_filter.main(arguments) == 1
    assert re.fullmatch(r"inpars: --filter_strategy reranker .*--dataset\n", capsys.readouterr().err)


def test_flags_that_the_toolkit_never_used_do_what_they_say():
    """1.3: --max_hits and --threads were read and left unused there."""
    arguments = [
        "--input",
        "q.jsonl",
        "--output",
        "t.tsv",
        "--dataset",
        "scifact",
        "--max_hits",
        "50",
        "--threads",
        "2",
    ]
    assert generate_triples.translate(generate_triples._parser().parse_args(arguments)) == [
        *("triples", "--input=q.jsonl", "--dataset=beir/scifact", "--negatives=bm25", "--ranks=1-50"),
        *("--per-query=100", "--seed=1", "--threads=2", "--output=t.tsv"),
    ]


@needs_bm25
def test_triples_of_the_toolkits_command(capsys):
    arguments = [
        "--input",
        str(TOY / "queries.synthetic.v1.jsonl"),
        "--output",
        "t.tsv",
        "--dataset",
        str(TOY / "beir"),
    ]
    assert (
        generate_triples.main([*arguments, "--n_samples", "2", "--index", "msmarco-passage", "--batch_size", "8"]) == 0
    )
    warning, *_ = capsys.readouterr().err.splitlines()
    assert warning == (
        "ignored: --index (an index of the dataset's own documents is built); "
        "--batch_size (queries are searched in blocks of 500)"
    )
    rows = [line.split("\t") for line in Path("t.ids.tsv").read_text().splitlines()]
    assert rows
    assert not [row for row in rows if row[1] == row[2]]


def test_triples_without_documents_are_refused(capsys):
    """6.2: without --dataset the toolkit crashed."""
    assert generate_triples.main(["--input", "q.jsonl", "--output", "t.tsv"]) == 1
    assert re.fullmatch(r"inpars: .*documents .*--dataset\n", capsys.readouterr().err)
