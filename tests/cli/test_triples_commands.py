"""Mining, auditing and splitting by the command line: from flags to files, and errors in one line."""

import importlib.util
import json
from pathlib import Path

import pytest

from inpars.cli import main as cli
from inpars.documents.datasets import load_dataset
from inpars.io.storage import read_jsonl
from inpars.io.triples import read_triple_ids
from inpars.retrieval.java import find_jar, find_java

TOY = Path(__file__).parents[1] / "data" / "toy"
BEIR, SYNTHETIC = TOY / "beir", TOY / "queries.synthetic.jsonl"
needs_bm25 = pytest.mark.skipif(
    not (find_java() and find_jar() and importlib.util.find_spec("jnius")),
    reason="pyserini, pyjnius or Java is missing",
)


@pytest.fixture(autouse=True)
def workdir(tmp_path, monkeypatch):
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("INPARS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "work"


@pytest.fixture
def run(capsys):
    """Runs a command that must succeed; returns its stdout."""

    def call(*arguments):
        capsys.readouterr()
        assert cli.main([*(str(argument) for argument in arguments), "--quiet"]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        return out

    return call


@pytest.fixture
def fails(capsys):
    """Runs a command that must fail; returns its one line."""

    def call(*arguments):
        assert cli.main([str(argument) for argument in arguments]) == 1
        out, err = capsys.readouterr()
        assert (out, err.count("\n"), err[:8]) == ("", 1, "inpars: ")
        return err

    return call


TRIPLES = ("triples", "--dataset", BEIR, "--output", "triples.tsv")


@needs_bm25
def test_rules_and_origins(run):
    out = run(*TRIPLES, "--input", SYNTHETIC, "--max-score-share", "0.9", "--per-query", "2", "--ranks", "1-20")
    assert out.startswith("triples.tsv: ")
    origins = [row for _, row in read_jsonl(Path("triples.negatives.jsonl"))]
    assert origins
    assert all(row["score"] <= 0.9 * row["positive_score"] for row in origins)
    values = json.loads(
        run(*TRIPLES, "--input", SYNTHETIC, "--max-score-share", "0.9", "--per-query", "2", "--ranks", "1-20", "--json")
    )
    assert (values["triples"], values["sources"]) == (len(origins), {"bm25": len(origins)})


def test_pairs_go_through_filter_split_and_triples(run, fails, workdir):
    (workdir / "faq.csv").write_text("question,answer,doc_id\nwhy does dough rise,Yeast.,d01\nno such,Text.,d99\n")
    (workdir / "log.tsv").write_text(
        "query\tdoc_id\tclicks\nsour milk overnight\td03\t4\nsour milk overnight\td02\t1\n"
    )
    command = ("pairs", "--headings", "--min-words", "1", "--faq", "faq.csv", "--clicks", "log.tsv", "--dataset", BEIR)
    out = run(*command, "--output", "pairs.jsonl")
    assert out.startswith("pairs.jsonl: 31 pairs: click 1, faq 1, title 29 (1 dropped: document_not_in_corpus 1)")
    out = run("filter", "--input", "pairs.jsonl", "--top-k", "1", "--output", "kept.jsonl")
    assert out.splitlines() == [
        "kept.jsonl: 31 of 31 queries kept (nothing dropped)",
        "  click: 1 of 1 kept (nothing dropped)",
        "  faq: 1 of 1 kept (nothing dropped)",
        "  title: 29 of 29 kept (nothing dropped)",
    ]
    run("triples", "--input", "kept.jsonl", "--dataset", BEIR, "--negatives", "random", "--output", "triples.tsv")
    ids = list(read_triple_ids(Path("triples.ids.tsv")))
    assert {(triple.query_id.partition("-")[0], triple.positive_doc_id) for triple in ids} >= {
        *(("click", "d03"), ("click", "d02"), ("faq", "d01"), ("title", "d03"))
    }
    # a title is not shown above the texts of its own triple
    first = next(workdir for workdir, triple in enumerate(ids) if triple.query_id.startswith("title"))
    query, positive, _ = Path("triples.tsv").read_text(encoding="utf-8").splitlines()[first].split("\t")
    assert not positive.startswith(query)
    assert "give --headings, --faq FILE" in fails("pairs", "--dataset", BEIR, "--output", "none.jsonl")
    assert "--clicks is about documents" in fails("pairs", "--clicks", "log.tsv", "--output", "none.jsonl")
    outputs = ("--output-train", "train.jsonl", "--output-dev", "dev.jsonl")
    lines = Path("pairs.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (workdir / "titles.jsonl").write_text("".join(line for line in lines if '"title-' in line))
    assert "train on all of them" in fails("split", "--input", "titles.jsonl", "--dataset", BEIR, *outputs)


@needs_bm25
def test_human_queries_are_mined_by_their_judgements(run):
    run(*TRIPLES, "--split", "dev", "--per-query", "3")
    topics = load_dataset(str(BEIR)).topics("dev")
    relevant = {(q, d) for q, grades in topics.qrels.items() for d, grade in grades.items() if grade > 0}
    results = list(read_triple_ids(Path("triples.ids.tsv")))
    assert results
    assert {(triple.query_id, triple.positive_doc_id) for triple in results} <= relevant
    assert not {(triple.query_id, triple.negative_doc_id) for triple in results} & relevant


def test_random_negatives_need_no_java(run):
    out = run(*TRIPLES, "--input", SYNTHETIC, "--negatives", "random", "--per-query", "2")
    assert out == "triples.tsv: 12 triples of 6 queries (nothing dropped)\n"


def test_split(run, workdir):
    rows = [{"doc_id": f"d{n:02}", "query": f"question {n}", "log_probs": [-1.0]} for n in range(1, 31)]
    (workdir / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    command = ("split", "--input", "q.jsonl", "--dataset", BEIR, "--dev-share", "0.2")
    outputs = ("--output-train", "train.jsonl", "--output-dev", "dev.jsonl")
    out = run(*command, *outputs)
    assert out.splitlines()[1:] == [
        "train.jsonl: 24 queries of 24 clusters (nothing dropped)",
        "dev.jsonl: 6 queries of 6 clusters",
        "to evaluate on them: --queries dev.queries.jsonl --qrels dev.qrels.tsv",
    ]
    assert json.loads(run(*command, *outputs, "--json"))["counts"]["dev"] == 6
    run_file = [f"{row['query_id']} Q0 {row['doc_id']} 1 1.0 x" for _, row in read_jsonl(Path("dev.jsonl"))]
    (workdir / "run.trec").write_text("\n".join(run_file) + "\n", encoding="utf-8")
    judged = ("--dataset", BEIR, "--queries", "dev.queries.jsonl", "--qrels", "dev.qrels.tsv")
    out = run("evaluate", *judged, "--run", "run.trec", "--metrics", "RR@10")
    assert out.splitlines()[1].split() == ["run", "1.0000", "1.0000"]
    assert "note: this test is synthetic: a model wrote every query for its only relevant document" in out


def test_audit(run, tiny):
    run(*TRIPLES, "--input", SYNTHETIC, "--negatives", "random", "--per-query", "2")
    command = ("audit", "--triples", "triples.tsv", "--dataset", BEIR, "--model", tiny("llama"))
    out = run(*command, "--output", "kept.tsv", "--examples", "2", "--margin", "0.01")
    lines = out.splitlines()
    assert lines[0] == "kept.tsv: 12 triples (0 dropped, 0 added)"
    assert Path("kept.tsv").read_bytes() == Path("triples.tsv").read_bytes()
    results = json.loads(Path("kept.audit.json").read_text(encoding="utf-8"))
    rows = [row for _, row in read_jsonl(Path("kept.negatives.jsonl"))]
    above = sum(row["reranker_score"] > row["positive_reranker_score"] for row in rows)
    assert (results["triples"], results["above_positive"]) == (12, above)
    assert lines[1] == f"{above} of 12 negatives ({above / 12:.1%}) score above their positive"
    assert (
        sum(line.startswith("query ") for line in lines) == len(results["examples"]) == min(2, results["above_margin"])
    )
    values = json.loads(run(*command, "--output", "fewer.tsv", "--drop", "--json"))
    assert (values["written"], values["dropped"]) == (12 - above, above)
    assert len(list(read_triple_ids(Path("fewer.ids.tsv")))) == 12 - above


FILES = {
    "broken.jsonl": '{"doc_id": "d01", "query": "a b c"}\n{"doc_id": "d02", "query": \n',
    "blank.jsonl": '{"doc_id": "d 01", "query": "a b c"}\n',
    "foreign.jsonl": '{"doc_id": "zzz", "query": "a b c"}\n',
    "notext.jsonl": '{"doc_id": "d01"}\n',
    "two.tsv": "a query\tone column too few\n",
    "apart.tsv": "a\tb\tc\nd\te\tf\na\tg\th\n",
    "ids.tsv": "a\tb\tc\n",
    "ids.ids.tsv": "q1\td1\td2\nq1\td1\td3\n",
}
AUDIT = ("audit", "--output", "out.tsv", "--triples")
SPLIT = ("split", "--dataset", BEIR, "--output-train", "a.jsonl", "--output-dev", "b.jsonl", "--input")
MINE = (*TRIPLES, "--negatives", "random", "--input")
CASES = {
    "broken JSON": ((*MINE, "broken.jsonl"), ["broken.jsonl:2: broken JSON", "mend or remove this line"]),
    "a blank in an id": ((*MINE, "blank.jsonl"), ["blank.jsonl:1: an id must be one word without blanks", "d 01"]),
    "no query": ((*MINE, "notext.jsonl"), ["notext.jsonl:1: no 'query' field (or question)"]),
    "no input": ((*TRIPLES[:1], "--corpus", TOY / "corpus.tsv", *TRIPLES[3:]), ["there are no queries here"]),
    "a negative margin": ((*MINE, SYNTHETIC, "--margin", "-1"), ["--margin is -1.0; it must be"]),
    "a share above one": ((*MINE, SYNTHETIC, "--max-score-share", "95"), ["--max-score-share is 95.0", "at most 1"]),
    "no scores": ((*MINE, SYNTHETIC, "--margin", "1"), ["random negatives have no scores", "add --rescore MODEL"]),
    "two columns": ((*AUDIT, "two.tsv"), ["two.tsv:1: a triple has 3 tab-separated texts"]),
    "missing triples": ((*AUDIT, "gone.tsv"), ["gone.tsv: no such file"]),
    "queries apart": ((*AUDIT, "apart.tsv", "--relabel"), ["are not adjacent; sort the file by query"]),
    "ids of others": ((*AUDIT, "ids.tsv"), ["ids.tsv: its ids", "belong to other triples; mine again, or remove"]),
    "split of a broken file": ((*SPLIT, "broken.jsonl"), ["broken.jsonl:2: broken JSON"]),
    "split of a foreign file": ((*SPLIT, "foreign.jsonl"), ["document 'zzz' is not in this corpus"]),
    "a share of all": ((*SPLIT, SYNTHETIC, "--dev-share", "1"), ["--dev-share is 1.0; it must be above 0 and below 1"]),
    "too few": ((*SPLIT, SYNTHETIC, "--dev-share", "0.01"), ["cannot be split with --dev-share 0.01"]),
}


@pytest.mark.parametrize("case", CASES)
def test_one_line_says_what_is_wrong(workdir, fails, case):
    for name, content in FILES.items():
        (workdir / name).write_text(content, encoding="utf-8")
    command, fragments = CASES[case]
    line = fails(*command)
    assert [fragment for fragment in fragments if fragment not in line] == []
    assert {path.name for path in workdir.iterdir()} == set(FILES)


def test_actions_exclude_each_other(workdir):
    with pytest.raises(SystemExit) as left:
        cli.main(["audit", "--triples", "t.tsv", "--output", "o.tsv", "--drop", "--relabel"])
    assert left.value.code == 2
