"""Lines on an output whose count alone would look like a success."""

import pytest

from inpars.generation.degeneration_monitor import result_notes


def records(*pairs):
    return [{"query": text, "finish_reason": reason} for text, reason in pairs]


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ([], []),
        ([("a", "stop")], []),
        ([("a", "stop"), ("b", "length"), ("", "error")], []),
        ([("", "stop"), ("a", "stop"), ("b", "stop")], ["1 of 3 queries are empty"]),
        ([("", "stop"), (" ", "stop")], ["all 2 queries are empty"]),
        ([("", "length")], ["all 1 queries are empty", "all 1 queries were cut off at 64 tokens"]),
        ([("a", "length"), ("b", "length")], ["all 2 queries were cut off at 64 tokens"]),
        ([("a", "stop"), ("a", "length")], ["all 2 queries that are not empty are the same: 'a'"]),
        ([("a", "stop"), ("a", "stop"), ("", "error")], ["all 2 queries that are not empty are the same: 'a'"]),
        ([("", "error"), ("", "error")], ["all 2 queries are empty: the server refused"]),
    ],
)
def test_what_is_amiss_is_said(written, expected):
    lines = result_notes(records(*written), 64)
    assert len(lines) == len(expected)
    assert all(line.startswith(start) for line, start in zip(lines, expected, strict=True))
