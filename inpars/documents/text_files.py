"""Text files in whatever encoding: opened as text with bounded memory, refused where they hold no text.

A byte order mark decides, then UTF-8, then UTF-16 without a mark. What is neither is read in the encoding that is named
for such files: bytes do not say whether they are Latin-1 or Latin-2.
"""

from __future__ import annotations

import codecs
import gzip
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TextIO, cast

from inpars.errors import ConfigError, UnreadableFileError
from inpars.io.storage import is_gzip

FALLBACK = "cp1252"  # Latin-1 with the quotation marks and dashes that Windows put into its gaps
NOT_TEXT = "not text (binary data)"
CHUNK_BYTES = 1 << 18
LINE_CHARACTERS = 1 << 13  # longer lines come in pieces, so that a file of one line needs no memory
MAX_CONTROLS = 0.01  # of all bytes; terminal colours and form feeds occur in texts
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CONTROLS = bytes(sorted(set(range(32)) - set(b"\t\n\r\f\b\x1b") | {127}))


def encoding_of(path: Path, fallback: str = FALLBACK) -> str:
    """The encoding of a text file. Raises UnreadableFileError for what is not text, ConfigError for the fallback."""
    try:
        codecs.lookup(fallback)
    except LookupError:
        raise ConfigError(f"--encoding is {fallback!r}, which Python does not know; give latin2 for instance") from None
    with open_bytes(path) as stream:
        head = stream.read(CHUNK_BYTES)
    marked = next((name for mark, name in _MARKS if head.startswith(mark)), None)
    if marked is not None:
        return marked
    if b"\0" in head:
        return _unmarked_wide(head, path)
    if len(head.translate(None, _CONTROLS)) < (1 - MAX_CONTROLS) * len(head):
        raise UnreadableFileError(NOT_TEXT, path=path)
    return "utf-8" if _is_utf8(path) else fallback


@contextmanager
def open_text(path: Path, encoding: str) -> Iterator[TextIO]:
    """The file as text, its newlines as they are; bytes that do not belong become U+FFFD."""
    with open_bytes(path) as stream, io.TextIOWrapper(stream, encoding=encoding, errors="replace", newline="") as text:
        yield text


@contextmanager
def open_bytes(path: Path) -> Iterator[IO[bytes]]:
    """The file's bytes, unpacked where its name ends in .gz."""
    with path.open("rb") as raw:
        try:
            yield cast(IO[bytes], gzip.GzipFile(fileobj=raw)) if is_gzip(path) else raw
        except (gzip.BadGzipFile, EOFError) as error:
            raise UnreadableFileError(f"damaged ({error})", path=path) from None


def lines_of(stream: TextIO) -> Iterator[tuple[int, str]]:
    """Lines with the character each begins at; a long one comes in pieces."""
    start = 0
    while line := stream.readline(LINE_CHARACTERS):
        yield start, line
        start += len(line)


def _is_utf8(path: Path) -> bool:
    """Whether the whole file is UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        with open_bytes(path) as stream:
            while chunk := stream.read(CHUNK_BYTES):
                decoder.decode(chunk)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _unmarked_wide(head: bytes, path: Path) -> str:
    """UTF-16 without a mark: every other byte of Western text is zero. Raises UnreadableFileError for all else."""
    even, odd = head[0::2].count(0), head[1::2].count(0)
    name = "utf-16-be" if even > odd else "utf-16-le"
    sparse, dense = sorted((even, odd))
    if dense < 0.4 * len(head) / 2 or sparse > 0.02 * len(head) / 2:
        raise UnreadableFileError(NOT_TEXT, path=path)
    try:
        codecs.getincrementaldecoder(name)().decode(head[: len(head) // 2 * 2])
    except UnicodeDecodeError:
        raise UnreadableFileError(NOT_TEXT, path=path) from None
    return name
