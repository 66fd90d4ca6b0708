"""What must hold of whatever a reader accepts. Each check raises `BrokenPromiseError` with one line."""

from __future__ import annotations

import contextlib
import io
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from inpars.cli.main import main
from inpars.errors import ConfigError, InparsError

MAX_MESSAGE_CHARACTERS = 3000


class BrokenPromiseError(Exception):
    """Something was accepted and then was not what it should be; the first words say which promise it is."""


class RefusedError(InparsError):
    """A command refused its input as it should; the message is its line."""


@dataclass(frozen=True, slots=True)
class Done:
    """A command that succeeded."""

    out: str
    err: str

    @property
    def values(self) -> Any:  # noqa: ANN401 - a JSON value
        """Its JSON on stdout."""
        return strict(self.out, "stdout")


def run(*arguments: object) -> Done:
    """A whole command. Raises RefusedError where it refuses with one line, whatever it lets through otherwise."""
    out, err = _Strict(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
    said = err.getvalue()
    if code not in (0, 1, 2):
        _broken("exit code", f"{code} of {arguments[0]}")
    for mark in ("Traceback (most recent call last)", "this is a fault of inpars"):
        if mark in said:
            _broken("traceback", said.splitlines()[-1])
    if code == 0:
        return Done(out.getvalue(), said)
    lines = [line for line in said.splitlines() if line.startswith(f"inpars{' ' if code == 2 else ': '}")]
    if code == 1 and not lines and out.getvalue():  # verify: problems are its result
        return Done(out.getvalue(), said)
    if code == 1 and len(lines) != 1:
        _broken("refused without a line", said[-300:])
    raise RefusedError(lines[0] if lines else said.strip().rpartition("\n")[2])


class _Strict(io.StringIO):
    """Stdout that, like the real one, takes no half surrogates."""

    def write(self, text: str) -> int:
        """Write what UTF-8 can hold."""
        text.encode()
        return super().write(text)


def one_line(error: InparsError) -> None:
    """A refusal is one line that can be read."""
    message = str(error)
    if "\n" in message or "\r" in message:
        _broken("message of several lines", repr(message[:200]))
    if len(message) > MAX_MESSAGE_CHARACTERS:
        _broken("message without end", f"{len(message)} characters: {message[:100]!r}")


def strict(text: str | bytes, where: str) -> Any:  # noqa: ANN401 - a JSON value
    """A JSON value that any reader takes: UTF-8, no NaN, no half surrogates."""

    def refuse(name: str) -> NoReturn:
        _broken("not strict JSON", f"{name} in {where}")

    try:
        shown = text.decode("utf-8") if isinstance(text, bytes) else text
        value = json.loads(shown, parse_constant=refuse)
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as error:
        _broken("not strict JSON", f"{type(error).__name__} in {where}: {str(error)[:80]}")
    return value


def strict_lines(path: Path) -> list[Any]:
    """The values of a file of JSON lines that a stage wrote."""
    lines = path.read_bytes().split(b"\n")
    if lines.pop():
        _broken("torn line", f"{path.name} does not end with a newline")
    return [strict(line, path.name) for line in lines]


def same(what: str, one: object, other: object) -> None:
    """Two things that must be equal; NaN equals itself."""
    if one != other and repr(one) != repr(other):
        _broken(what, f"{_short(one)} became {_short(other)}")


def same_rows(what: str, one: Iterable[object], other: Iterable[object]) -> None:
    """Two rows of things that must be equal."""
    first, second = list(one), list(other)
    same(f"{what}, number", len(first), len(second))
    for left, right in zip(first, second, strict=True):
        same(what, left, right)


def shares(values: Iterable[float], what: str) -> None:
    """Numbers between 0 and 1."""
    for value in values:
        if not (isinstance(value, int | float) and math.isfinite(value) and -1e-9 <= value <= 1 + 1e-9):
            _broken("not between 0 and 1", f"{what} is {value}")


def finite(values: Sequence[float], what: str) -> None:
    """Numbers that are numbers."""
    for value in values:
        if not math.isfinite(value):
            _broken("not finite", f"{what} is {value}")


def writable(write: Any, what: str) -> None:  # noqa: ANN401 - any function without arguments
    """What was read can be written; only settings may be refused then."""
    try:
        write()
    except ConfigError:
        return
    except (InparsError, UnicodeEncodeError) as error:
        _broken(f"{what} accepted and not writable", f"{type(error).__name__}: {str(error)[:200]}")


def _broken(promise: str, detail: str) -> NoReturn:
    raise BrokenPromiseError(f"{promise}: {detail}".encode("utf-8", "backslashreplace").decode())


def _short(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 150 else shown[:149] + "…"
