"""Every error this package raises on purpose.

    InparsError
    ├── ConfigError             settings that cannot work; all problems at once
    │   └── UntrainedModelError a model that was never trained to score pairs
    ├── DataFormatError         a file in the wrong format: path, line, field, excerpt
    │   └── UnreadableFileError a document without extractable text: encrypted, scanned, damaged
    ├── PromptError             a prompt template that cannot be used
    ├── UnknownNameError        an unknown name; lists the valid ones
    ├── StaleInputError         inputs that do not belong together
    ├── MissingDependencyError  a missing optional package; has the pip line
    ├── BackendError            a model, JVM or server failed
    └── StorageError            the disk is full or a path cannot be written

The message is one line that says what is wrong, where, and what to do. The command line prints it and exits 1.
"""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

EXCERPT_CHARACTERS = 80
MESSAGE_CHARACTERS = 2000
END_CHARACTERS = 600  # kept at the end of a truncated message, which says what to do
LINE_BREAKS = re.compile(r"\s*[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]\s*")


class InparsError(Exception):
    """Base of all errors raised on purpose. Can be pickled, for workers of a cluster."""

    def __init__(self, message: str = "") -> None:
        """Reduce the message to one line of bounded length, whatever it quotes."""
        super().__init__(_clipped(LINE_BREAKS.sub(" ", message)))

    def __reduce__(self) -> tuple[Callable[..., InparsError], tuple[Any, ...]]:
        return _restored, (type(self), self.args, self.__dict__)


def _restored(kind: type[InparsError], args: tuple[object, ...], fields: dict[str, object]) -> InparsError:
    """Restore a pickled error without its constructor, which takes the parts of the message."""
    error = kind.__new__(kind, *args)
    error.__dict__.update(fields)
    return error


class ConfigError(InparsError):
    """Settings that cannot work together or at all."""

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("; ".join(self.problems))


class UntrainedModelError(ConfigError):
    """A model that was not trained to score pairs, so its scores are random."""


class DataFormatError(InparsError):
    """A file in the wrong format."""

    def __init__(
        self,
        problem: str,
        *,
        path: Path | str | None = None,
        line: int | None = None,
        field: str | None = None,
        excerpt: str | None = None,
    ) -> None:
        where = "" if path is None else f"{path}:{line}: " if line is not None else f"{path}: "
        message = f"field {field!r}: {problem}" if field else problem
        quote = "" if excerpt is None else f" (found {_shorten(excerpt)!r})"
        self.path, self.line, self.field = path, line, field
        super().__init__(f"{where}{message}{quote}")


class UnreadableFileError(DataFormatError):
    """A document without extractable text; `reason` is the same for all of a kind."""

    def __init__(self, reason: str, *, path: Path | str) -> None:
        self.reason = reason
        super().__init__(reason, path=path)


class PromptError(InparsError):
    """A prompt template that cannot be read or filled."""


class UnknownNameError(InparsError):
    """An unknown name; the message lists the valid ones."""

    def __init__(self, kind: str, name: str, valid: Iterable[str], hint: str = "") -> None:
        names = sorted(valid)
        close = difflib.get_close_matches(name, names, n=1)
        guess = f"; did you mean {close[0]!r}?" if close else ""
        tail = f"; {hint}" if hint else ""
        super().__init__(f"unknown {kind} {name!r}{guess} (known: {', '.join(names)}){tail}")


class StaleInputError(InparsError):
    """Files made from other inputs than the current ones."""


class MissingDependencyError(InparsError):
    """Optional packages are not installed; `packages` are their names, with commas between several."""

    def __init__(self, packages: str, purpose: str, install: str) -> None:
        verb, them = ("are", "them") if "," in packages else ("is", "it")
        super().__init__(f"{packages} {verb} needed {purpose} and {verb} not installed; install {them} with: {install}")


def pip_line(requirements: Sequence[str]) -> str:
    """`pip install ...`, quoted for the shell."""
    return f"pip install {' '.join(map(shlex.quote, requirements))}"


class BackendError(InparsError):
    """A model, the JVM or a server failed."""


class StorageError(InparsError):
    """A file cannot be written."""


def reason_of(error: BaseException) -> str:
    """The first line of an error's message, or its class if the message is empty."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _clipped(message: str) -> str:
    if len(message) <= MESSAGE_CHARACTERS:
        return message
    return f"{message[: MESSAGE_CHARACTERS - END_CHARACTERS - 3]} … {message[-END_CHARACTERS:]}"


def _shorten(text: str) -> str:
    text = text.strip()
    return text if len(text) <= EXCERPT_CHARACTERS else text[: EXCERPT_CHARACTERS - 1] + "…"
