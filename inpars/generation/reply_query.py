"""Where the query stands in what a model wrote, for both kinds of servers' answers.

A chat model's reply may hold thoughts, a preamble, labels and markdown; a continuation holds the query up to its stop
string. Positions are returned, not texts, so that log-probabilities can be kept for the query's tokens alone.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from inpars.generation.reply_markup import json_value, trimmed, without_lead, without_pair
from inpars.generation.reply_preambles import INLINE, LABEL, is_preamble, refuses
from inpars.generation.reply_thoughts import find_answer
from inpars.prompting.templates import Prompt

_LINE = re.compile(r"[^\n]*\S[^\n]*")
_SECOND = re.compile(r"\s*(?:2[.)]|[-*•–])\s")
_LAYERS = 8  # marks around a query, one within the other

THOUGHTS, ONLY_THOUGHTS, PREAMBLE, MARKUP, REFUSED, ECHO = (
    *("thoughts", "only_thoughts", "preamble", "markup"),
    *("refused_in_words", "echo"),
)


class QuerySpan(NamedTuple):
    """The query is `text[start:end]`; `remarks` say what else was there."""

    start: int
    end: int
    remarks: tuple[str, ...] = ()


def find_continued(text: str, form: Prompt, prompt: str = "") -> QuerySpan:
    """The query in a continuation; some servers repeat the prompt before it."""
    echo = len(prompt) if prompt and text.startswith(prompt) else 0
    answer = find_answer(text[echo:])
    start, end = echo + answer.start, echo + answer.end
    if answer.thoughts:
        start, end = trimmed(text, start, end)
    end = start + form.stop_position(text[start:end])
    start, end = trimmed(text, start, end)
    return QuerySpan(start, end, _thought_remarks(answer.thoughts, start == end) + (ECHO,) * bool(echo))


def find_replied(text: str, form: Prompt) -> QuerySpan:
    """The query in a chat model's turn."""
    answer = find_answer(text)
    start, end = trimmed(text, answer.start, answer.end)
    remarks = _thought_remarks(answer.thoughts, start == end)
    if refuses(text[start:end]):
        return QuerySpan(start, start, (*remarks, REFUSED))
    if (value := json_value(text, start, end)) is not None:
        return QuerySpan(*trimmed(text, *value), (*remarks, MARKUP))
    lines = [trimmed(text, *match.span()) for match in _LINE.finditer(text, start, end)]
    first = _first_line(text, lines, form)
    if not lines:
        return QuerySpan(start, start, remarks)
    begin = lines[first][0]
    listed = first > 0 or any(_SECOND.match(text, *line) for line in lines[first + 1 :])
    span = trimmed(text, begin, begin + form.stop_position(text[begin:end]))
    found = _bare(text, *span, form.cue, listed=listed)
    remarks += (PREAMBLE,) * (first > 0) + (MARKUP,) * (found != span)
    return QuerySpan(*found, remarks)


def _thought_remarks(thoughts: bool, nothing_else: bool) -> tuple[str, ...]:
    return (ONLY_THOUGHTS if nothing_else else THOUGHTS,) if thoughts else ()


def _first_line(text: str, lines: list[tuple[int, int]], form: Prompt) -> int:
    """Which line the query stands on: the first that does not only announce the next, or that repeats the form."""
    label, cue = form.prefix.rpartition("\n")[2].strip().lower(), form.cue.lower()
    cues = [
        number
        for number, (start, end) in enumerate(lines)
        if cue and text[start:end].lower().startswith(cue) and number
    ]
    if lines and cues and label and text[slice(*lines[0])].lower().startswith(label):
        lines, shift = lines[cues[0] :], cues[0]
    else:
        shift = 0
    for number, (start, end) in enumerate(lines[:-1]):
        line, gap = text[start:end], text[end : lines[number + 1][0]]
        fence = line.startswith("```") and line.count("```") == 1 and " " not in line
        only_cue = bool(cue) and line.strip("*_#>` ").lower() == cue
        if not (fence or only_cue or is_preamble(line, blank_follows=gap.count("\n") > 1)):
            return shift + number
    return shift + max(0, len(lines) - 1)


def _bare(text: str, start: int, end: int, cue: str, *, listed: bool) -> tuple[int, int]:
    """The span without what stands around the query in it."""
    for layer in range(_LAYERS):
        before = start, end
        start, end = trimmed(text, start, end)
        if layer == 0 and cue and text[start:end].lower().startswith(cue.lower()):
            start, end = trimmed(text, start + len(cue), end)
        for pattern in (LABEL, INLINE):
            if match := pattern.match(text, start, end):
                start = match.end()
        start, end = without_lead(text, start, end, listed=listed)
        start, end = without_pair(text, start, end)
        if (start, end) == before:
            break
    return start, end
