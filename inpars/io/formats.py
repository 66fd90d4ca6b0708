"""Read and write the field's file formats: BEIR, MS MARCO, TREC, the InPars toolkit's JSON lines.

Readers stream. Their errors name the path, line and field. Ids become `str`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast, get_args

from inpars.errors import DataFormatError
from inpars.io.fields import (
    checked_id,
    field_error,
    finite_number,
    first_present,
    is_gap,
    split_tsv,
    text_of,
    whole_number,
)
from inpars.io.json_text import plain_json, replace_surrogates
from inpars.io.judgements import read_qrels, write_qrels  # noqa: F401 - re-exported
from inpars.io.record_files import IdChoices, RecordsForm, read_records, records_form
from inpars.io.runs import rank
from inpars.io.storage import read_jsonl_with_offsets, read_lines, write_jsonl, write_lines
from inpars.io.tables import (
    DOC_ID_FIELDS,
    DOCUMENT_TEXT_FIELDS,
    DOCUMENTS,
    QUERIES,
    QUERY_ID_FIELDS,
    QUERY_TEXT_FIELDS,
    RecordSchema,
    Table,
)
from inpars.progress import SILENT, Note
from inpars.records import Document, FinishReason, LogProbKind, Query, Run, ScoredDocument, SyntheticQuery

MAX_ROUNDED = 0.01  # tolerance above 0 for a rounded log-probability
MAX_LOG_PROB = 1e300  # keeps sums of log-probabilities finite
LOWEST_LOG_PROB = -3.4028234663852886e38  # float32's minimum, written for minus infinity, which JSON lacks
LOG_PROB_DIGITS = 6  # decimals in files; the contract's tolerance is 1e-4
SCORE_DIGITS = 6  # decimals of a run's scores
SCORE_STEP = 1e-5  # minimum gap between neighbours: trec_eval uses float32, whose spacing below 128 is 7.6e-6
SCORE_STEP_RATIO = 2.0**-22  # minimum gap relative to larger scores, whose float32 spacing is at most 2**-23
LAST_RANK = 2**24  # ranks are compared in float32, where larger ones are not distinct


def read_documents(path: Path, note: Note = SILENT.note) -> Iterator[Document]:
    """Documents of a file in any format of `record_files`, compressed or not; guesses are noted."""
    form = records_form(path, DOCUMENTS)
    if form.table is not None and form.is_plain_table:
        for remark in form.remarks:
            note(remark)
        for number, line in read_lines(path):
            yield document_from_tsv(line, path, number, form.table)
        return
    for number, record in _noted_records(path, form, DOCUMENTS, note):
        yield parse_document(record, path, number)


def _noted_records(
    path: Path, form: RecordsForm, schema: RecordSchema, note: Note
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The records with their line numbers; guesses are noted."""
    for remark in form.remarks:
        note(remark)
    choices = IdChoices(schema.ids)
    for number, record in read_records(path, form, schema):
        if (choice := choices.new(record)) is not None:
            note(f"{path}:{number}: {choice}")
        yield number, record


def document_from_tsv(line: str, path: Path, number: int, table: Table) -> Document:
    """The document on one line of a tab-separated corpus without a header."""
    cells = split_tsv(line, path, number, minimum=2)
    if table.names[1] != "text":
        return parse_document(table.row(cells, path, number), path, number)
    if len(cells) > len(table.names):
        raise table.too_wide(cells, path, number)
    return Document(checked_id(cells[0], path, number), cells[1], cells[2] if len(cells) > 2 else "")


def parse_document(record: Mapping[str, Any], path: Path, number: int) -> Document:
    """The document of one JSON object or table row."""
    doc_id = checked_id(first_present(record, DOC_ID_FIELDS, path, number), path, number)
    text = text_of(record, DOCUMENT_TEXT_FIELDS, path, number)
    title = record.get("title") or ""
    if not isinstance(title, str):
        if not is_gap(title):
            raise field_error("must be text", "title", title, path, number)
        title = ""
    metadata = record.get("metadata")
    return Document(doc_id, text, replace_surrogates(title), plain_json(metadata) if isinstance(metadata, dict) else {})


def write_documents(path: Path, documents: Iterable[Document]) -> int:
    """Write BEIR's corpus format and return the number of documents."""
    return write_jsonl(path, map(document_record, documents))


def document_record(document: Document) -> dict[str, Any]:
    """A document in BEIR's format, with its metadata, if any."""
    record: dict[str, Any] = {"_id": document.doc_id, "title": document.title, "text": document.text}
    return record | {"metadata": dict(document.metadata)} if document.metadata else record


def read_queries(path: Path, note: Note = SILENT.note) -> Iterator[Query]:
    """Queries of a file in any format of `record_files`; guesses are noted. Raises DataFormatError."""
    seen: set[str] = set()
    for number, record in _noted_records(path, records_form(path, QUERIES), QUERIES, note):
        query_id = checked_id(first_present(record, QUERY_ID_FIELDS, path, number), path, number)
        _reject_duplicate(query_id, seen, path, number)
        yield Query(query_id, text_of(record, QUERY_TEXT_FIELDS, path, number))


def _reject_duplicate(query_id: str, seen: set[str], path: Path, number: int) -> None:
    if query_id in seen:
        raise DataFormatError("duplicate query id; ids must be unique", path=path, line=number, excerpt=query_id)
    seen.add(query_id)


def write_queries(path: Path, queries: Iterable[Query]) -> int:
    """Write BEIR's query format and return the number of queries."""
    return write_jsonl(path, ({"_id": q.query_id, "text": q.text} for q in queries))


def read_run(path: Path) -> Run:
    """A run in TREC's six columns or MS MARCO's three (query id, document id, rank; the score is minus the rank).

    Raises DataFormatError for a document that is ranked twice for a query.
    """
    run: Run = {}
    for number, scored in iterate_run(path):
        scores = run.setdefault(scored.query_id, {})
        if scored.doc_id in scores:
            problem = f"document {scored.doc_id!r} is ranked twice for query {scored.query_id!r}"
            raise DataFormatError(problem, path=path, line=number)
        scores[scored.doc_id] = scored.score
    return run


def iterate_run(path: Path) -> Iterator[tuple[int, ScoredDocument]]:
    """The line numbers and results of a TREC or MS MARCO run."""
    return ((number, parse_run_line(line, path, number)[0]) for number, line in read_lines(path))


def parse_run_line(line: str, path: Path, number: int) -> tuple[ScoredDocument, bool]:
    """The result on one line of a run, and whether its score is minus the rank of MS MARCO's format."""
    fields = line.split()
    if len(fields) == line.count("\t") + 1 == 3:
        query_id, doc_id, rank_text = fields
        position = whole_number(rank_text, path, number, field="rank", least=1, most=LAST_RANK)
        return ScoredDocument(query_id, doc_id, -float(position)), True
    if len(fields) != 6:
        raise DataFormatError(
            f"{len(fields)} columns, a TREC run has 6: query Q0 document rank score tag",
            path=path,
            line=number,
            excerpt=line,
        )
    query_id, _, doc_id, _, score, _ = fields
    return ScoredDocument(query_id, doc_id, finite_number(score, path, number)), False


def write_run(path: Path, run: Run, tag: str) -> int:
    """Write a TREC run in rank order and return the number of lines.

    Scores too close for float32 are lowered so that every reader keeps the order.
    """
    return write_lines(path, run_lines(run, tag))


def run_lines(run: Run, tag: str) -> Iterator[str]:
    """The lines of a TREC run, best first per query; blanks in the tag become `_`."""
    tag = "_".join(replace_surrogates(tag).split()) or "run"
    for query_id, scores in run.items():
        limit = math.inf
        for position, (doc_id, score) in enumerate(rank(scores), start=1):
            above = min(round(score, SCORE_DIGITS), limit)
            limit = above - max(SCORE_STEP, abs(above) * SCORE_STEP_RATIO)
            yield f"{query_id} Q0 {doc_id} {position} {above:.{SCORE_DIGITS}f} {tag}"


def as_stored(run: Run) -> Run:
    """The run as read back from its TREC file, so that results do not depend on whether it was stored."""
    stored: Run = {}
    for number, line in enumerate(run_lines(run, "run"), start=1):
        row, _ = parse_run_line(line, Path("run"), number)
        stored.setdefault(row.query_id, {})[row.doc_id] = row.score
    return stored


def read_synthetic_queries(path: Path) -> Iterator[SyntheticQuery]:
    """Synthetic queries in our format or the InPars toolkit's (v1 `question`/`doc_text`, v2 `query`/`text`)."""
    return (query for query, _ in read_synthetic_records(path))


def read_synthetic_records(
    path: Path, amend: Callable[[dict[str, Any]], dict[str, Any]] = dict
) -> Iterator[tuple[SyntheticQuery, dict[str, Any]]]:
    """Like `read_synthetic_queries`, each with its JSON object; `amend` may fix the object first."""
    return ((query, record) for query, record, _ in read_synthetic_with_offsets(path, amend))


def read_synthetic_with_offsets(
    path: Path, amend: Callable[[dict[str, Any]], dict[str, Any]] = dict
) -> Iterator[tuple[SyntheticQuery, dict[str, Any], int]]:
    """Like `read_synthetic_records`, each with the byte offset of its line in the unpacked file."""
    counts: Counter[str] = Counter()  # per document
    seen: set[str] = set()
    for start, number, fields in read_jsonl_with_offsets(path):
        record = amend(fields)
        doc_id = checked_id(first_present(record, ("doc_id",), path, number), path, number)
        stored_id = record.get("query_id")
        query_id = checked_id(f"{doc_id}-q{counts[doc_id]}" if stored_id in (None, "") else stored_id, path, number)
        counts[doc_id] += 1
        _reject_duplicate(query_id, seen, path, number)
        yield synthetic_query(record, query_id, doc_id, path, number), record, start


def synthetic_query(
    record: Mapping[str, Any], query_id: str, doc_id: str, path: Path, number: int | None = None
) -> SyntheticQuery:
    """The synthetic query of one record. Raises DataFormatError."""
    values = record.get("log_probs")
    if values is not None and not (isinstance(values, list) and all(map(is_log_prob, values))):
        raise field_error("must be a list of numbers", "log_probs", values, path, number)
    stop = record.get("stop_log_prob")
    if stop is not None and not is_log_prob(stop):
        raise field_error("must be a number", "stop_log_prob", stop, path, number)
    for name, log_probs in (("log_probs", values or ()), ("stop_log_prob", () if stop is None else (stop,))):
        if (highest := max(log_probs, default=0)) > MAX_ROUNDED:
            problem = "above 0, which no log-probability is; write -x for a loss of x"
            raise field_error(problem, name, highest, path, number)
    kind = record.get("log_prob_kind") or ("absent" if values is None else "raw")
    reason = record.get("finish_reason") or "stop"
    if kind not in get_args(LogProbKind) or reason not in get_args(FinishReason):
        raise DataFormatError(
            "unknown log_prob_kind or finish_reason", path=path, line=number, excerpt=f"{kind}, {reason}"
        )
    return SyntheticQuery(
        query_id=query_id,
        doc_id=doc_id,
        text=text_of(record, ("query", "question"), path, number),
        token_log_probs=tuple(map(float, values or ())),
        stop_log_prob=stop,
        finish_reason=cast(FinishReason, reason),
        log_prob_kind=cast(LogProbKind, kind),
        prompt=str(record.get("prompt") or ""),
        model=str(record.get("model") or ""),
        token_ids=_token_ids(record.get("token_ids"), path, number),
        grades=_grades(record.get("grades"), doc_id, path, number),
    )


def is_log_prob(value: object) -> bool:
    """Whether a value is a number in the range of log-probabilities, minus infinity included."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return value == -math.inf or -MAX_LOG_PROB < value < MAX_LOG_PROB


def _token_ids(values: object, path: Path, number: int | None) -> tuple[int, ...]:
    if values is None:
        return ()
    if not isinstance(values, list) or not all(type(value) in (int, float) and value % 1 == 0 for value in values):
        raise field_error("must be a list of whole numbers", "token_ids", values, path, number)
    return tuple(map(int, values))


def _grades(values: object, doc_id: str, path: Path, number: int | None) -> dict[str, int]:
    if values is None:
        return {}
    whole = isinstance(values, dict) and all(type(grade) is int and grade > 0 for grade in values.values())
    if not whole or not isinstance(values, dict) or values.get(doc_id) != max(values.values(), default=0):
        problem = "must be grades above 0 by document id, of which doc_id has the highest"
        raise field_error(problem, "grades", values, path, number)
    return {checked_id(key, path, number or 0): grade for key, grade in values.items()}


def synthetic_query_record(query: SyntheticQuery, document: Document | None = None) -> dict[str, Any]:
    """A synthetic query as a JSON object; `text` is the document's, as in the InPars toolkit."""
    stop = query.stop_log_prob
    record: dict[str, Any] = {"query_id": query.query_id, "doc_id": query.doc_id, "query": query.text}
    record["log_probs"] = None if query.log_prob_kind == "absent" else _rounded(query.token_log_probs)
    if query.token_ids:
        record["token_ids"] = list(query.token_ids)
    record["stop_log_prob"] = None if stop is None else _rounded([stop])[0]
    record["finish_reason"] = query.finish_reason
    record["log_prob_kind"] = query.log_prob_kind
    record["prompt"], record["model"] = query.prompt, query.model
    if query.grades:
        record["grades"] = dict(query.grades)
    if document is not None:
        record["text"] = document.full_text
    return record


def _rounded(values: Iterable[float]) -> list[float]:
    return [round(max(value, LOWEST_LOG_PROB), LOG_PROB_DIGITS) for value in values]
