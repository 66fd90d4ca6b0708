"""Queries as columns: scores, reasons, hashes. Built from a stream of rows; the texts are not kept.

About 100 bytes and an id per query, plus 128 bytes with near-duplicates.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from inpars.errors import ConfigError, UnknownNameError
from inpars.filtering.checks import FilterContext, FilterOptions, Guards
from inpars.filtering.known_queries import BLOCK, KnownQueries
from inpars.filtering.selections import Mask, Positions, Scores, id_ranks, oriented
from inpars.records import SyntheticQuery
from inpars.text.minhash import Sketches, sketch_queries
from inpars.text.words import opening, words, words_key

ScoringFunction: TypeAlias = Literal["sum_log_probs", "mean_log_probs", "mean_probs"]
SCORES: dict[ScoringFunction, Callable[[SyntheticQuery], float]] = {
    "sum_log_probs": lambda query: query.sum_log_probs,
    "mean_log_probs": lambda query: query.mean_log_probs,
    "mean_probs": lambda query: query.mean_probs,
}
OF_PEOPLE: dict[ScoringFunction, float] = {
    "sum_log_probs": 0.0,
    "mean_log_probs": 0.0,
    "mean_probs": 1.0,
}  # certain


@dataclass(slots=True)
class QueryTable:
    """Queries as columns in input order; queries with the reason "" are not dropped."""

    query_ids: list[str]
    scores: dict[str, Scores]
    reasons: npt.NDArray[np.uint8]
    reason_names: list[str]
    keys: npt.NDArray[np.uint64]  # of all words
    openings: npt.NDArray[np.uint64]
    word_counts: npt.NDArray[np.uint16]
    sketches: Sketches | None
    by_people: Mask  # queries that no model wrote
    prompts: npt.NDArray[np.uint32]  # indices into `prompt_names`
    prompt_names: list[str]
    absent_log_probs: int = 0  # queries without the log-probs they should have
    resembling_own: int = 0  # queries nearly equal to one of the collection
    ids: Positions = field(init=False)  # rank of each query by id, which breaks ties

    def __post_init__(self) -> None:
        self.ids = id_ranks(self.query_ids)

    def __len__(self) -> int:
        return len(self.query_ids)

    @property
    def alive(self) -> Positions:
        """Positions of the queries not dropped so far."""
        return np.flatnonzero(self.reasons == 0)

    def drop(self, positions: Positions, reason: str) -> None:
        """Mark queries as dropped."""
        if reason not in self.reason_names:
            self.reason_names.append(reason)
        self.reasons[positions] = self.reason_names.index(reason)

    def reason(self, position: int) -> str | None:
        """Why a query was dropped; None if it was not."""
        return self.reason_names[self.reasons[position]] or None

    def dropped(self) -> Counter[str]:
        """Numbers of dropped queries by reason."""
        counts = np.bincount(self.reasons, minlength=len(self.reason_names))
        return Counter({name: int(n) for name, n in zip(self.reason_names, counts, strict=True) if name and n})

    def by_prompt(self) -> dict[str, dict[str, int]]:
        """For each prompt, or kind of pair, the number of kept queries and of dropped ones by reason."""
        counts: dict[str, dict[str, int]] = {name: {"kept": 0} for name in sorted(self.prompt_names)}
        codes, frequencies = np.unique(self.prompts.astype(np.int64) << 8 | self.reasons, return_counts=True)
        for code, count in zip(codes.tolist(), frequencies.tolist(), strict=True):
            counts[self.prompt_names[code >> 8]][self.reason_names[code & 255] or "kept"] = count
        return counts

    def column(self, name: str) -> Scores:
        """Raw scores. Raises UnknownNameError, or ConfigError for log-probs if some query has none."""
        if name not in self.scores:
            raise UnknownNameError("score", name, self.scores, "columns come from files given with --scores")
        if name in SCORES and self.absent_log_probs:
            raise ConfigError(
                "some of these queries have no log-probabilities; have them scored by a local model first "
                "(inpars score)"
            )
        return self.scores[name]

    def goodness(self, name: str) -> Scores:
        """Scores with the sign flipped where lower is better."""
        return oriented(name, self.column(name))

    def known(self, name: str) -> Mask:
        """A mask of the queries that have the score."""
        return ~np.isnan(self.column(name))


class QueryTableBuilder:
    """Collects queries one by one into a `QueryTable`."""

    def __init__(self, options: FilterOptions, context: FilterContext) -> None:
        self._guards = Guards(options, context)
        at = options.near_duplicates_at
        self._excluded = KnownQueries(context.excluded_queries, at) if context.excluded_queries else None
        self._own = KnownQueries(context.own_queries, at) if context.own_queries else None
        self._keeps_sketches = options.drop_near_duplicates
        self._names = [""]
        self._ids: list[str] = []
        self._scores: dict[str, array[float]] = {name: array("d") for name in SCORES}
        self._reasons, self._counts = array("B"), array("H")
        self._keys, self._openings = array("Q"), array("Q")
        self._by_people, self._prompts = array("B"), array("I")
        self._prompt_names: dict[str, int] = {}
        self._block: list[Sequence[str]] = []
        self._sketches: list[Sketches] = []
        self._absent = self._resembling = 0

    def add(self, query: SyntheticQuery, record_text: str | None = None) -> None:
        """Add a query; `record_text` is the document's text in its record."""
        query_words = words(query.text)
        self._ids.append(query.query_id)
        for name, score in SCORES.items():
            self._scores[name].append(OF_PEOPLE[name] if query.by_people else score(query))
        self._reasons.append(self._code(self._guards.reason(query, query_words, record_text)))
        self._counts.append(min(len(query_words), 2**16 - 1))
        self._keys.append(words_key(query_words))
        self._openings.append(words_key(opening(query_words)))
        self._by_people.append(query.by_people)
        self._prompts.append(self._prompt_names.setdefault(query.prompt, len(self._prompt_names)))
        self._absent += query.log_prob_kind == "absent" and query.finish_reason != "error" and not query.by_people
        self._block.append(query_words)
        if len(self._block) == BLOCK:
            self._flush()

    def pool(self) -> QueryTable:
        """The table of all queries added."""
        self._flush()
        return QueryTable(
            query_ids=self._ids,
            scores={name: np.frombuffer(values, dtype=np.float64) for name, values in self._scores.items()},
            reasons=np.frombuffer(self._reasons, dtype=np.uint8),
            reason_names=self._names,
            keys=np.frombuffer(self._keys, dtype=np.uint64),
            openings=np.frombuffer(self._openings, dtype=np.uint64),
            word_counts=np.frombuffer(self._counts, dtype=np.uint16),
            sketches=np.concatenate([*self._sketches, sketch_queries(())]) if self._keeps_sketches else None,
            by_people=np.frombuffer(self._by_people, dtype=np.bool_),
            prompts=np.frombuffer(self._prompts, dtype=np.uint32),
            prompt_names=list(self._prompt_names),
            absent_log_probs=self._absent,
            resembling_own=self._resembling,
        )

    def _code(self, reason: str | None) -> int:
        if reason is None:
            return 0
        if reason not in self._names:
            self._names.append(reason)
        return self._names.index(reason)

    def _flush(self) -> None:
        """Sketch a block and compare it with the known queries."""
        block, self._block = self._block, []
        if not block or not (self._keeps_sketches or self._excluded or self._own):
            return
        sketches, start = sketch_queries(block), len(self._ids) - len(block)
        if self._keeps_sketches:
            self._sketches.append(sketches)
        keys = np.array(self._keys[start:], dtype=np.uint64)
        if self._own is not None:
            self._resembling += int(self._own.resembled(keys, sketches).sum())
        if self._excluded is not None:
            for row in np.flatnonzero(self._excluded.resembled(keys, sketches)).tolist():
                if not self._reasons[start + row]:
                    self._reasons[start + row] = self._code("excluded_query")
