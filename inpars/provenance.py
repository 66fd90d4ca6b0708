"""The command line that is being carried out, for the manifests: as it was typed, whoever turned it into a call."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

DISPLAY_FLAGS = frozenset({"--overwrite", "--quiet", "--json"})  # make no difference to what comes out
LINE = 96  # characters of a shown command from which it goes on in the next line

_ARGV: ContextVar[tuple[str, ...]] = ContextVar("argv", default=())


@contextmanager
def running(argv: Sequence[str]) -> Iterator[None]:
    """For the time of the block, `argv` is what is being carried out."""
    token = _ARGV.set(tuple(argv))
    try:
        yield
    finally:
        _ARGV.reset(token)


def current_argv() -> list[str]:
    """Program, command and flags; empty where a program called the library."""
    return list(_ARGV.get())


def shown_command(argv: Sequence[str]) -> str:
    """The command for a shell, without flags that only say how it is shown, in lines that a shell reads over."""
    words = [shlex.quote(word) for word in argv if word not in DISPLAY_FLAGS]
    parts: list[str] = []  # a flag with its value, or a word alone
    for word in words:
        if parts and parts[-1].startswith("--") and " " not in parts[-1] and not word.startswith("-"):
            parts[-1] += f" {word}"
        else:
            parts.append(word)
    lines, line = [], ""
    for part in parts:
        if line and len(line) + len(part) > LINE:
            lines.append(line)
            line = "   "
        line += f" {part}" if line else part
    return " \\\n".join([*lines, line])
