"""Selects queries by score: the k best, a threshold, a share, a spread over groups. Arrays in, masks out.

Higher is better, except in columns whose name ends in `_rank`. Ties are broken by query_id.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from inpars.errors import ConfigError

Rule: TypeAlias = Literal["top-k", "min", "max", "best"]
Scores: TypeAlias = npt.NDArray[np.float64]
Positions: TypeAlias = npt.NDArray[np.int64]
Mask: TypeAlias = npt.NDArray[np.bool_]
RANK_SUFFIX = "_rank"
FORM = "write NAME:RULE=VALUE with a RULE of top-k, min, max or best, reranker:top-k=1000 for instance"


@dataclass(frozen=True, slots=True)
class Selection:
    """One selection: `reranker:top-k=1000`, `bm25_rank:max=20`, `mean_probs:best=0.5`."""

    name: str
    rule: Rule
    value: float

    def __str__(self) -> str:
        return f"{self.name}:{self.rule}={self.value:g}"


def parse_selection(text: str) -> Selection:
    """Parse a `--select`. Raises ConfigError."""
    name, _, rest = text.rpartition(":")
    rule, _, number = rest.partition("=")
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not name or rule not in get_args(Rule) or math.isnan(value):
        raise ConfigError(f"--select is {text!r}; {FORM}")
    if rule == "top-k" and (value < 1 or not value.is_integer()):
        raise ConfigError(f"--select {text}: top-k must be a whole number of at least 1")
    if rule == "best" and not 0 < value <= 1:
        raise ConfigError(f"--select {text}: best is a share, above 0 and at most 1")
    return Selection(name, rule, value)  # type: ignore[arg-type]


def oriented(name: str, scores: Scores) -> Scores:
    """The scores with the sign flipped where lower is better."""
    return -scores if name.endswith(RANK_SUFFIX) else scores


def id_ranks(query_ids: Sequence[str]) -> Positions:
    """The rank of each query by id, from 0."""
    ranks = np.empty(len(query_ids), dtype=np.int64)
    ranks[sorted(range(len(query_ids)), key=query_ids.__getitem__)] = np.arange(len(query_ids))
    return ranks


def best_first(scores: Scores, ids: Positions) -> Positions:
    """Positions from the best score down; the smaller id first among ties."""
    return np.lexsort((ids, -scores))


def top_k(scores: Scores, ids: Positions, k: int) -> Mask:
    """A mask of the k best: all above the k-th score, then ties by id. Linear time except for the ties."""
    if k >= len(scores):
        return np.ones(len(scores), dtype=bool)
    threshold = np.partition(scores, len(scores) - k)[len(scores) - k]
    mask: Mask = scores > threshold
    tied = np.flatnonzero(scores == threshold)
    mask[tied[np.argsort(ids[tied])][: k - int(mask.sum())]] = True
    return mask


def select(selection: Selection, scores: Scores, ids: Positions) -> Mask:
    """A mask of the queries to keep; `scores` are the raw ones of the selection's column."""
    if selection.rule == "min":
        return scores >= selection.value
    if selection.rule == "max":
        return scores <= selection.value
    share = selection.rule == "best"
    k = math.ceil(selection.value * len(scores) - 1e-9) if share else int(selection.value)
    return top_k(oriented(selection.name, scores), ids, k)


def spread_top_k(scores: Scores, ids: Positions, groups: npt.NDArray[np.uint64], k: int) -> Mask:
    """A mask of k queries taken round by round: the best remaining query of every group, better groups first."""
    by_group = np.lexsort((ids, -scores, groups))
    ordered = groups[by_group]
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1]))) if len(ordered) else by_group
    sizes = np.diff(np.append(starts, len(ordered)))
    rounds = np.empty(len(scores), dtype=np.int64)  # rank within the group, from 0
    rounds[by_group] = np.arange(len(ordered)) - np.repeat(starts, sizes)
    mask = np.zeros(len(scores), dtype=bool)
    mask[np.lexsort((ids, -scores, rounds))[:k]] = True
    return mask
