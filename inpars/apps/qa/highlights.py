"""Where a query's words stand in a text: whole words, endings of English inflection aside.

Pure functions on texts; knows no language but the commonest English endings.
"""

from __future__ import annotations

import re

from inpars.apps.qa.records import Span

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
    stems = content_stems(query)
    return tuple(
        Span(match.start(), match.end()) for match in WORD.finditer(text) if stem(match.group().lower()) in stems
    )


def content_stems(query: str) -> set[str]:
    """The stems of a query's words, without those of grammar unless there are no others."""
    words = [word.lower() for word in WORD.findall(query)]
    return {stem(word) for word in words if word not in STOP_WORDS} or {stem(word) for word in words}


def names_of(question: str, *, titles: bool = True) -> list[str]:
    """A question's words with a digit, and those with a capital but the first; without these where they are most.

    What is asked about them can only be answered from a text that has them. With `titles` False capitals always count.
    """
    words = WORD.findall(question)
    capital = [index > 0 and word[0].isupper() for index, word in enumerate(words)]
    written_large = titles and sum(capital) > len(words) / 2
    return [
        word
        for word, large in zip(words, capital, strict=True)
        if any(sign.isdigit() for sign in word) or (large and not written_large and word.lower() not in STOP_WORDS)
    ]


def missing_names(question: str, text: str, *, titles: bool = True) -> list[str]:
    """The names and numbers of a question that a text lacks, whatever their ending."""
    there = {stem(word.lower()) for word in WORD.findall(text)}
    return [name for name in dict.fromkeys(names_of(question, titles=titles)) if stem(name.lower()) not in there]


def stem(word: str) -> str:
    """A word without the commonest English endings, where enough is left."""
    for ending in ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= SHORTEST_STEM:
            return word[: -len(ending)]
    return word
