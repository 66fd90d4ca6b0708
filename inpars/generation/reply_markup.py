"""What stands around a query in a reply: quotes, markdown, bullets, numbers, tags, code fences, JSON.

Everything is a pair of positions, so that each token's log-probability stays with its text. Marks come off in pairs
only, and only where they cannot be the query's own: `__init__`, `"cats" or "dogs"` and `1. FC Köln` stay.
"""

from __future__ import annotations

import re

QUOTES = {'"': '"', "'": "'", "“": "”", "‘": "’", "«": "»", "„": "“", "‚": "‘", "「": "」", "『": "』", "`": "`"}
_EMPHASIS = ("```", "**", "__", "~~", "*", "_")
_BULLET = re.compile(r"[-*•–—]\s+(?=[^\s\d])")
_NUMBER = re.compile(r"(\d{1,2})(\.|\)|\.\))\s+(?=\S)")
_HEADING = re.compile(r"#{2,6}\s+")
_ASKS = re.compile(
    r"(?:what|how|why|when|where|who|whom|whose|which|is|are|was|were|can|could|does|do|did|should|will|would|has|have)\b",
    re.IGNORECASE,
)
_TAG = re.compile(r"<(query|question|search_query|answer|output|response|result|final|final_answer|text)>\s*", re.I)
_BOXED = re.compile(r"\$*\\boxed\{(?:\\text\{)?([^{}]*)\}{1,2}\$*[.]?")
_GLUED = re.compile(r"(?<=\S)(?:<[|｜][\w▁]+[|｜]>|</s>|<eos>|<end_of_turn>|\[EOS\])\s*$")
_JSON = re.compile(
    r'\s*(?:```(?:json)?\s*)?\{\s*"(?:quer(?:y|ies)|questions?|search_query|q|output|answer)"\s*:\s*\[?\s*"([^"\\]+)"'
)
Span = tuple[int, int]


def json_value(text: str, start: int, end: int) -> Span | None:
    """The query in `{"query": "..."}`, fenced or not."""
    match = _JSON.match(text, start, end)
    return match.span(1) if match else None


def trimmed(text: str, start: int, end: int) -> Span:
    """The span without blanks at its ends."""
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return start, end


def without_lead(text: str, start: int, end: int, *, listed: bool) -> Span:
    """Without a bullet, a heading's mark or a number; `listed` where more of a list or an announcement is in sight."""
    for pattern in (_BULLET, _HEADING):
        if match := pattern.match(text, start, end):
            return match.end(), end
    if (match := _NUMBER.match(text, start, end)) and (listed or _counts(match, text[match.end() : end])):
        return match.end(), end
    if listed and text.startswith("> ", start, end):
        return start + 2, end
    return start, end


def _counts(number: re.Match[str], rest: str) -> bool:
    """Whether a number counts queries: German and others write ordinals in the same way."""
    return ")" in number[2] or rest.endswith("?") or _ASKS.match(rest) is not None


def without_pair(text: str, start: int, end: int) -> Span:
    """Without one pair of marks around the whole."""
    if (match := _TAG.match(text, start, end)) and (close := text.find(f"</{match[1]}>", match.end(), end)) >= 0:
        return match.end(), close
    if (boxed := _BOXED.match(text, start, end)) and boxed.end() == end:
        return boxed.span(1)
    if glued := _GLUED.search(text[start:end]):
        return start, start + glued.start()
    stop = end - 1 if text[end - 1 : end] in (".", ",", ";") else end  # behind the closing mark
    for edge in dict.fromkeys((end, stop)):
        if (inner := _quoted(text, start, edge) or _emphasised(text, start, edge)) is not None:
            return inner
    return start, end


def _quoted(text: str, start: int, end: int) -> Span | None:
    if end - start < 3 or QUOTES.get(text[start]) != text[end - 1]:
        return None
    inner, close = text[start + 1 : end - 1], text[end - 1]
    if close in "'’":  # apostrophes are no quotes
        inner = re.sub(r"(?<=\w)['’](?=\w)", "", inner)
    if (place := inner.find(close)) >= 0 and (place == 0 or not inner[place - 1].isspace()):
        return None  # two quoted phrases
    return start + 1, end - 1


def _emphasised(text: str, start: int, end: int) -> Span | None:
    for mark in _EMPHASIS:
        if not (text.startswith(mark, start, end) and text.endswith(mark, start, end) and end - start > 2 * len(mark)):
            continue
        inner = text[start + len(mark) : end - len(mark)]
        words = " " in inner.strip() if mark[0] == "_" else inner[0].isalnum() or " " in inner
        if words and mark not in inner and (len(mark) > 1 or not inner.startswith(mark)):
            return start + len(mark), end - len(mark)
    return None
