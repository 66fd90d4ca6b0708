"""Which synthetic queries stay: those the model itself finds likely, once the unusable ones are gone.

Pure functions over records; every query left out is counted under its reason. InPars (arXiv 2202.05144) keeps the
highest mean log-probabilities; guards against copies and repetitions are ours.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from inpars.errors import ConfigError
from inpars.records import SyntheticQuery

ScoringFunction: TypeAlias = Literal["sum_log_probs", "mean_log_probs", "mean_probs"]
COPIED_WORDS = 6  # a query of at least this many words that stands in its document word for word is a copy
_WORD = re.compile(r"\w+")

SCORES: dict[ScoringFunction, Callable[[SyntheticQuery], float]] = {
    "sum_log_probs": lambda query: query.sum_log_probs,
    "mean_log_probs": lambda query: query.mean_log_probs,
    "mean_probs": lambda query: query.mean_probs,
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """A query with its score and, where it was left out, the reason."""

    query: SyntheticQuery
    score: float
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Filtered:
    """Kept queries from the best score down, and every query's verdict in the order of the input."""

    kept: list[Verdict]
    verdicts: list[Verdict]
    dropped: Counter[str] = field(default_factory=Counter)


def filter_queries(
    queries: Sequence[SyntheticQuery],
    *,
    scoring_function: ScoringFunction = "mean_log_probs",
    top_k: int | None = None,
    min_tokens: int = 3,
    max_tokens: int | None = None,
    drop_copied: bool = True,
    drop_unstopped: bool = True,
    drop_duplicates: bool = True,
    example_queries: Collection[str] = (),
    document_text: Callable[[str], str | None] = lambda _: None,
) -> Filtered:
    """The `top_k` best queries that pass every guard.

    Of queries with the same words the best stays. `document_text` gives a document's text by id, None where unknown;
    `example_queries` are those of the prompt, which small models repeat. Raises ConfigError where log-probs are absent.
    """
    if top_k is not None and top_k < 1:
        raise ConfigError(f"--top-k is {top_k}; it must be at least 1")
    if any(query.log_prob_kind == "absent" for query in queries):
        raise ConfigError(
            "some of these queries have no log-probabilities; have them scored by a local model first (inpars score)"
        )
    examples = {words(example) for example in example_queries}

    def guard(query: SyntheticQuery) -> str | None:
        tokens = len(query.token_log_probs)
        checks: Iterable[tuple[str, bool]] = (
            ("failed", query.finish_reason == "error"),
            ("empty", not query.text.strip() or not tokens),
            ("no_stop", drop_unstopped and query.finish_reason == "length"),
            ("too_short", tokens < min_tokens),
            ("too_long", max_tokens is not None and tokens > max_tokens),
            ("prompt_example", words(query.text) in examples),
        )
        reason = next((name for name, holds in checks if holds), None)
        if reason is None and drop_copied and is_copied(query.text, document_text(query.doc_id) or ""):
            reason = "copied"
        return reason

    score = SCORES[scoring_function]
    verdicts = [Verdict(query, score(query), guard(query)) for query in queries]
    order = sorted(
        (position for position, verdict in enumerate(verdicts) if verdict.reason is None),
        key=lambda position: (-verdicts[position].score, queries[position].query_id),
    )
    kept: list[int] = []
    seen: set[tuple[str, ...]] = set()
    for position in order:
        key = words(queries[position].text)
        reason = "duplicate" if drop_duplicates and key in seen else None
        if reason is None and top_k is not None and len(kept) >= top_k:
            reason = "below_top_k"
        if reason is None:
            kept.append(position)
            seen.add(key)
        else:
            verdicts[position] = Verdict(queries[position], verdicts[position].score, reason)
    dropped = Counter(verdict.reason for verdict in verdicts if verdict.reason)
    return Filtered([verdicts[position] for position in kept], verdicts, dropped)


def words(text: str) -> tuple[str, ...]:
    """The words of a text in lower case, without punctuation."""
    return tuple(_WORD.findall(text.lower()))


def is_copied(query: str, document: str) -> bool:
    """Whether a query of some length stands in the document word for word."""
    wanted = words(query)
    if len(wanted) < COPIED_WORDS:
        return False
    return f" {' '.join(wanted)} " in f" {' '.join(words(document))} "
