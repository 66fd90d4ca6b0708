"""Errors: one line of bounded length, whatever they quote."""

import pickle

import pytest

from inpars.errors import MESSAGE_CHARACTERS, ConfigError, DataFormatError, InparsError, UnknownNameError


@pytest.mark.parametrize("line_break", ["\n", "\r\n", "\r", "\v", "\x85", "\u2028", " \n\n "])
def test_messages_are_one_line(line_break):
    assert str(DataFormatError(f"unknown key a{line_break}b", path="x.json", line=3)) == "x.json:3: unknown key a b"


@pytest.mark.parametrize(
    "error",
    [
        ConfigError(["x" * 3000, "use --flag"]),
        UnknownNameError("measure", "x" * 3000, ["nDCG"], "use --flag"),
        InparsError("x" * 100_000 + "; use --flag"),
    ],
)
def test_long_messages_keep_their_beginning_and_end(error):
    message = str(error)
    assert len(message) == MESSAGE_CHARACTERS
    assert message.endswith("use --flag")
    assert "x" * 500 in message
    assert str(pickle.loads(pickle.dumps(error))) == message


def test_messages_of_the_longest_length_are_whole():
    assert str(InparsError("x" * MESSAGE_CHARACTERS)) == "x" * MESSAGE_CHARACTERS
