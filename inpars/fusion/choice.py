"""Adapts the gate to a collection by queries with known relevant documents.

Synthetic queries copy words from their documents and so overrate BM25: queries whose document BM25 ranks first count
less. Only one number is fitted, the gate's offset. It is the mean of all candidate offsets, weighted by their nDCG@10
and by a prior around 0; the best candidate alone would follow the noise of few queries.
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

DEPTH = 10  # cutoff of nDCG@10, the criterion
STEPS = 20  # intervals between the bi-encoders' candidate shares, 0 to 1
OFFSETS = tuple(step / 4 for step in range(-12, 13))
EVIDENCE = 2.0  # increase of an offset's log weight per query and 1.0 of nDCG
DEVIATION = 1.0  # standard deviation of the prior over offsets; assumed
EASY = 0.25  # weight of a query whose document BM25 ranks first

Table = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The chosen gate, and the nDCG@10 of the alternatives."""

    gate: Gate
    queries: int
    easy: int  # queries whose document BM25 ranks first; they count less
    curve: tuple[float, ...]  # mean nDCG@10 with the same share for all queries, 0 to 1
    offsets: tuple[float, ...]  # mean nDCG@10 with each of OFFSETS
    chosen: float  # mean nDCG@10 with the chosen offset
    before: float  # mean nDCG@10 without an offset
    equal: float  # mean nDCG@10 with equal weights


@dataclass(frozen=True, slots=True)
class JudgedMix:
    """A choice and its evidence per query."""

    choice: Choice
    values: Table  # nDCG@10 per query
    weights: Table  # weight per query; they sum to 1


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
    """Choose the offset on judged queries, from the first `depth` documents of each run; `dense` runs weigh equally.

    `weights` per query default to `EASY` for easy queries and 1 for others. `at` fixes the offset to one of `OFFSETS`.
    """
    query_ids = [query_id for query_id in features if qrels.get(query_id)]
    if not query_ids:
        nothing = Choice(gate=gate, queries=0, easy=0, curve=(), offsets=(), chosen=0.0, before=0.0, equal=0.0)
        return JudgedMix(nothing, np.zeros(0), np.zeros(0))
    lexical_top, *dense_tops = completed([lexical, *dense], [True, *[False] * len(dense)], depth)
    table = share_table(query_ids, lexical_top, dense_tops, qrels)
    easy = np.array([found_first(lexical.get(query_id, {}), qrels[query_id]) for query_id in query_ids])
    shares = np.where(easy, EASY, 1.0) if weights is None else np.array([weights[query_id] for query_id in query_ids])
    shares = shares / shares.sum()

    def ndcg_per_query(offset: float) -> Table:
        moved = gate.moved(offset)
        return interpolated(table, np.array([moved.share(features[query_id]) for query_id in query_ids]))

    values = [float(shares @ ndcg_per_query(offset)) for offset in OFFSETS]
    mean = posterior_mean(values, effective=1 / float((shares**2).sum())) if at is None else at
    best = min(range(len(OFFSETS)), key=lambda index: (abs(OFFSETS[index] - mean), abs(OFFSETS[index])))
    curve = tuple((shares @ table).tolist())
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
    return JudgedMix(choice, ndcg_per_query(OFFSETS[best]), shares)


def posterior_mean(values: Sequence[float], effective: float) -> float:
    """The mean of OFFSETS under a normal prior around 0, given their mean nDCG on `effective` queries."""
    offsets, gains = np.array(OFFSETS), np.array(values) - max(values)
    weights = np.exp(EVIDENCE * effective * gains - (offsets / DEVIATION) ** 2 / 2)
    return float((weights * offsets).sum() / weights.sum())


def share_table(query_ids: Sequence[str], lexical: Run, dense: Sequence[Run], qrels: Qrels) -> Table:
    """nDCG@10 per query (rows) and share of the bi-encoders (columns: 0, 1/20, ... 1)."""
    rows = [
        _ndcg_by_share([run.get(query_id, {}) for run in (lexical, *dense)], qrels[query_id]) for query_id in query_ids
    ]
    return np.array(rows).reshape(len(query_ids), STEPS + 1)


def _ndcg_by_share(rankings: Sequence[Mapping[str, float]], grades: Mapping[str, int]) -> list[float]:
    """nDCG@10 of one query's fused rankings, BM25's first, per share; equals `fuse_z_scores`, `rank` and `ndcg`."""
    parts = [z_scores(scores) for scores in rankings]
    doc_ids = sorted({doc_id for part in parts for doc_id in part}, reverse=True)  # the order of ties in `rank`
    totals = np.zeros((STEPS + 1, len(doc_ids)))
    shares = np.arange(STEPS + 1)[:, None] / STEPS
    for number, part in enumerate(parts):
        lowest = min(part.values(), default=0.0)
        weights = shares / (len(parts) - 1) if number else 1 - shares
        totals += weights * np.array([part.get(doc_id, lowest) for doc_id in doc_ids])
    gains = [list[float]() for _ in range(STEPS + 1)]
    for column, doc_id in enumerate(doc_ids):
        if (grade := grades.get(doc_id, 0)) > 0:
            scores = totals[:, column, None]
            ranks = (totals > scores).sum(axis=1) + (totals[:, :column] == scores).sum(axis=1)
            for step, index in enumerate(ranks.tolist()):
                gains[step] += [grade / math.log2(index + 2)] * (index < DEPTH)
    ideal = _ideal(grades)
    return [math.fsum(values) / ideal if ideal else 0.0 for values in gains]


def interpolated(table: Table, shares: Table) -> Table:
    """Linear interpolation of each row at its share, (queries,)."""
    points = shares * (table.shape[1] - 1)
    low = np.minimum(points.astype(int), table.shape[1] - 2)
    rows, above = np.arange(len(table)), points - low
    values: Table = table[rows, low] * (1 - above) + table[rows, low + 1] * above
    return values


def found_first(scores: Mapping[str, float], grades: Mapping[str, int]) -> bool:
    """Whether the top document is relevant."""
    return any(grades.get(doc_id, 0) > 0 for doc_id, _ in rank(scores, 1))


def ndcg(scores: Mapping[str, float], grades: Mapping[str, int]) -> float:
    """nDCG@10 of one query; 0 without relevant documents."""
    gain = math.fsum(
        max(0, grades.get(doc_id, 0)) / math.log2(index + 2) for index, (doc_id, _) in enumerate(rank(scores, DEPTH))
    )
    ideal = _ideal(grades)
    return gain / ideal if ideal else 0.0


def _ideal(grades: Mapping[str, int]) -> float:
    """DCG@10 of the ideal ranking."""
    best = sorted((max(0, grade) for grade in grades.values()), reverse=True)[:DEPTH]
    return math.fsum(grade / math.log2(index + 2) for index, grade in enumerate(best))
