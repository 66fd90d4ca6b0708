"""Where a query's words stand in a text: whole words, endings of English inflection aside.

Pure functions on texts; knows no language but the commonest English endings.
"""

from __future__ import annotations

import re

from inpars.answering.records import Span

WORD = re.compile(r"\w+")
ENDINGS = ("ies", "ing", "ied", "es", "ed", "s", "y", "e")  # the longest that fits is taken off
SHORTEST_STEM = 3
STOP_WORDS = frozenset(
    WORD.findall(
        "a an and are as at be by can could did do does for from had has have how i if in into is it its of on or "
        "shall should so than that the their then there these they this those to was we were what when where which "
        "who whom whose why will with would you your"
    )
)


def query_spans(query: str, text: str) -> tuple[Span, ...]:
    """The words of a text that the query has too, in order; words of grammar only where it has no others."""
    wanted = content_stems(query)
    return tuple(
        Span(match.start(), match.end()) for match in WORD.finditer(text) if stem(match.group().lower()) in wanted
    )


def content_stems(query: str) -> set[str]:
    """The stems of a query's words, without those of grammar unless there are no others."""
    words = [word.lower() for word in WORD.findall(query)]
    return {stem(word) for word in words if word not in STOP_WORDS} or {stem(word) for word in words}


def stem(word: str) -> str:
    """A word without the commonest English endings, where enough is left."""
    for ending in ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= SHORTEST_STEM:
            return word[: -len(ending)]
    return word
