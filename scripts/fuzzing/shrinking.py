"""A case that goes wrong made as small as it can be while it goes wrong in the same way: by files, lines, bytes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from fuzzing.cases import Case

Check = Callable[[Case], bool]
"""Whether a case still goes wrong in the same way."""

SECONDS = 10.0


def shrunk(case: Case, wrong: Check, seconds: float = SECONDS, *, bytewise: bool = True) -> Case:
    """The smallest case that was found in that time; whole lines only without `bytewise`."""
    end = time.monotonic() + seconds
    case = _without_files(case, wrong)
    while time.monotonic() < end:
        before = case.size
        for name in sorted(case.files):
            case = _smaller(case, name, lambda content: content.splitlines(keepends=True), wrong, end)
            case = _smaller(case, name, _single_bytes, wrong, end) if bytewise else case
        if case.size == before:
            break
    return case


def _single_bytes(content: bytes) -> list[bytes]:
    return [content[place : place + 1] for place in range(len(content))]


def _without_files(case: Case, wrong: Check) -> Case:
    for name in sorted(case.files):
        fewer = Case(case.reader, case.main, {key: content for key, content in case.files.items() if key != name})
        if fewer.files and wrong(fewer):
            case = fewer
    return case


def _smaller(case: Case, name: str, split: Callable[[bytes], Sequence[bytes]], wrong: Check, end: float) -> Case:
    """Halves of the parts left out, then quarters, down to single ones."""
    parts = list(split(case.files[name]))
    size = len(parts) // 2
    while size and time.monotonic() < end:
        start = 0
        while start < len(parts) and time.monotonic() < end:
            fewer = parts[:start] + parts[start + size :]
            candidate = Case(case.reader, case.main, {**case.files, name: b"".join(fewer)})
            if wrong(candidate):
                parts, case = fewer, candidate
            else:
                start += size
        size //= 2
    return case
