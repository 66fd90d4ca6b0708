"""The command line that is being executed, for manifests."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

DISPLAY_FLAGS = frozenset({"--overwrite", "--quiet", "--json"})  # do not change the result
LINE = 96  # characters per line of a shown command

_ARGV: ContextVar[tuple[str, ...]] = ContextVar("argv", default=())


@contextmanager
def running(argv: Sequence[str]) -> Iterator[None]:
    """Inside the block, `argv` is the current command."""
    token = _ARGV.set(tuple(argv))
    try:
        yield
    finally:
        _ARGV.reset(token)


def current_argv() -> list[str]:
    """Program, command and flags; empty if the library was called directly."""
    return list(_ARGV.get())


def shown_command(argv: Sequence[str]) -> str:
    """The command for a shell, without `DISPLAY_FLAGS`, wrapped with backslashes."""
    words = [shlex.quote(word) for word in argv if word not in DISPLAY_FLAGS]
    parts: list[str] = []  # a flag with its value, or a single word
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
