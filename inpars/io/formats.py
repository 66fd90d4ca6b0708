"""The file formats of the field, to records and back: BEIR, MS MARCO, TREC, the InPars toolkit's JSON lines.

Readers stream and name the path, line and field of what they reject. Ids become `str`. Knows nothing of stages.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast, get_args

from inpars.errors import DataFormatError
from inpars.io.fields import checked_id, finite_number, first_present, is_gap, split_tsv, text_of, whole_number
from inpars.io.json_text import plain_json, replace_surrogates
from inpars.io.judgements import read_qrels, write_qrels  # noqa: F401 - they are imported from here too
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

MAX_ROUNDED = 0.01  # a log-probability of 0 as rounding may leave it
MAX_LOG_PROB = 1e300  # so that their sum is a number; models write none of the kind
LOWEST_LOG_PROB = -3.4028234663852886e38  # float32's, for the minus infinity that JSON does not have
LOG_PROB_DIGITS = 6  # decimals kept in files; the contract's tolerance is 1e-4
SCORE_DIGITS = 6  # decimals of a run's scores
SCORE_STEP = 1e-5  # least gap between neighbours: trec_eval compares in float32, whose spacing below 128 is 7.6e-6
LAST_RANK = 2**24  # float32, which ranks are compared in, tells no larger ones apart
SCORE_STEP_RATIO = 2.0**-22  # the same for larger scores: float32 spacing is at most 2**-23 of the number


def read_documents(path: Path, note: Note = SILENT.note) -> Iterator[Document]:
    """Documents of a file in any form of `record_files`, packed or not; what had to be guessed is noted."""
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
    """The records with their lines; what had to be guessed is noted."""
    for remark in form.remarks:
        note(remark)
    choices = IdChoices(schema.ids)
    for number, record in read_records(path, form, schema):
        if (choice := choices.new(record)) is not None:
            note(f"{path}:{number}: {choice}")
        yield number, record


def document_from_tsv(line: str, path: Path, number: int, table: Table) -> Document:
    """One line of a tab-separated corpus without a header."""
    cells = split_tsv(line, path, number, minimum=2)
    if table.names[1] != "text":
        return parse_document(table.row(cells, path, number), path, number)
    if len(cells) > len(table.names):
        raise table.too_wide(cells, path, number)
    return Document(checked_id(cells[0], path, number), cells[1], cells[2] if len(cells) > 2 else "")


def parse_document(record: Mapping[str, Any], path: Path, number: int) -> Document:
    """One JSON object, or one row of a table, as a document."""
    doc_id = checked_id(first_present(record, DOC_ID_FIELDS, path, number), path, number)
    text = text_of(record, DOCUMENT_TEXT_FIELDS, path, number)
    title = record.get("title") or ""
    if not isinstance(title, str):
        if not is_gap(title):
            raise DataFormatError("must be text", path=path, line=number, field="title", excerpt=repr(title))
        title = ""
    metadata = record.get("metadata")
    return Document(doc_id, text, replace_surrogates(title), plain_json(metadata) if isinstance(metadata, dict) else {})


def write_documents(path: Path, documents: Iterable[Document]) -> int:
    """Write BEIR's corpus form and return the number of documents; metadata where there is any."""
    return write_jsonl(path, map(document_record, documents))


def document_record(document: Document) -> dict[str, Any]:
    """BEIR's form of a document."""
    record: dict[str, Any] = {"_id": document.doc_id, "title": document.title, "text": document.text}
    return record | {"metadata": dict(document.metadata)} if document.metadata else record


def read_queries(path: Path, note: Note = SILENT.note) -> Iterator[Query]:
    """Queries of a file in any form of `record_files`; a duplicate id is an error, what had to be guessed is noted."""
    seen: set[str] = set()
    for number, query in numbered_queries(path, note):
        _reject_twin(query.query_id, seen, path, number)
        yield query


def _reject_twin(query_id: str, seen: set[str], path: Path, number: int) -> None:
    if query_id in seen:
        raise DataFormatError("duplicate query id; ids must be unique", path=path, line=number, excerpt=query_id)
    seen.add(query_id)


def numbered_queries(path: Path, note: Note = SILENT.note) -> Iterator[tuple[int, Query]]:
    """As `read_queries`, each with its line, and twins among them."""
    for number, record in _noted_records(path, records_form(path, QUERIES), QUERIES, note):
        query_id = checked_id(first_present(record, QUERY_ID_FIELDS, path, number), path, number)
        yield number, Query(query_id, text_of(record, QUERY_TEXT_FIELDS, path, number))


def write_queries(path: Path, queries: Iterable[Query]) -> int:
    """Write BEIR's query form and return the number of queries."""
    return write_jsonl(path, ({"_id": q.query_id, "text": q.text} for q in queries))


def read_run(path: Path) -> Run:
    """A TREC run: six columns, of which query id, document id and score are kept; duplicates are an error.

    Three columns with tabs between them are MS MARCO's form (query id, document id, rank): the score is then minus the
    rank.
    """
    run: Run = {}
    for number, scored in iterate_run(path):
        scores = run.setdefault(scored.query_id, {})
        if scored.doc_id in scores:
            raise twice_ranked(scored, path, number)
        scores[scored.doc_id] = scored.score
    return run


def twice_ranked(scored: ScoredDocument, path: Path, number: int) -> DataFormatError:
    """The error for a document that occurs twice for one query of a run."""
    problem = f"document {scored.doc_id!r} is ranked twice for query {scored.query_id!r}"
    return DataFormatError(problem, path=path, line=number)


def iterate_run(path: Path) -> Iterator[tuple[int, ScoredDocument]]:
    """The lines of a TREC or MS MARCO run with their numbers."""
    return ((number, parse_run_line(line, path, number)[0]) for number, line in read_lines(path))


def parse_run_line(line: str, path: Path, number: int) -> tuple[ScoredDocument, bool]:
    """One line of a run, and whether its score is minus the rank of MS MARCO's three columns."""
    fields = line.split()
    if len(fields) == line.count("\t") + 1 == 3:
        return _msmarco_result(fields, path, number), True
    if len(fields) != 6:
        raise DataFormatError(
            f"{len(fields)} columns, a TREC run has 6: query Q0 document rank score tag",
            path=path,
            line=number,
            excerpt=line,
        )
    query_id, _, doc_id, _, score, _ = fields
    return ScoredDocument(query_id, doc_id, finite_number(score, path, number)), False


def _msmarco_result(fields: list[str], path: Path, number: int) -> ScoredDocument:
    query_id, doc_id, rank_text = fields
    rank = whole_number(rank_text, path, number, field="rank", least=1, most=LAST_RANK)
    return ScoredDocument(query_id, doc_id, -float(rank))


def write_run(path: Path, run: Run, tag: str) -> int:
    """Write a TREC run in rank order and return the number of lines.

    Scores too close for float32 are pushed apart downwards, so that every reader keeps the order.
    """
    return write_lines(path, run_lines(run, tag))


def run_lines(run: Run, tag: str) -> Iterator[str]:
    """The lines of a TREC run, best first for each query; blanks in the tag become `_`."""
    tag = "_".join(replace_surrogates(tag).split()) or "run"
    for query_id, scores in run.items():
        limit = math.inf
        for position, (doc_id, score) in enumerate(rank(scores), start=1):
            above = min(round(score, SCORE_DIGITS), limit)
            limit = above - max(SCORE_STEP, abs(above) * SCORE_STEP_RATIO)
            yield f"{query_id} Q0 {doc_id} {position} {above:.{SCORE_DIGITS}f} {tag}"


def as_stored(run: Run) -> Run:
    """The run as its TREC file gives it back, so that what is made from it is what files would give."""
    stored: Run = {}
    for number, line in enumerate(run_lines(run, "run"), start=1):
        row, _ = parse_run_line(line, Path("run"), number)
        stored.setdefault(row.query_id, {})[row.doc_id] = row.score
    return stored


def read_synthetic_queries(path: Path) -> Iterator[SyntheticQuery]:
    """Synthetic queries of ours or of the InPars toolkit (v1 `question`/`doc_text`, v2 `query`/`text`)."""
    return (query for query, _ in read_synthetic_records(path))


def read_synthetic_records(
    path: Path, amend: Callable[[dict[str, Any]], dict[str, Any]] = dict
) -> Iterator[tuple[SyntheticQuery, dict[str, Any]]]:
    """As `read_synthetic_queries`, each with the whole JSON object it was read from, which `amend` may mend first."""
    return ((query, record) for query, record, _ in read_synthetic_with_offsets(path, amend))


def read_synthetic_with_offsets(
    path: Path, amend: Callable[[dict[str, Any]], dict[str, Any]] = dict
) -> Iterator[tuple[SyntheticQuery, dict[str, Any], int]]:
    """As `read_synthetic_records`, each with the byte (of the unpacked file) that its line begins at."""
    written: Counter[str] = Counter()
    seen: set[str] = set()
    for start, number, fields in read_jsonl_with_offsets(path):
        record = amend(fields)
        doc_id = checked_id(first_present(record, ("doc_id",), path, number), path, number)
        stored_id = record.get("query_id")
        query_id = checked_id(f"{doc_id}-q{written[doc_id]}" if stored_id in (None, "") else stored_id, path, number)
        written[doc_id] += 1
        _reject_twin(query_id, seen, path, number)
        yield synthetic_query(record, query_id, doc_id, path, number), record, start


def synthetic_query(
    record: Mapping[str, Any], query_id: str, doc_id: str, path: Path, number: int | None = None
) -> SyntheticQuery:
    """One record of a file of synthetic queries. Raises DataFormatError."""
    values = record.get("log_probs")
    if values is not None and not (isinstance(values, list) and all(map(is_log_prob, values))):
        excerpt = repr(values)
        raise DataFormatError("must be a list of numbers", path=path, line=number, field="log_probs", excerpt=excerpt)
    stop = record.get("stop_log_prob")
    if stop is not None and not is_log_prob(stop):
        raise DataFormatError("must be a number", path=path, line=number, field="stop_log_prob", excerpt=repr(stop))
    for name, given in (("log_probs", values or ()), ("stop_log_prob", () if stop is None else (stop,))):
        if (highest := max(given, default=0)) > MAX_ROUNDED:
            problem = "above 0, which no log-probability is; write -x for a loss of x"
            raise DataFormatError(problem, path=path, line=number, field=name, excerpt=repr(highest))
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
    """Whether that is a number that a log-probability can be; minus infinity can, NaN cannot."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return value == -math.inf or -MAX_LOG_PROB < value < MAX_LOG_PROB


def _token_ids(values: object, path: Path, number: int | None) -> tuple[int, ...]:
    if values is None:
        return ()
    if not isinstance(values, list) or not all(type(value) in (int, float) and value % 1 == 0 for value in values):
        excerpt = repr(values)
        raise DataFormatError(
            "must be a list of whole numbers", path=path, line=number, field="token_ids", excerpt=excerpt
        )
    return tuple(map(int, values))


def _grades(values: object, doc_id: str, path: Path, number: int | None) -> dict[str, int]:
    if values is None:
        return {}
    whole = isinstance(values, dict) and all(type(grade) is int and grade > 0 for grade in values.values())
    if not whole or not isinstance(values, dict) or values.get(doc_id) != max(values.values(), default=0):
        problem = "must be grades above 0 by document id, of which doc_id has the highest"
        raise DataFormatError(problem, path=path, line=number, field="grades", excerpt=repr(values))
    return {checked_id(key, path, number or 0): grade for key, grade in values.items()}


def synthetic_query_record(query: SyntheticQuery, document: Document | None = None) -> dict[str, Any]:
    """The JSON form of a synthetic query; `text` is the document's, as in the InPars toolkit's files."""
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
