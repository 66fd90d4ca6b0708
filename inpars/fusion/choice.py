"""How far a collection's own queries move the gate: each of them has one document that is known to answer it.

Written queries copy their documents' words, so that taken as they are they overrate BM25: those whose document BM25
finds first count less. The gate already knows how much of a query its first documents hold; what is left for the
collection is one number: the mean of all that were tried, each weighed by how well the queries rank their documents
with it and by how near it is to none. The best one alone would follow the noise of few queries.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from inpars.fusion.gate import Gate, QueryFeatures
from inpars.io.runs import completed, rank, z_scores
from inpars.records import Qrels, Run

DEPTH = 10  # nDCG@10 is what is chosen by
STEPS = 20  # shares of the bi-encoders that are tried, between 0 and 1
OFFSETS = tuple(step / 4 for step in range(-12, 13))
EVIDENCE = 2.0  # what an offset's log weight grows by for a query whose nDCG is 1 higher
DEVIATION = 1.0  # of offsets between collections, before any query is seen; assumed
EASY = 0.25  # what a query counts for whose document BM25 finds first

Table = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What was chosen, and what it was chosen from."""

    gate: Gate
    queries: int
    easy: int  # of them BM25 finds the document first; they count less
    curve: tuple[float, ...]  # mean nDCG@10 of the shares 0 to 1, the same for all queries
    offsets: tuple[float, ...]  # of the gate moved by each of OFFSETS
    chosen: float  # of the gate with its offset
    before: float  # of the gate without it
    equal: float  # of equal weights


@dataclass(frozen=True, slots=True)
class JudgedMix:
    """A choice with what each query says of it."""

    choice: Choice
    values: Table  # nDCG@10 per query
    weights: Table  # of the queries, 1 in sum


def judged_mix(
    gate: Gate,
    features: Mapping[str, QueryFeatures],
    lexical: Run,
    dense: Sequence[Run],
    qrels: Qrels,
    depth: int,
    weights: Mapping[str, float] | None = None,
    *,
    at: float | None = None,
) -> JudgedMix:
    """Choose the offset by queries with known answers; `dense` runs count alike, `depth` documents of each are read.

    `weights` say what each query counts for; without them easy ones count for `EASY` and all others for 1. `at` is an
    offset of `OFFSETS` that is chosen already.
    """
    query_ids = [query_id for query_id in features if qrels.get(query_id)]
    if not query_ids:
        nothing = Choice(gate=gate, queries=0, easy=0, curve=(), offsets=(), chosen=0.0, before=0.0, equal=0.0)
        return JudgedMix(nothing, np.zeros(0), np.zeros(0))
    words, *others = completed([lexical, *dense], [True, *[False] * len(dense)], depth)
    table = share_table(query_ids, words, others, qrels)
    easy = np.array([found_first(lexical.get(query_id, {}), qrels[query_id]) for query_id in query_ids])
    counts = np.where(easy, EASY, 1.0) if weights is None else np.array([weights[query_id] for query_id in query_ids])
    counts = counts / counts.sum()

    def of_each(offset: float) -> Table:
        moved = gate.moved(offset)
        return interpolated(table, np.array([moved.share(features[query_id]) for query_id in query_ids]))

    values = [float(counts @ of_each(offset)) for offset in OFFSETS]
    mean = posterior_mean(values, effective=1 / float((counts**2).sum())) if at is None else at
    best = min(range(len(OFFSETS)), key=lambda position: (abs(OFFSETS[position] - mean), abs(OFFSETS[position])))
    curve = tuple((counts @ table).tolist())
    choice = Choice(
        gate=gate.moved(OFFSETS[best]),
        queries=len(query_ids),
        easy=int(easy.sum()),
        curve=curve,
        offsets=tuple(values),
        chosen=values[best],
        before=values[OFFSETS.index(0.0)],
        equal=curve[STEPS // 2],
    )
    return JudgedMix(choice, of_each(OFFSETS[best]), counts)


def posterior_mean(values: Sequence[float], effective: float) -> float:
    """The mean of OFFSETS, weighed by their mean nDCG on so many queries and a normal prior around none."""
    offsets, gains = np.array(OFFSETS), np.array(values) - max(values)
    weights = np.exp(EVIDENCE * effective * gains - (offsets / DEVIATION) ** 2 / 2)
    return float((weights * offsets).sum() / weights.sum())


def share_table(query_ids: Sequence[str], lexical: Run, dense: Sequence[Run], qrels: Qrels) -> Table:
    """nDCG@10 of each query (rows) where the bi-encoders count for 0, 1/20, ... 1."""
    rows = [_of_shares([run.get(query_id, {}) for run in (lexical, *dense)], qrels[query_id]) for query_id in query_ids]
    return np.array(rows).reshape(len(query_ids), STEPS + 1)


def _of_shares(lists: Sequence[Mapping[str, float]], grades: Mapping[str, int]) -> list[float]:
    """nDCG@10 of one query's lists, BM25's first, at each share; what `fuse_z_scores` and `rank` would give."""
    parts = [z_scores(scores) for scores in lists]
    doc_ids = sorted({doc_id for part in parts for doc_id in part}, reverse=True)  # as equal scores are ranked
    totals = np.zeros((STEPS + 1, len(doc_ids)))
    shares = np.arange(STEPS + 1)[:, None] / STEPS
    for number, part in enumerate(parts):
        lowest = min(part.values(), default=0.0)
        weights = shares / (len(parts) - 1) if number else 1 - shares
        totals += weights * np.array([part.get(doc_id, lowest) for doc_id in doc_ids])
    gains = [list[float]() for _ in range(STEPS + 1)]
    for column, doc_id in enumerate(doc_ids):
        if (grade := grades.get(doc_id, 0)) > 0:
            own = totals[:, column, None]
            ranks = (totals > own).sum(axis=1) + (totals[:, :column] == own).sum(axis=1)
            for share, position in enumerate(ranks.tolist()):
                gains[share] += [grade / math.log2(position + 2)] * (position < DEPTH)
    ideal = _ideal(grades)
    return [math.fsum(values) / ideal if ideal else 0.0 for values in gains]


def interpolated(table: Table, shares: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The value of each row at its share."""
    points = shares * (table.shape[1] - 1)
    low = np.minimum(points.astype(int), table.shape[1] - 2)
    rows, above = np.arange(len(table)), points - low
    values: npt.NDArray[np.float64] = table[rows, low] * (1 - above) + table[rows, low + 1] * above
    return values


def found_first(scores: Mapping[str, float], grades: Mapping[str, int]) -> bool:
    """Whether the first document is relevant."""
    return any(grades.get(doc_id, 0) > 0 for doc_id, _ in rank(scores, 1))


def ndcg(scores: Mapping[str, float], grades: Mapping[str, int]) -> float:
    """nDCG@10 of one query."""
    gain = math.fsum(
        max(0, grades.get(doc_id, 0)) / math.log2(index + 2) for index, (doc_id, _) in enumerate(rank(scores, DEPTH))
    )
    ideal = _ideal(grades)
    return gain / ideal if ideal else 0.0


def _ideal(grades: Mapping[str, int]) -> float:
    """The DCG@10 of the best order."""
    best = sorted((max(0, grade) for grade in grades.values()), reverse=True)[:DEPTH]
    return math.fsum(grade / math.log2(index + 2) for index, grade in enumerate(best))
