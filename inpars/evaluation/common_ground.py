"""Whether a run and judgements have anything in common; if not, its measures are all 0 and say nothing of it."""

from __future__ import annotations

from collections.abc import Iterator

from inpars.evaluation.run_files import RunNotes
from inpars.records import Qrels, Run

QUOTE = '"'


def no_result(name: str, run: Run, qrels: Qrels, notes: RunNotes | None = None) -> str:
    """Why the measures of a run are no result, in words; empty where they are one.

    `notes` know of queries that nobody judged, which a run read for judging has not.
    """
    others = [query_id for query_id in run if query_id not in qrels] if notes is None else []
    stranger = next(iter(others), "") if notes is None else notes.first_unjudged
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
    return _quotes(name, results_of, qrels)


def _quotes(name: str, run: Run, qrels: Qrels) -> str:
    """Documents that are judged under an id in quotes and found without them, or the other way round."""
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
