"""Read runs for evaluation, count their faults, and optionally rank by file order instead of scores.

A duplicate document counts at its first position. Ranks are only compared with scores, except in MS MARCO's format of
three columns (query id, document id, rank), which has no scores. Seven million lines take seconds.
"""

from __future__ import annotations

from array import array
from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np

from inpars.io.fields import MAX_DIGITS
from inpars.io.formats import parse_run_line, read_run
from inpars.io.storage import decode_line, open_lines
from inpars.progress import Note
from inpars.records import Qrels, Run

Order: TypeAlias = Literal["score", "file"]
"""What ranks the results: scores, with trec_eval's rule for ties, or the order of lines, as in MS MARCO's script."""

NO_RANK = -1
COLUMNS = 6
TOP = 10  # depth to which ties are counted
QUOTE = '"'


@dataclass(frozen=True, slots=True)
class RunNotes:
    """Peculiarities of a run file that matter when reading its measures."""

    tag: str = ""  # run tag of the first line
    results: int = 0  # lines of judged queries
    twice: int = 0  # lines that repeat a document of their query
    misordered: tuple[str, ...] = ()  # queries whose ranks contradict their scores, or the lines if these rank
    tied: int = 0  # queries with equal float32 scores among the first ten
    unjudged_queries: int = 0  # queries without judgements: not measured
    first_unjudged: str = ""  # the first of these queries


@dataclass(frozen=True, slots=True)
class CheckedRun:
    """A run of the judged queries, with notes on its file."""

    run: Run
    notes: RunNotes


@dataclass(slots=True)
class _Results:
    scores: dict[str, float] = field(default_factory=dict)
    ranks: array[int] = field(default_factory=lambda: array("q"))
    has_scores: bool = True


def read_checked_run(path: Path, judged: Container[str] | None = None, order: Order = "score") -> CheckedRun:
    """Read the results of the judged queries (default: all queries). Raises DataFormatError for malformed lines."""
    results_of: dict[str, _Results] = {}
    others: dict[str, None] = {}
    lines = twice = 0
    for query_id, doc_id, rank, score in _rows(path):
        results = results_of.get(query_id)
        if results is None:
            if judged is not None and query_id not in judged:
                others[query_id] = None
                continue
            results = results_of[query_id] = _Results()
        lines += 1
        if doc_id in results.scores:
            twice += 1
            continue
        results.ranks.append(rank)
        if score is None:
            results.has_scores = False
        results.scores[doc_id] = -float(rank) if score is None else score
    notes = RunNotes(
        tag=_tag(path),
        results=lines,
        twice=twice,
        misordered=tuple(query_id for query_id, results in results_of.items() if _disagree(results, order)),
        tied=sum(_has_ties(results) for results in results_of.values()),
        unjudged_queries=len(others),
        first_unjudged=next(iter(others), ""),
    )
    return CheckedRun({query_id: _ordered(results, order) for query_id, results in results_of.items()}, notes)


def read_ordered_run(path: Path, note: Note) -> Run:
    """A run as `read_run` reads it; notes ranks that contradict its scores, which may be distances."""
    checked = read_checked_run(path)
    if checked.notes.twice:
        return read_run(path)  # raises
    if wrong := checked.notes.misordered:
        note(
            f"{path}: rank and score disagree for {len(wrong)} of {len(checked.run)} queries, {wrong[0]!r} first; the "
            "highest score ranks first here: negate distances"
        )
    return checked.run


def _rows(path: Path) -> Iterator[tuple[str, str, int, float | None]]:
    """Yield query id, document id, rank (-1 if not a number) and score (None in three columns) of each line."""
    latest, query_id = b"", ""
    with open_lines(path) as stream:
        for number, raw in enumerate(stream, start=1):
            try:
                query, _, doc_id, rank, score, _ = raw.split()
                value = float(score)
                if value - value != 0.0 or len(rank) > MAX_DIGITS or b"_" in score or not raw.isascii():
                    raise ValueError  # not finite, or Python's reading may differ from trec_eval's
                if query != latest:
                    latest, query_id = query, query.decode()
                yield query_id, doc_id.decode(), int(rank), value
            except ValueError:  # UnicodeDecodeError too
                latest = b""
                line = decode_line(raw, path, number)
                if line.strip():
                    yield _parse_carefully(line, path, number)


def _parse_carefully(line: str, path: Path, number: int) -> tuple[str, str, int, float | None]:
    scored, is_ranked = parse_run_line(line, path, number)
    if is_ranked:
        return scored.query_id, scored.doc_id, int(-scored.score), None
    rank_field = line.split()[3].encode()
    rank = int(rank_field) if rank_field.isdigit() and len(rank_field) <= MAX_DIGITS else NO_RANK
    return scored.query_id, scored.doc_id, rank, scored.score


def _tag(path: Path) -> str:
    with open_lines(path) as stream:
        for number, raw in enumerate(stream, start=1):
            fields = decode_line(raw, path, number).split()
            if fields:
                return fields[-1] if len(fields) == COLUMNS else ""
    return ""


def _disagree(results: _Results, order: Order) -> bool:
    """Whether a later rank has a higher score or, if lines rank, an earlier line; False if ranks are no numbers."""
    if not results.has_scores:
        return False
    ranks = np.frombuffer(results.ranks, dtype=np.int64)
    if (ranks == NO_RANK).any():
        return False
    if order == "file" and (ranks[1:] < ranks[:-1]).any():
        return True
    by_rank = np.argsort(ranks, kind="stable")
    with np.errstate(over="ignore"):
        scores = np.fromiter(results.scores.values(), dtype=np.float32, count=len(ranks))[by_rank]
    later = ranks[by_rank][1:] > ranks[by_rank][:-1]
    return bool((later & (scores[1:] > scores[:-1])).any())


def _has_ties(results: _Results) -> bool:
    """Whether two of the first eleven results have the same score."""
    with np.errstate(over="ignore"):
        scores = np.fromiter(results.scores.values(), dtype=np.float32, count=len(results.scores))
    first = np.sort(scores)[::-1][: TOP + 1]
    return bool((first[1:] == first[:-1]).any())


def _ordered(results: _Results, order: Order) -> dict[str, float]:
    """The scores; by file order, the negated positions in their place."""
    if order == "score":
        return results.scores
    doc_ids = list(results.scores)
    if not results.has_scores:
        ranks = results.ranks
        doc_ids = [doc_ids[position] for position in sorted(range(len(doc_ids)), key=lambda position: ranks[position])]
    return {doc_id: -float(position) for position, doc_id in enumerate(doc_ids, start=1)}


def no_result(name: str, run: Run, qrels: Qrels, notes: RunNotes | None = None) -> str:
    """Explain why the measures of a run are meaningless; empty if they are not.

    Give `notes` with a run of `read_checked_run`, which holds no unjudged queries.
    """
    first_unjudged = next((query_id for query_id in run if query_id not in qrels), "")
    stranger = first_unjudged if notes is None else notes.first_unjudged
    results_of = {query_id: run[query_id] for query_id in qrels if run.get(query_id)}
    if not results_of and not stranger:
        return f"{name} has no results"
    if not results_of:
        judged = next(iter(qrels))
        return (
            f"{name} has none of the {len(qrels):,} judged queries (judged is {judged!r}, the run has {stranger!r}); "
            "give the judgements of its queries"
        )
    if not any(doc_id in qrels[query_id] for query_id, scores in results_of.items() for doc_id in scores):
        query_id = next(iter(results_of))
        judged, first = next(iter(qrels[query_id]), ""), next(iter(results_of[query_id]))
        results = sum(map(len, results_of.values()))
        return (
            f"none of the {results:,} results of {name} is judged (for query {query_id!r} {judged!r} is judged, the "
            f"run has {first!r}); give the judgements of its documents"
        )
    return _quote_mismatch(name, results_of, qrels)


def _quote_mismatch(name: str, run: Run, qrels: Qrels) -> str:
    """Report document ids that are quoted in the qrels and not in the run, or the reverse."""
    met = sum(is_quoted(doc_id) and doc_id in run[query_id] for query_id in run for doc_id in qrels[query_id])
    missed = list(_missed_by_quotes(run, qrels))
    if len(missed) <= met:
        return ""
    judged, other = missed[0]
    return (
        f"{len(missed):,} results of {name} are judged under an id that differs in quotes alone (judged is {judged}, "
        f"the run has {other}); write both alike"
    )


def _missed_by_quotes(run: Run, qrels: Qrels) -> Iterator[tuple[str, str]]:
    for query_id, scores in run.items():
        for doc_id in qrels[query_id]:
            other = doc_id[1:-1] if is_quoted(doc_id) else f"{QUOTE}{doc_id}{QUOTE}"
            if doc_id not in scores and other in scores:
                yield doc_id, other


def is_quoted(doc_id: str) -> bool:
    """Whether an id is in double quotes."""
    return len(doc_id) > 2 and doc_id[0] == doc_id[-1] == QUOTE
