"""Evaluate runs against qrels with `ir_measures`, which calls trec_eval.

Documents are ranked as trec_eval ranks them. A judged query without results scores 0 and is counted as missing.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

import ir_measures
import numpy as np

from inpars.batches import slices
from inpars.errors import BackendError, ConfigError
from inpars.io.judgements import GRADE_LIMIT, checked_grade
from inpars.io.runs import rank
from inpars.records import Qrels, Run

BETWEEN = re.compile(r"[\s,]+(?![^()]*\))")  # blanks and commas outside parentheses
BASE = re.compile(r"\w+")


def split_measures(text: str) -> list[str]:
    """`nDCG@10, ERR(dcg='exp-log2',max_rel=3)@20` as two."""
    return [name for name in BETWEEN.split(text.strip()) if name]


def in_notation(name: str) -> str:
    """Spell a measure as ir_measures does, `ndcg@10` as `nDCG@10`; unknown names are returned unchanged."""
    if (base := BASE.match(name)) is None or base[0] in _names():
        return name
    known = {other.lower(): other for other in sorted(_names(), key=_is_first_name)}
    return known.get(base[0].lower(), base[0]) + name[base.end() :]


def nearest_measure(name: str) -> str | None:
    """Suggest a measure for an unknown name: translate trec_eval's notation, else take the closest spelling."""
    try:
        return str(ir_measures.parse_trec_measure(name)[0])
    except (NameError, ValueError, IndexError, KeyError):
        pass
    base = BASE.match(name)
    close = difflib.get_close_matches(base[0].lower(), [other.lower() for other in _names()], n=1) if base else []
    return in_notation(close[0]) + name[base.end() :] if base and close else None


def _is_first_name(name: str) -> bool:
    """Whether this is the main name of the measure and no alias (`NDCG` is an alias of `nDCG`)."""
    return bool(name == ir_measures.measures.registry[name].NAME)


def _names() -> frozenset[str]:
    return frozenset(ir_measures.measures.registry)


DEFAULT_METRICS = ("nDCG@10", "RR@10", "R@100")
DEPTH_LIMIT = 1_000_000  # largest cutoff of a measure
JUDGED_DEPTH = 10  # cutoff of Judged@10
QUERIES_PER_BLOCK = 256  # rankings in memory at once
BY_SUBTOPIC = "ir_measures.measures.diversity"  # module of the measures that need judgements per subtopic
UNJUDGED_GRADE = -1  # this or lower: pooled but not judged
Value = TypeVar("Value", int, float)
NO_DOCUMENT = "no document"  # contains a blank, so no file can have this id


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The measures of one run, as means over all judged queries and per query."""

    means: dict[str, float]  # measure -> mean over judged queries
    per_query: dict[str, dict[str, float]]  # measure -> query_id -> value
    queries: int
    missing: int  # judged queries without results; each scores 0
    judged_at_10: float | None = None  # Judged@10, mean over queries with results


def parse_metrics(names: str | Sequence[str]) -> list[str]:
    """Parse measures in ir_measures' notation, `nDCG@10` or `RR(rel=2)@10`; case and separating commas are ignored.

    Raises ConfigError for unknown or unsupported measures, with a suggestion.
    """
    measures = split_measures(names) if isinstance(names, str) else list(names)
    measures = list(dict.fromkeys(map(in_notation, measures)))
    unknown = [name for name in measures if not _is_measure(name)]
    if unknown or not measures:
        near = [nearest for name in unknown if (nearest := nearest_measure(name)) is not None]
        guess = f"; did you mean {', '.join(near)}?" if near else ""
        raise ConfigError(
            f"unknown measure {', '.join(unknown) or 'list, it is empty'}{guess} (try: nDCG@10 RR@10 R@100 AP P@10)"
        )
    if beyond := [name for name in measures if not _is_within_limits(ir_measures.parse_measure(name))]:
        limits = f"depths run from 1 to {DEPTH_LIMIT:,}, the least relevant grade (rel) from 1 to {GRADE_LIMIT:,}"
        raise ConfigError(f"{', '.join(beyond)}: {limits}")
    if by_subtopic := [name for name in measures if type(ir_measures.parse_measure(name)).__module__ == BY_SUBTOPIC]:
        raise ConfigError(f"{', '.join(by_subtopic)}: needs judgements by subtopic, which are not read here")
    if beyond := [name for name in measures if not _is_supported(ir_measures.parse_measure(name))]:
        raise ConfigError(f"nothing installed here computes {', '.join(beyond)}; name measures without it")
    return measures


def evaluate(run: Run, qrels: Qrels, metrics: Sequence[str] = DEFAULT_METRICS) -> Evaluation:
    """Evaluate a run on every judged query. Raises ConfigError for empty qrels and for grades out of range."""
    if not qrels:
        raise ConfigError("there are no judgements to evaluate with")
    try:
        for grade in {grade for grades in qrels.values() for grade in grades.values()}:
            checked_grade(grade)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    measures = {name: ir_measures.parse_measure(name) for name in parse_metrics(metrics)}
    per_query = {name: dict.fromkeys(qrels, 0.0) for name in measures}
    judged_shares = []
    for block in slices([query_id for query_id in qrels if run.get(query_id)], QUERIES_PER_BLOCK):
        ranked = [_ranked(run[query_id]) for query_id in block]
        judged_shares += [judged_share(first, qrels[query_id]) for query_id, first in zip(block, ranked, strict=True)]
        grades = {str(key): _for_trec_eval(_safe_grades(qrels[query_id])) for key, query_id in enumerate(block)}
        rankings = {str(key): _for_trec_eval(scores) for key, scores in enumerate(ranked)}
        for name, key, value in _values(measures, rankings, grades):
            per_query[name][block[int(key)]] = value
    means = {name: math.fsum(values.values()) / len(values) for name, values in per_query.items()}
    judged = math.fsum(judged_shares) / len(judged_shares) if judged_shares else None
    return Evaluation(means, per_query, len(qrels), len(qrels) - len(judged_shares), judged)


def judged_part(run: Run, qrels: Qrels) -> Run:
    """The run without unjudged documents and those with grades below 0, as with trec_eval's -J."""
    return {
        query_id: {
            doc_id: score for doc_id, score in scores.items() if qrels[query_id].get(doc_id, UNJUDGED_GRADE) >= 0
        }
        for query_id, scores in run.items()
        if query_id in qrels
    }


def _safe_grades(grades: dict[str, int]) -> dict[str, int]:
    """Equivalent grades that trec_eval accepts: it fails on a query whose grades are all below 0."""
    if min(grades.values(), default=UNJUDGED_GRADE) >= 0:
        return grades
    safe = {doc_id: max(grade, UNJUDGED_GRADE) for doc_id, grade in grades.items()}
    return safe if max(safe.values(), default=UNJUDGED_GRADE) >= 0 else safe | {NO_DOCUMENT: 0}


def _for_trec_eval(documents: dict[str, Value]) -> dict[str, Value]:
    """Replace NUL in document ids, which ends a string in trec_eval's C code."""
    if "\0" not in "".join(documents):
        return documents
    return {doc_id.replace("\0", " 0 "): value for doc_id, value in documents.items()}


def _values(measures: Mapping[str, Any], ranked: Run, grades: Qrels) -> Iterator[tuple[str, str, float]]:
    """Yield (measure name, query key, value); rankings are cut to each measure's depth to save time."""
    depths: dict[int | None, dict[Any, list[str]]] = {}
    for name, measure in measures.items():  # aliases such as RR and MRR are one measure
        depths.setdefault(_depth(measure), {}).setdefault(measure, []).append(name)
    for depth, names in depths.items():
        rankings = {query_id: dict(islice(scores.items(), depth)) for query_id, scores in ranked.items()}
        try:
            values = list(ir_measures.iter_calc(list(names), grades, rankings))
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            measure_names = ", ".join(name for aliases in names.values() for name in aliases)
            raise BackendError(f"{measure_names} could not be computed by ir_measures ({reason})") from error
        yield from ((name, value.query_id, float(value.value)) for value in values for name in names[value.measure])


def _depth(measure: Any) -> int | None:
    """How many results a measure needs, None for all: one over judged documents alone may need any number."""
    judged_only = measure.params.get("judged_only", False)
    return None if judged_only else measure.params.get("cutoff")


def judged_share(ranked: Mapping[str, float], grades: Mapping[str, int], depth: int = JUDGED_DEPTH) -> float:
    """Share of the first `depth` results that are judged, relevant or not."""
    first = list(islice(ranked, depth))
    return sum(doc_id in grades for doc_id in first) / len(first)


def _ranked(scores: Mapping[str, float]) -> dict[str, float]:
    """Rank as trec_eval does (float32 scores, ties by descending doc_id), with new scores that have no ties.

    The providers of ir_measures break ties differently.
    """
    doc_ids = list(scores)
    with np.errstate(over="ignore"):  # scores beyond float32 become infinite, as in trec_eval
        values = np.fromiter(scores.values(), dtype=np.float32, count=len(doc_ids))
    order = np.argsort(-values, kind="stable")
    if len(np.unique(values)) < len(values):
        ordered = [doc_id for doc_id, _ in rank(dict(zip(doc_ids, values.tolist(), strict=True)))]
    else:
        ordered = [doc_ids[index] for index in order.tolist()]
    return {doc_id: -float(position) for position, doc_id in enumerate(ordered, start=1)}


def _is_measure(name: str) -> bool:
    try:
        ir_measures.parse_measure(name)
    except (NameError, ValueError, TypeError, AttributeError, SyntaxError):
        return False
    return True


def _is_within_limits(measure: Any) -> bool:
    """Whether trec_eval accepts the cutoff and the relevance threshold; larger ones crash it."""
    cutoff, relevant = measure.params.get("cutoff", 1), measure.params.get("rel", 1)
    return bool(1 <= cutoff <= DEPTH_LIMIT and 1 <= relevant <= GRADE_LIMIT)


def _is_supported(measure: Any) -> bool:
    providers = ir_measures.DefaultPipeline.providers
    try:
        return any(provider.is_available() and provider.supports(measure) for provider in providers)
    except AssertionError:  # a required parameter is missing
        return False
