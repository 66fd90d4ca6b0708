"""Sentences of a text by their places. Knows the ends of sentences in European and East Asian scripts, no language.

A point after a capital letter alone, or after a common short form, ends no sentence; a blank line always does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from inpars.answering.records import Span

_END = re.compile(
    r"[.!?\u2026]+[\"'\u201d\u2019)\]]*(?:\[\d+\])*(?=\s)|[\u3002\uff01\uff1f]"  # signs, quotes, references
    r"|\n[ \t]*\n|\n(?=[ \t]*(?:[-*#|]|\d+\.)\s)"  # a blank line; the next item, heading or row
)
_SHORT_FORM = re.compile(r"(?:^|[\s(])(?:[A-Z]|e\.g|i\.e|cf|vs|etc|al|Dr|Mr|Mrs|Ms|St|No|Fig|approx|Inc|Ltd|Co|Jr|Sr)$")
LONGEST = 600  # characters; a longer one is cut at a blank


def sentence_spans(text: str) -> list[Span]:
    """The sentences in order, without blanks around them."""
    return [part for begin, end in _rough(text) for part in _cut(text, begin, end)]


def _rough(text: str) -> Iterator[tuple[int, int]]:
    begin = 0
    for match in _END.finditer(text):
        if match.group() == "." and _SHORT_FORM.search(text, max(0, match.start() - 8), match.start()):
            continue
        yield begin, match.end()
        begin = match.end()
    yield begin, len(text)


def _cut(text: str, begin: int, end: int) -> Iterator[Span]:
    """Parts of a sentence that are not too long, trimmed; none where there are only blanks."""
    while begin < end:
        stop = end
        if end - begin > LONGEST:
            blank = text.rfind(" ", begin + 1, begin + LONGEST)
            stop = blank if blank > begin else begin + LONGEST
        part = text[begin:stop]
        if part.strip():
            first = begin + len(part) - len(part.lstrip())
            yield Span(first, first + len(part.strip()))
        begin = stop
