"""Sentences of a text, and a query's words in it, by their places.

The ends of sentences in European and East Asian scripts are known, and no language. A point after a capital letter
alone, or after a common short form, ends no sentence; a blank line always does, and so does the end of a short line
before one that begins with a capital: a heading, a menu, a cell. A query's words are whole words, the commonest English
endings aside.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence

from inpars.apps.qa.records import Span

_END = re.compile(
    r"[.!?\u2026]+[\"'\u201d\u2019)\]]*(?:\[\d+\])*(?=\s)|[\u3002\uff01\uff1f]"  # signs, quotes, references
    r"|\n[ \t]*\n|\n(?=[ \t]*(?:[-*#|]|\d+\.)\s)"  # a blank line; the next item, heading or row
    r"|\n(?=[ \t]*[^\W\d_])"  # the end of a line, if it is short
)
_SHORT_FORM = re.compile(r"(?:^|[\s(])(?:[A-Z]|e\.g|i\.e|cf|vs|etc|al|Dr|Mr|Mrs|Ms|St|No|Fig|approx|Inc|Ltd|Co|Jr|Sr)$")
_POINTER = re.compile(  # an entry of a list of references, or a sentence that sends the reader elsewhere
    r"\^\s|(?:Retrieved|Archived)\b|(?:For (?:more|further) (?:information|details)|See also|[Rr]efer to)\b"
    r"|See (?:the )?(?:[Ss]tep|[Ss]ection|[Cc]hapter|[Ff]igure|[Tt]able)\b|.*\b(?:ISBN[ -]?\d|doi:)",
    re.DOTALL,
)
SHORT_LINE = 50  # characters; printed paragraphs have more
LONGEST = 600  # characters; a longer one is cut at a blank
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


def sentence_spans(text: str) -> list[Span]:
    """The sentences in order, without blanks around them."""
    return [part for begin, end in _rough(text) for part in _cut(text, begin, end)]


def only_points(sentence: str) -> bool:
    """Whether a sentence names another text and says nothing itself, as far as English forms tell."""
    return _POINTER.match(sentence) is not None


def snippet(text: str, spans: Sequence[Span], characters: int) -> Span:
    """The whole sentences, about so many characters in all, that hold most of the spans; the first of equal ones.

    A sentence that only points elsewhere is left out at both ends, where there are others.
    """
    sentences = sentence_spans(text)
    sentences = [one for one in sentences if not only_points(one.of(text))] or sentences
    starts = [span.start for span in spans]
    best, most, first = Span(0, 0), -1, 0
    for last, sentence in enumerate(sentences):
        while first < last and sentence.end - sentences[first].start > characters:
            first += 1
        start = sentences[first].start
        held = bisect_left(starts, sentence.end) - bisect_left(starts, start)
        if held > most or (held == most and start == best.start):
            best, most = Span(start, sentence.end), held
    return best


def _rough(text: str) -> Iterator[tuple[int, int]]:
    begin = 0
    for match in _END.finditer(text):
        if match.group() == "." and _SHORT_FORM.search(text, max(0, match.start() - 8), match.start()):
            continue
        if match.group() == "\n" and not _ends_short_line(text, match.start()):
            continue
        yield begin, match.end()
        begin = match.end()
    yield begin, len(text)


def _ends_short_line(text: str, end: int) -> bool:
    """Whether the line that ends here stands for itself: by the next one's first sign, or by its length."""
    following = text[end + 1 : end + LONGEST].lstrip(" \t")[:1]
    if not following.isalpha():
        return True  # an item, a heading or a row
    line = text[text.rfind("\n", 0, end) + 1 : end].rstrip()
    return following.isupper() and len(line) < SHORT_LINE and line[-1:].isalnum()


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
