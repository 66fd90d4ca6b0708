"""What is to be said of queries as a whole that a count of lines does not show: empty, cut off, or all the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def result_notes(records: Iterable[Mapping[str, Any]], max_new_tokens: int) -> list[str]:
    """Lines on the queries of an output; none where nothing is amiss."""
    total = empty = cut = failed = 0
    texts: set[str] = set()  # of the queries that are not empty, two at most
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
        lines.append(f"{_share(empty, total)} queries are empty; look at the prompt, the model and --max-new-tokens")
    if cut == total > 0:
        lines.append(f"all {total:,} queries were cut off at {max_new_tokens} tokens; raise --max-new-tokens")
    if len(texts) == 1 and total - empty - failed > 1:
        lines.append(f"all {total - empty - failed:,} queries that are not empty are the same: {min(texts)[:70]!r}")
    return lines


def _share(count: int, total: int) -> str:
    return f"all {total:,}" if count == total else f"{count:,} of {total:,}"
