"""Where the grade stands in what a model replied, and the reason beside it.

Looked for, in this order: a JSON object's grade, a line that names the grade, a reply that begins with it. Positions
are returned, so that log-probabilities can be kept for the grade's tokens alone.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_NAMES = r"(?:grade|score|relevance|rating|judge?ment|label|O)"
_JSON = re.compile(rf"[\"']{_NAMES}[\"']\s*:\s*[\"']?([0-3])(?![\d.])", re.IGNORECASE)
_NAMED = re.compile(
    rf"\b(?:final\s+|overall\s+|relevance\s+)?{_NAMES}\b[\"'*_`\s]*(?:is|of|[:\uff1a=])[\"'*_`\s(]*([0-3])(?![\d.]\d|\d)",
    re.IGNORECASE,
)
_FIRST = re.compile(r"[\s\"'*_`#(\[]*([0-3])(?![\d.]\d|\d|\s*(?:-|\u2013|to)\s*\d)")
_REASON = re.compile(
    r"[\"'](?:reason|explanation|rationale|why)[\"']\s*:\s*[\"'](.+?)[\"']\s*[,}]", re.IGNORECASE | re.DOTALL
)
_LABEL = re.compile(r"^\W*(?:reason|reasoning|explanation|rationale|why)\W*[:\uff1a]\s*", re.IGNORECASE)
_EDGES = " \t\r\n*_`\"'#>.,;:-\u2013\u2014"


class FoundGrade(NamedTuple):
    """The grade, which is `text[start:end]`."""

    grade: int
    start: int
    end: int


def find_grade(text: str) -> FoundGrade | None:
    """The grade in a reply; of several that are named the last, None where there is none."""
    found = [*_JSON.finditer(text)] or [*_NAMED.finditer(text)]
    match = found[-1] if found else _FIRST.match(text)
    return None if match is None else FoundGrade(int(match[1]), *match.span(1))


def reason_in(text: str) -> str:
    """What a reply says besides its grade, on one line; empty where it says nothing."""
    if match := _REASON.search(text):
        return " ".join(match[1].split())
    found = find_grade(text)
    if found is None:
        return ""
    lines = [(match.start(), match.end()) for match in re.finditer(r"[^\n]+", text)]
    rest = [text[start:end] for start, end in lines if not start <= found.start < end]
    own = next((text[found.end : end] for start, end in lines if start <= found.start < end), "").strip(_EDGES)
    words = " ".join(" ".join([own, *(_LABEL.sub("", line) for line in rest)]).split())
    return words if re.search(r"\w{2}", words) else ""
