"""Detect the encoding of text files and open them in bounded memory; binary files are refused.

Checked in order: a byte order mark, UTF-8, UTF-16 without a mark. Otherwise the fallback encoding is used, since bytes
do not tell Latin-1 from Latin-2.
"""

from __future__ import annotations

import codecs
import gzip
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import chain
from pathlib import Path
from typing import IO, TextIO, cast

from inpars.errors import ConfigError, UnreadableFileError
from inpars.io.storage import is_gzip
from inpars.progress import SILENT, Note

FALLBACK = "cp1252"  # a superset of Latin-1's printable characters
NOT_TEXT = "not text (binary data)"
CHUNK_BYTES = 1 << 18
LINE_CHARACTERS = 1 << 13  # longer lines are split, to bound memory
MAX_CONTROLS = 0.01  # share of control characters in text
MAX_BROKEN = 0.1  # share of broken bytes among what is not ASCII, up to which a text is UTF-8
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CONTROLS = bytes(sorted(set(range(32)) - set(b"\t\n\r\f\b\x1b") | {127}))
_BROKEN = re.compile("[\udc80-\udcff]")  # what surrogateescape makes of bytes that are not UTF-8


def encoding_of(path: Path, fallback: str = FALLBACK, note: Note = SILENT.note) -> str:
    """The encoding of a text file, noted unless it is UTF-8 throughout.

    Raises UnreadableFileError for binary files, ConfigError for an unknown fallback.
    """
    try:
        codecs.lookup(fallback)
    except LookupError:
        raise ConfigError(f"--encoding is {fallback!r}, which Python does not know; give latin2 for instance") from None
    with open_bytes(path) as stream:
        head = stream.read(CHUNK_BYTES)
    marked = next((name for mark, name in _MARKS if head.startswith(mark)), None)
    if marked is None and b"\0" in head:
        marked = _unmarked_wide(head, path)
    if marked is not None:
        if marked != "utf-8-sig":
            note(f"read as {marked}")
        return marked
    if len(head.translate(None, _CONTROLS)) < (1 - MAX_CONTROLS) * len(head):
        raise UnreadableFileError(NOT_TEXT, path=path)
    broken, others = _beyond_ascii(path)
    encoding = "utf-8" if broken <= MAX_BROKEN * (broken + others) else fallback
    if broken:
        note(f"read as {encoding}" + (f", with {broken} broken bytes" if encoding == "utf-8" else ""))
    return encoding


@contextmanager
def open_text(path: Path, encoding: str) -> Iterator[TextIO]:
    """Open a file as text with unchanged newlines; invalid bytes become U+FFFD."""
    with open_bytes(path) as stream, io.TextIOWrapper(stream, encoding=encoding, errors="replace", newline="") as text:
        yield text


@contextmanager
def open_bytes(path: Path) -> Iterator[IO[bytes]]:
    """Open a file as bytes, decompressed if its name ends in .gz. Raises UnreadableFileError for damaged gzip."""
    with path.open("rb") as raw:
        try:
            yield cast(IO[bytes], gzip.GzipFile(fileobj=raw)) if is_gzip(path) else raw
        except (gzip.BadGzipFile, EOFError) as error:
            raise UnreadableFileError(f"damaged ({error})", path=path) from None


def lines_of(stream: TextIO) -> Iterator[tuple[int, str]]:
    """Character offsets and lines; long lines are split."""
    start = 0
    while line := stream.readline(LINE_CHARACTERS):
        yield start, line
        start += len(line)


def _beyond_ascii(path: Path) -> tuple[int, int]:
    """How many bytes are not UTF-8, as in half a letter at the end, and how many other characters are not ASCII."""
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    broken = others = 0
    with open_bytes(path) as stream:
        for chunk in chain(iter(partial(stream.read, CHUNK_BYTES), b""), [b""]):
            text = decoder.decode(chunk, final=not chunk)
            if not text.isascii():
                found = len(_BROKEN.findall(text))
                broken, others = broken + found, others + len(text) - len(text.encode("ascii", "ignore")) - found
    return broken, others


def _unmarked_wide(head: bytes, path: Path) -> str:
    """The encoding of UTF-16 without a mark: every other byte of Western text is zero. Raises UnreadableFileError."""
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
