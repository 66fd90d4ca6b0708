"""Monitor queries during generation: figures for the progress line, and an early stop if the queries are useless.

A wrong prompt or model shows at once: the same query for every document, empty queries, the prompt's examples, spans
copied from the document.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from inpars.errors import BackendError
from inpars.records import FinishReason, SyntheticQuery
from inpars.text.words import is_copied, words

WINDOW = 200  # number of latest queries considered
DEGENERATE_SHARE = 0.9
LATEST_CHARACTERS = 70
REASONS = {
    "empty": "empty",
    "prompt_example": "a repeated example of the prompt",
    "copied": "copied from the document",
    "alike": "the same as another",
}


class Canary:
    """Stops a run once nearly all of the latest queries are degenerate."""

    def __init__(self, example_queries: Iterable[str] = (), window: int = WINDOW) -> None:
        self._examples = {words(query) for query in example_queries}
        self._latest: deque[tuple[tuple[str, ...], str | None]] = deque(maxlen=window)
        self._window = window

    def watch(self, record: Mapping[str, Any]) -> None:
        """Add one query record; requests that a server refused say nothing about the prompt and are skipped."""
        if record["finish_reason"] != "error":
            self._latest.append((words(record["query"]), self._fault(record["query"], record["text"])))

    def check(self) -> None:
        """Raise BackendError if the window is full and nearly all of its queries are degenerate."""
        if len(self._latest) < self._window:
            return
        faults = self.faults()
        share = faults.total() / self._window
        if share >= DEGENERATE_SHARE:
            causes = ", ".join(f"{count} {REASONS[reason]}" for reason, count in faults.most_common())
            raise BackendError(
                f"{share:.0%} of the last {self._window} queries are unusable ({causes}); look at them and change the "
                "prompt or the model, or continue with --no-canary; finished queries are kept"
            )

    def faults(self) -> Counter[str]:
        """Number of degenerate queries in the window by first matching reason; the first of equal ones is fine."""
        faults: Counter[str] = Counter()
        seen: set[tuple[str, ...]] = set()
        for text, fault in self._latest:
            reason = fault or ("alike" if text in seen else None)
            seen.add(text)
            if reason:
                faults[reason] += 1
        return faults

    def _fault(self, text: str, document: str) -> str | None:
        query_words = words(text)
        if not query_words:
            return "empty"
        if query_words in self._examples:
            return "prompt_example"
        return "copied" if is_copied(text, document) else None


class Tally:
    """Figures for the progress line: finish reasons, mean log-probability, latest query."""

    def __init__(self) -> None:
        self._reasons: Counter[FinishReason] = Counter()
        self._sum, self._scored = 0.0, 0  # of the queries' mean log-probabilities
        self._latest = ""

    def add(self, queries: Collection[SyntheticQuery]) -> None:
        for query in queries:
            self._reasons[query.finish_reason] += 1
            self._latest = query.text
            if math.isfinite(query.mean_log_probs):
                self._sum += query.mean_log_probs
                self._scored += 1

    def __str__(self) -> str:
        """`stop 97%, length 3%, mean log-prob -1.21 | what is a lake`; empty before the first query."""
        total = self._reasons.total()
        if not total:
            return ""
        shares = [
            f"{reason} {self._reasons[reason] / total:.0%}"
            for reason in ("stop", "length", "error")
            if self._reasons[reason]
        ]
        mean = [f"mean log-prob {self._sum / self._scored:.2f}"] if self._scored else []
        return f"{', '.join([*shares, *mean])} | {self._latest[:LATEST_CHARACTERS]}"


def result_notes(records: Iterable[Mapping[str, Any]], max_new_tokens: int) -> list[str]:
    """Warnings about an output's queries."""
    total = empty = cut = failed = 0
    texts: set[str] = set()  # up to two distinct non-empty queries
    for record in records:
        total += 1
        text, reason = record["query"].strip(), record["finish_reason"]
        failed += reason == "error"
        cut += reason == "length"
        empty += not text and reason != "error"
        if text and len(texts) < 2:
            texts.add(text)
    if total and failed == total:
        return [f"all {total:,} queries are empty: the server refused to write each of them"]
    lines = []
    if empty:
        share = f"all {total:,}" if empty == total else f"{empty:,} of {total:,}"
        lines.append(f"{share} queries are empty; look at the prompt, the model and --max-new-tokens")
    if cut == total > 0:
        lines.append(f"all {total:,} queries were cut off at {max_new_tokens} tokens; raise --max-new-tokens")
    if len(texts) == 1 and total - empty - failed > 1:
        lines.append(f"all {total - empty - failed:,} queries that are not empty are the same: {min(texts)[:70]!r}")
    return lines
