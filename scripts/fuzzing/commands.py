"""Whole commands, as people give them; stdout is read as JSON where there is some."""

from __future__ import annotations

from pathlib import Path

from fuzzing.checks import BrokenPromiseError, finite, run, same, shares, strict_lines
from inpars.errors import InparsError
from inpars.io import formats
from inpars.io.corpus import Corpus


def ingest(folder: Path, main: Path) -> None:
    """`ingest --corpus FILE`, or `--dataset` of a folder or zip."""
    flag = "--corpus" if main.is_file() and main.suffix != ".zip" else "--dataset"
    made = run("ingest", flag, main, "--output", folder / "out.jsonl", "--json", "--unknown-judgements", "keep")
    same("documents ingested", made.values["documents"], len(strict_lines(folder / "out.jsonl")))
    _opens(folder / "out.jsonl")


def ingest_documents(folder: Path, main: Path) -> None:
    """`ingest --documents` of a file or folder."""
    made = run("ingest", "--documents", main, "--output", folder / "out.jsonl", "--tokenizer", "words", "--json")
    same("documents ingested", made.values["documents"], len(strict_lines(folder / "out.jsonl")))
    _opens(folder / "out.jsonl")
    if "queries.jsonl" in made.values["files"]:
        list(formats.read_queries(folder / "queries.jsonl"))


def _opens(path: Path) -> None:
    try:
        same("documents counted", sum(1 for _ in path.open("rb")), len(Corpus(path)))
    except InparsError as error:
        raise BrokenPromiseError(f"ingest wrote what is refused: {error}") from error


def evaluate(folder: Path, main: Path) -> None:
    """`evaluate --run --qrels`, its numbers on stdout and in a file."""
    qrels = next(main.parent.glob("qrels*"), main.with_name("qrels.txt"))
    made = run(
        "evaluate", "--run", main, "--qrels", qrels, "--json", "--output", folder / "metrics.json", "--wins", "2"
    )
    for name, system in made.values["systems"].items():
        shares(system["means"].values(), f"a mean of {name}")
        shares((value for values in system["per_query"].values() for value in values.values()), f"a measure of {name}")


def evaluate_dataset(folder: Path, main: Path) -> None:
    """`evaluate --dataset` of a folder, with a report."""
    (folder / "own.trec").write_text("q1 Q0 d1 1 2.5 t\nq2 Q0 d1 1 0.5 t\n")
    run("evaluate", "--run", folder / "own.trec", "--dataset", main, "--json", "--report", folder / "report.html")


def filter_(folder: Path, main: Path) -> None:
    """`filter`, with scores where there are some."""
    beside = main.with_name("scores.jsonl")
    scores = ["--scores", beside, "--select", "bm25_rank:max=20"] if beside.exists() else []
    made = run("filter", "--input", main, "--output", folder / "kept.jsonl", "--json", *scores)
    values, kept = made.values, strict_lines(folder / "kept.jsonl")
    same("kept", values["kept"], len(kept))
    same("read = kept + dropped", values["read"], values["kept"] + sum(values["dropped"].values()))


def compare_filters(folder: Path, main: Path) -> None:
    """`filter --compare`: the laboratory's page."""
    run("filter", "--input", main, "--output", folder / "page.html", "--compare", "--json")


def export(folder: Path, main: Path) -> None:
    """`import` of a folder in BEIR's form, `export` to another and `import` of that."""
    for name, target in (("llama-index", "x.json"), ("trec", "x"), ("msmarco", "y")):
        run("export", "--format", name, "--dataset", main, "--output", folder / target, "--json")
        run("import", "--format", name, "--input", folder / target, "--output", folder / f"{target}.back", "--json")


def export_triples(folder: Path, main: Path) -> None:
    """`export` of triples to the formats that hold texts, and back."""
    for name, target in (("tevatron", "t.jsonl"), ("flagembedding", "f.jsonl"), ("inpars-triples", "i.tsv")):
        made = run("export", "--format", name, "--triples", main, "--output", folder / target, "--json")
        finite([sum(made.values.get("files", {"": 0}).values())], "files")
        run("import", "--format", name, "--input", folder / target, "--output", folder / f"{target}.back", "--json")


def verify(folder: Path, main: Path) -> None:
    """`verify` of a run's folder, without models."""
    run("verify", main, "--json", "--sample", "2").values  # noqa: B018


def compare(folder: Path, main: Path) -> None:
    """`compare` of a run's folder with a sound one."""
    from fuzzing.cases import Case
    from fuzzing.state_seeds import run_folder

    sound = folder / "sound"
    Case("", "", run_folder()).write(sound)
    for pair in ((sound, main), (main, sound)):
        run("compare", *pair, "--json", "--report", folder / "report.html").values  # noqa: B018


def merge(folder: Path, main: Path) -> None:
    """`merge` of shards."""
    made = run("merge", *sorted(main.glob("q.shard-*-of-?????.jsonl")), "--output", folder / "q.jsonl", "--json")
    same("merged", made.values["records"], len(strict_lines(folder / "q.jsonl")))


def leave_out(folder: Path, main: Path) -> None:
    """`evaluate --leave-out` and `--train-queries`: ids and queries that were seen before."""
    (folder / "own.trec").write_text("q1 Q0 d1 1 2.5 t\nq2 Q0 d1 1 0.5 t\n")
    (folder / "own.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td1\t1\nq2\td2\t1\nq3\td3\t1\n")
    seen = ("--leave-out", main, "--train-queries", main)
    run("evaluate", "--run", folder / "own.trec", "--qrels", folder / "own.tsv", "--json", *seen).values  # noqa: B018


def search(folder: Path, main: Path) -> None:
    """`search` with BM25 over a folder in BEIR's form."""
    made = run(
        "search", "--dataset", main, "--retriever", "bm25", "--k", "5", "--output", folder / "out.trec", "--json"
    )
    made.values  # noqa: B018
    formats.read_run(folder / "out.trec")
