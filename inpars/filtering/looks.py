"""Counts generated texts that do not look like queries, as from a prompt that does not fit the documents."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from inpars.records import SyntheticQuery
from inpars.text.words import is_copied, words, words_key

_CODE = re.compile(
    r"^\s*(def|class|function|import|public|private|static|void|const|return)\b.*[(){}:=;.]"
    r"|^\s*(import\s+\w+$|from\s+[\w.]+\s+import\s|@\w|#include)"
    r"|\w{2,}\((?!s\))[^)]*(\)|$)"  # a call or a signature, not `file(s)`
    r"|[{}]|=>|==|->|;\s*$|\w+\s*=\s*[\w\"'\[(]"
    r"|^\s*def\s+\w+\s*$"
    r"|^\s*[\w.]*([a-z0-9]_|_[a-z]|[a-z]\.[A-Z]|\.\w{2,}\.)[\w.]*\s*$"  # a bare name
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Looks:
    """Numbers of queries by what they look like; each counts once, under the first kind that applies."""

    queries: int
    good: int
    empty: int
    code: int  # signatures, calls, assignments, names of functions
    copied: int  # verbatim from the document
    duplicate: int  # same words as an earlier query

    @property
    def share(self) -> float:
        """Share of good queries."""
        return self.good / self.queries if self.queries else 0.0

    @property
    def worst(self) -> str:
        """The most frequent kind of bad query; empty if there are none."""
        kinds = {name: getattr(self, name) for name in ("empty", "code", "copied", "duplicate")}
        name, count = max(kinds.items(), key=lambda kind: kind[1])
        return name if count else ""


def looks_of(queries: Iterable[SyntheticQuery], text_of: Callable[[str], str]) -> Looks:
    """Classify each query; `text_of` gives its document's text by id."""
    counts, seen = dict.fromkeys(("good", "empty", "code", "copied", "duplicate"), 0), set[int]()
    for query in queries:
        query_words = words(query.text)
        key = words_key(query_words)
        counts[_kind(query, query_words, key in seen, text_of)] += 1
        seen.add(key)
    return Looks(queries=sum(counts.values()), **counts)


def is_code(text: str) -> bool:
    """Whether the text looks like a line of code."""
    return bool(_CODE.search(text))


def _kind(query: SyntheticQuery, query_words: tuple[str, ...], known: bool, text_of: Callable[[str], str]) -> str:
    if not query_words:
        return "empty"
    if is_code(query.text):
        return "code"
    if is_copied(query.text, text_of(query.doc_id)):
        return "copied"
    return "duplicate" if known else "good"
