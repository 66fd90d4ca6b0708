"""The package's own readers, called as functions; what one accepts is written and read again where that is cheap."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fuzzing.checks import BrokenPromiseError, finite, same, same_rows, shares, strict_lines
from fuzzing.containers import gunzip, shuffled
from inpars.contrib.interchange import FORMATS
from inpars.contrib.interchange.stage import ImportOptions, import_file
from inpars.contrib.interchange.triples_source import read_examples as read_triple_examples
from inpars.contrib.interchange.triples_source import triple_files
from inpars.documents.collection import extract
from inpars.documents.datasets import load_dataset, load_topics
from inpars.documents.folder import SourceFile
from inpars.documents.readers import ReadOptions
from inpars.errors import InparsError, UnreadableFileError
from inpars.evaluation.measures import evaluate
from inpars.evaluation.run_files import read_checked_run
from inpars.io import formats
from inpars.io import triples as triple_lines
from inpars.io.corpus import Corpus
from inpars.io.fields import MAX_EXACT
from inpars.io.runs import rank
from inpars.io.storage import write_jsonl, write_lines
from inpars.report.collect import negatives_of

Read = Callable[[Path, Path], None]
"""(folder for what is written, the file or folder that the reader is told of)"""
METRICS = ("nDCG@10", "RR@10", "R@100", "AP", "P@5", "AP(rel=2)", "nDCG(judged_only=True)@10")


def documents(folder: Path, main: Path) -> None:
    """A corpus file streamed, written and streamed again."""
    found = list(formats.read_documents(main))
    ids_are_ids(main, formats.DOC_ID_FIELDS)
    formats.write_documents(folder / "again.jsonl", found)
    same_rows("document read, written, read", found, formats.read_documents(folder / "again.jsonl"))
    strict_lines(folder / "again.jsonl")


def ids_are_ids(main: Path, names: Sequence[str]) -> None:
    """Of JSON values only texts and whole numbers (7.0 is one) can be ids; what was accepted is looked at once more."""
    content = gunzip(main.read_bytes()) if main.suffix == ".gz" else main.read_bytes()
    if main.name.removesuffix(".gz").endswith((".tsv", ".txt")) or not content:
        return
    for line in content.decode("utf-8-sig", "replace").split("\n"):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if not isinstance(record, dict):  # the file is a JSON list
            continue
        value = next((record[name] for name in names if record.get(name) is not None), "")
        whole = isinstance(value, float) and value.is_integer() and abs(value) < MAX_EXACT
        if isinstance(value, bool) or not (whole or isinstance(value, str | int)):
            raise BrokenPromiseError(f"no id was taken for one: {value!r}")


def corpus(folder: Path, main: Path) -> None:
    """A corpus opened, gone through, and looked up by id."""
    opened = Corpus(main)
    found = list(opened)
    same("documents counted", len(opened), len(found))
    for document in found[:50]:
        same("document looked up", document, opened[document.doc_id])
        opened.text_key(document.doc_id)
    same("in file order", [d.doc_id for d in opened.in_file_order()], [d.doc_id for d in found])


def queries(folder: Path, main: Path) -> None:
    """Queries, likewise."""
    found = list(formats.read_queries(main))
    ids_are_ids(main, formats.QUERY_ID_FIELDS)
    formats.write_queries(folder / "again.jsonl", found)
    same_rows("query read, written, read", found, formats.read_queries(folder / "again.jsonl"))


def qrels(folder: Path, main: Path) -> None:
    """Judgements, likewise, and measured."""
    found = formats.read_qrels(main)
    formats.write_qrels(folder / "again.tsv", found)
    if found:
        same("judgements read, written, read", found, formats.read_qrels(folder / "again.tsv"))
        run = {query_id: {doc_id: float(n) for n, doc_id in enumerate(grades)} for query_id, grades in found.items()}
        measured(run, found)


def run_file(folder: Path, main: Path) -> None:
    """A run, likewise; its order stays."""
    found = formats.read_run(main)
    formats.write_run(folder / "again.trec", found, "fuzz")
    again = formats.read_run(folder / "again.trec")
    same("run's queries", list(found), list(again))
    for query_id, scores in found.items():
        same("ranking read, written, read", [d for d, _ in rank(scores)], [d for d, _ in rank(again[query_id])])
        finite(list(scores.values()), "score")


def run_lines(folder: Path, main: Path) -> None:
    """The lines of a run one by one, and as evaluation reads them."""
    lines = list(formats.iterate_run(main))
    for order in ("score", "file"):
        checked = read_checked_run(main, order=order)
        same("lines of the run", len(lines), checked.notes.results)
        measured(checked.run, {query_id: dict.fromkeys(scores, 1) for query_id, scores in checked.run.items()})


def measured(run: Any, judged: Any) -> None:  # noqa: ANN401 - Run, Qrels
    """Measures are between 0 and 1."""
    if judged:
        result = evaluate(run, judged, METRICS)
        shares(result.means.values(), "a mean")
        shares((value for values in result.per_query.values() for value in values.values()), "a measure")


def evaluation(folder: Path, main: Path) -> None:
    """A run against judgements."""
    judged = formats.read_qrels(next(main.parent.glob("qrels*"), main.with_name("qrels.txt")))
    checked = read_checked_run(main, judged)
    measured(checked.run, judged)


def synthetic(folder: Path, main: Path) -> None:
    """Synthetic queries read, written, read."""
    found = [query for query, _ in formats.read_synthetic_records(main)]
    write_jsonl(folder / "again.jsonl", map(formats.synthetic_query_record, found))
    strict_lines(folder / "again.jsonl")
    again = formats.read_synthetic_queries(folder / "again.jsonl")
    rounded = [formats.synthetic_query_record(query) for query in found]
    same_rows("synthetic query read, written, read", rounded, map(formats.synthetic_query_record, again))
    same("placed", len(found), sum(1 for _ in formats.read_synthetic_with_offsets(main)))


def triple_ids(folder: Path, main: Path) -> None:
    """Triples of ids read, written, read."""
    found = list(triple_lines.read_triple_ids(main))
    write_lines(folder / "again.tsv", triple_lines.triple_id_lines(found))
    same_rows("triple read, written, read", found, triple_lines.read_triple_ids(folder / "again.tsv"))


def triples(folder: Path, main: Path) -> None:
    """Triples with what lies beside them, as exports, audits and trainings read them."""
    from inpars.stages.distillation import read_margins
    from inpars.stages.triple_files import read_triple_rows, scan_pairs

    reasons = []
    for read in (
        lambda: list(read_triple_examples(triple_files(main), None, None)),
        lambda: list(read_triple_rows(main)),
        lambda: scan_pairs(main, check_order=True),
        lambda: read_margins(main),
        lambda: negatives_of(main.with_name("triples.negatives.jsonl"), {}, str),
    ):
        try:
            read()
        except InparsError as error:
            reasons.append(error)
    if reasons:
        raise reasons[0]


def dataset(folder: Path, main: Path) -> None:
    """A BEIR folder or zip with all its splits."""
    found = load_dataset(str(main), unknown_judgements="keep")
    for split in found.splits:
        topics = found.topics(split)
        topics.stamp  # noqa: B018 - hashes all of it
        load_topics(str(main), split)
    list(found.corpus)


def imported(name: str) -> Read:
    """An import of one format; all that it writes, our own readers take."""

    def read(folder: Path, main: Path) -> None:
        output = folder / "imported.out"
        made = import_file(main, ImportOptions(format=name), output=output)
        counts = made.results["files"]
        if main.is_file() and not made.dropped:
            _in_another_order(name, folder, main, counts)
        try:
            _check_import(output, counts)
        except InparsError as error:
            raise BrokenPromiseError(f"import wrote what is refused: {error}") from error

    assert name in FORMATS
    return read


def _in_another_order(name: str, folder: Path, main: Path, counts: dict[str, int]) -> None:
    """The same rows in another order come to as many records, unless that is refused or what is left out is counted."""
    other = folder / main.name
    try:
        other.write_bytes(shuffled(main.read_bytes(), main.name))
        made = import_file(other, ImportOptions(format=name), output=folder / "shuffled.out")
    except InparsError:
        return
    if not made.dropped:
        same("records by the order of rows", sum(counts.values()), sum(made.results["files"].values()))


def _check_import(output: Path, counts: dict[str, int]) -> None:
    for name, count in counts.items():
        if name.endswith(".jsonl"):
            same(f"records of {name}", count, len(strict_lines(output / name)))
    if (output / "corpus.jsonl").exists():
        same("documents imported", counts["corpus.jsonl"], len(Corpus(output / "corpus.jsonl")))
    if (output / "queries.jsonl").exists():
        same(
            "queries imported", counts["queries.jsonl"], sum(1 for _ in formats.read_queries(output / "queries.jsonl"))
        )
    for path in (output / "qrels").glob("*.tsv"):
        formats.read_qrels(path)
    if (output / "run.trec").exists():
        formats.read_run(output / "run.trec")
    if (output / "queries.synthetic.jsonl").exists():
        list(formats.read_synthetic_queries(output / "queries.synthetic.jsonl"))
    if (output / "triples.tsv").exists():
        list(read_triple_examples(triple_files(output / "triples.tsv"), None, None))


def document(folder: Path, main: Path) -> None:
    """A file of any kind to blocks; an error of our own code that was taken for damage is none of the file's."""
    try:
        found = extract(SourceFile(main, main.name, main.name), ReadOptions(id_column="id"), folder / "cache")
        blocks = list(found.blocks())
        same("blocks", found.count, len(blocks))
    except UnreadableFileError as error:
        cause = error.__cause__
        if isinstance(cause, PROGRAMMING_ERRORS) and _is_ours(cause):
            raise cause from None
        raise


PROGRAMMING_ERRORS = (AttributeError, LookupError, TypeError, NameError, AssertionError, OverflowError)


def _is_ours(error: BaseException) -> bool:
    """Whether our own code raised it, not a library below it."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and f"{Path('inpars', 'documents')}" in trace.tb_frame.f_code.co_filename
