"""Stream large JSON files that are one object or one list; only single members or elements need fit in memory."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from inpars.errors import DataFormatError
from inpars.io.json_text import json_error, parse_json
from inpars.io.storage import broken_json, open_lines

CHUNK = 1 << 16
BLANKS = " \t\r\n"


class JsonStream:
    """A pull parser of JSON. Raises DataFormatError with the line of broken JSON."""

    def __init__(self, stream: IO[bytes], path: Path) -> None:
        """`path` is for messages."""
        self.line = 1
        self._stream, self._path = stream, path
        self._text, self._offset, self._ended = "", 0, False
        self._decoder = json.JSONDecoder()
        self._characters = codecs.getincrementaldecoder("utf-8-sig")()

    def peek(self) -> str:
        """The next character that is not blank; empty at the end."""
        while True:
            while self._offset < len(self._text) and self._text[self._offset] in BLANKS:
                self._step(1)
            if self._offset < len(self._text) or not self._refill():
                return self._text[self._offset : self._offset + 1]

    def take(self, expected: str) -> None:
        """Consume one character, which must be `expected`."""
        if self.peek() != expected:
            raise self.broken(f"{expected!r} is missing")
        self._step(1)

    def value(self) -> Any:  # noqa: ANN401 - JSON
        """Consume the next value."""
        self.peek()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._offset)
            except (ValueError, RecursionError) as error:
                if isinstance(error, json.JSONDecodeError) and self._refill(double=True):
                    continue
                raise broken_json(self._path, self.line, json_error(error), self._text[self._offset :][:200]) from None
            may_continue = not self._text[end : end + 3].strip(".eE+-") and end + 3 > len(self._text)
            if not may_continue or not self._refill():  # a number may continue in the next chunk
                has_escapes = "\\u" in self._text[self._offset : end]  # perhaps half a surrogate pair
                value = parse_json(self._text[self._offset : end]) if has_escapes else value
                self._step(end - self._offset)
                return value

    def members(self) -> Iterator[str]:
        """The keys of an object; the caller consumes the value after each key."""
        self.take("{")
        for _ in self._until("}"):
            key = self.value()
            if not isinstance(key, str):
                raise self.broken("a key must be text")
            self.take(":")
            yield key

    def elements(self) -> Iterator[int]:
        """The line of each element of a list; the caller consumes the element."""
        self.take("[")
        for _ in self._until("]"):
            yield self.line

    def finish(self) -> None:
        """Raise DataFormatError unless nothing follows."""
        if self.peek():
            raise self.broken("there is more after the end")

    def broken(self, problem: str) -> DataFormatError:
        """The error at the current position."""
        return DataFormatError(
            f"broken JSON: {problem}; mend it or write the file again",
            path=self._path,
            line=self.line,
            excerpt=self._text[self._offset :][:200],
        )

    def _until(self, closing: str) -> Iterator[None]:
        while self.peek() not in (closing, ""):
            yield
            if self.peek() != ",":
                break
            self._step(1)
            if self.peek() == closing:
                raise self.broken("a comma with nothing after it")
        self.take(closing)

    def _step(self, count: int) -> None:
        self.line += self._text.count("\n", self._offset, self._offset + count)
        self._offset += count

    def _refill(self, *, double: bool = False) -> bool:
        """Drop consumed text and read more; False at the end. `double` keeps the cost of long values linear."""
        if self._ended:
            return False
        raw = self._stream.read(max(CHUNK, len(self._text) - self._offset) if double else CHUNK)
        self._ended = not raw
        try:
            fresh = self._characters.decode(raw, final=self._ended)
        except UnicodeDecodeError as error:
            problem = f"not UTF-8 ({error.reason}); convert the file to UTF-8"
            raise DataFormatError(problem, path=self._path, line=self.line) from None
        self._text, self._offset = self._text[self._offset :] + fresh, 0
        return not self._ended


def write_pieces(stream: IO[str], brackets: str, pieces: Iterable[str]) -> int:
    """Write an object's members or a list's elements, one per line between the brackets, and return their number."""
    count = 0
    stream.write(brackets[0])
    for piece in pieces:
        stream.write(",\n" if count else "\n")
        stream.write(piece)
        count += 1
    stream.write(f"\n{brackets[1]}")
    return count


def read_json_list(path: Path) -> Iterator[tuple[int, Any]]:
    """The elements of a file that is one list, each with its first line."""
    with open_lines(path) as stream:
        parser = JsonStream(stream, path)
        for line in parser.elements():
            yield line, parser.value()
        parser.finish()
