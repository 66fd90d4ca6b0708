"""The spans of sentences in a text, and of a query's words.

Sentence ends are those of European and East Asian scripts, whatever the language. A full stop after a single capital
letter or a common abbreviation ends no sentence; a blank line always does, and so does the end of a short line before
one that starts with a capital: a heading, a menu item, a cell. A query's words match whole words, up to common English
endings.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence

from inpars.apps.qa.records import Span

_END = re.compile(
    r"[.!?\u2026]+[\"'\u201d\u2019)\]]*(?:\[\d+\])*(?=\s)|[\u3002\uff01\uff1f]"  # punctuation, quotes, references
    r"|\n[ \t]*\n|\n(?=[ \t]*(?:[-*#|]|\d+\.)\s)"  # a blank line; the next item, heading or row
    r"|\n(?=[ \t]*[^\W\d_])"  # the end of a line, if it is short
)
_SHORT_FORM = re.compile(r"(?:^|[\s(])(?:[A-Z]|e\.g|i\.e|cf|vs|etc|al|Dr|Mr|Mrs|Ms|St|No|Fig|approx|Inc|Ltd|Co|Jr|Sr)$")
_POINTER = re.compile(  # an entry of a list of references, or a sentence that refers elsewhere
    r"\^\s|(?:Retrieved|Archived)\b|(?:For (?:more|further) (?:information|details)|See also|[Rr]efer to)\b"
    r"|See (?:the )?(?:[Ss]tep|[Ss]ection|[Cc]hapter|[Ff]igure|[Tt]able)\b|.*\b(?:ISBN[ -]?\d|doi:)",
    re.DOTALL,
)
SHORT_LINE = 50  # characters; printed paragraphs have more
LONGEST = 600  # characters; longer sentences are cut at a space
WORD = re.compile(r"\w+")
ENDINGS = ("ies", "ing", "ied", "es", "ed", "s", "y", "e")  # the first that fits is removed
SHORTEST_STEM = 3
STOP_WORDS = frozenset(
    WORD.findall(
        "a an and are as at be by can could did do does for from had has have how i if in into is it its of on or "
        "shall should so than that the their then there these they this those to was we were what when where which "
        "who whom whose why will with would you your"
    )
)


def sentence_spans(text: str) -> list[Span]:
    """The sentences in order, stripped."""
    return [span for begin, end in _split(text) for span in _cut(text, begin, end)]


def only_points(sentence: str) -> bool:
    """Whether a sentence only refers to another text, by common English forms."""
    return _POINTER.match(sentence) is not None


def snippet(text: str, spans: Sequence[Span], characters: int) -> Span:
    """The run of whole sentences, of about `characters` in all, that contains most of the spans; the first on ties.

    It neither starts nor ends with a sentence that only refers elsewhere, unless there are no others.
    """
    sentences = sentence_spans(text)
    sentences = [sentence for sentence in sentences if not only_points(sentence.of(text))] or sentences
    starts = [span.start for span in spans]
    best, most, first = Span(0, 0), -1, 0
    for last, sentence in enumerate(sentences):
        while first < last and sentence.end - sentences[first].start > characters:
            first += 1
        start = sentences[first].start
        count = bisect_left(starts, sentence.end) - bisect_left(starts, start)
        if count > most or (count == most and start == best.start):
            best, most = Span(start, sentence.end), count
    return best


def _split(text: str) -> Iterator[tuple[int, int]]:
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
    """Whether the line that ends here is separate: by the next line's first character, or by its own length."""
    following = text[end + 1 : end + LONGEST].lstrip(" \t")[:1]
    if not following.isalpha():
        return True  # an item, a heading or a row
    line = text[text.rfind("\n", 0, end) + 1 : end].rstrip()
    return following.isupper() and len(line) < SHORT_LINE and line[-1:].isalnum()


def _cut(text: str, begin: int, end: int) -> Iterator[Span]:
    """The sentence in pieces that are not too long, stripped; none if it is blank."""
    while begin < end:
        stop = end
        if end - begin > LONGEST:
            space = text.rfind(" ", begin + 1, begin + LONGEST)
            stop = space if space > begin else begin + LONGEST
        part = text[begin:stop]
        if part.strip():
            first = begin + len(part) - len(part.lstrip())
            yield Span(first, first + len(part.strip()))
        begin = stop


def query_spans(query: str, text: str) -> tuple[Span, ...]:
    """The query's words in a text, in order; stop words only if the query has no others."""
    stems = content_stems(query)
    return tuple(
        Span(match.start(), match.end()) for match in WORD.finditer(text) if stem(match.group().lower()) in stems
    )


def content_stems(query: str) -> set[str]:
    """The stems of a query's words, without stop words unless there are no others."""
    words = [word.lower() for word in WORD.findall(query)]
    return {stem(word) for word in words if word not in STOP_WORDS} or {stem(word) for word in words}


def names_of(question: str, *, titles: bool = True) -> list[str]:
    """A question's numbers and names: words with a digit, and capitalised words except the first.

    Only a text that contains them can answer the question. If most words are capitalised, as in a title, capitals do
    not count, unless `titles` is False.
    """
    words = WORD.findall(question)
    capitalised = [index > 0 and word[0].isupper() for index, word in enumerate(words)]
    is_title = titles and sum(capitalised) > len(words) / 2
    return [
        word
        for word, capital in zip(words, capitalised, strict=True)
        if any(char.isdigit() for char in word) or (capital and not is_title and word.lower() not in STOP_WORDS)
    ]


def missing_names(question: str, text: str, *, titles: bool = True) -> list[str]:
    """The names and numbers of a question that a text lacks, compared by stem."""
    stems = {stem(word.lower()) for word in WORD.findall(text)}
    return [name for name in dict.fromkeys(names_of(question, titles=titles)) if stem(name.lower()) not in stems]


def stem(word: str) -> str:
    """A word without a common English ending, if enough is left."""
    for ending in ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= SHORTEST_STEM:
            return word[: -len(ending)]
    return word
