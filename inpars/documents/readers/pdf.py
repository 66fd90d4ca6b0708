"""PDF to blocks, page by page, by pypdf: what is printed at the head or foot of most pages is left out after the first.

Lines are joined to paragraphs where they fill the page's width; shorter ones, of tables and titles, stay alone. Places
are characters of the page's text as pypdf gives it. Knows nothing of columns: see `layout`.
"""

from __future__ import annotations

import logging
import math
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

from pypdf import PdfReader
from pypdf.errors import DependencyError, PdfReadError, PyPdfError

from inpars.documents.blocks import Block, FileNotes
from inpars.documents.readers import EMPTY, ReadOptions, read_whole
from inpars.errors import UnreadableFileError

ENCRYPTED = "encrypted; save it without its password"
SCANNED = "scanned: pictures of pages without text; run OCR over it"
DAMAGED = "damaged or cut off"
EDGE_LINES = 3  # of the top and of the bottom of a page, where headers and footers stand
MIN_PAGES = 3  # that share a line before it counts as a header
FULL_LINE = 0.7  # of the page's usual line, so that the next one goes on with it
_END_MARK, _TAIL_BYTES = b"%%EOF", 2048
_NEW_END = b"\nstartxref\n0\n%%EOF\n"  # for a file that was cut off
_NUMBER = re.compile(r"(?<![\d.,])[0-9]{1,5}(?![\d.,]\d)")
_BROKEN = (PyPdfError, ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError, OSError)


def read_pdf(path: Path, notes: FileNotes, _options: ReadOptions) -> Iterator[Block]:
    """The paragraphs of each page."""
    with path.open("rb") as stream, _warnings_kept_quiet():
        reader = _opened(path, stream)
        notes.title = _title(reader)
        texts, pictures = _page_texts(reader, notes, path)
    if not any(text.strip() for text in texts):
        raise UnreadableFileError(SCANNED if pictures else EMPTY, path=path)
    notes.dropped["empty_page"] += sum(not text.strip() for text in texts)
    repeated = _repeated(texts)
    for number, text in enumerate(texts, start=1):
        yield from _paragraphs(text, number, repeated, notes)


def _opened(path: Path, stream) -> PdfReader:  # type: ignore[no-untyped-def]  # noqa: ANN001
    try:
        try:
            reader = PdfReader(stream)
        except PdfReadError:
            reader = PdfReader(BytesIO(read_whole(path) + _NEW_END))  # its objects are searched for
        if reader.is_encrypted and not reader.decrypt(""):  # many are locked against printing alone, with no password
            raise UnreadableFileError(ENCRYPTED, path=path)
        len(reader.pages)
    except DependencyError:
        raise UnreadableFileError(f"{ENCRYPTED} (or pip install cryptography)", path=path) from None
    except UnreadableFileError:
        raise
    except _BROKEN:
        raise UnreadableFileError(DAMAGED, path=path) from None
    return reader


def _page_texts(reader: PdfReader, notes: FileNotes, path: Path) -> tuple[list[str], bool]:
    """The text of each page, and whether one without text has pictures."""
    texts: list[str] = []
    pictures, broken = False, list[int]()
    for number, page in enumerate(reader.pages, start=1):
        try:
            text = page.extract_text()
            pictures |= not text.strip() and "/XObject" in (page.get("/Resources") or {})
        except _BROKEN:
            text = ""
            broken.append(number)
        texts.append(text)
    if len(broken) == len(texts):
        raise UnreadableFileError(DAMAGED, path=path)
    if broken:
        notes.remarks.append(f"damaged: {len(broken)} of {len(texts)} pages cannot be read, {broken[0]} first")
    elif not _is_whole(path):
        notes.remarks.append(f"cut off: {sum(bool(t.strip()) for t in texts)} pages with text were found")
    return texts, pictures


def _is_whole(path: Path) -> bool:
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        return _END_MARK in stream.read()


def _title(reader: PdfReader) -> str:
    try:
        title = reader.metadata.title if reader.metadata is not None else None
    except _BROKEN:
        title = None
    return " ".join(str(title or "").split())


def _repeated(texts: list[str]) -> set[str]:
    """The shapes of lines at the edge of most pages."""
    counts: Counter[str] = Counter()
    for page, text in enumerate(texts, start=1):
        lines = [line for line in text.splitlines() if line.strip()]
        counts.update({shape for line in (*lines[:EDGE_LINES], *lines[-EDGE_LINES:]) for shape in _shapes(line, page)})
    pages = sum(bool(text.strip()) for text in texts)
    return {shape for shape, count in counts.items() if count >= max(MIN_PAGES, pages / 2)}


def _shapes(line: str, page: int) -> set[str]:
    """The line as it is, and with each number as its distance from the page's: a page number keeps that, a sum not."""
    text = " ".join(line.split()).casefold()
    return {text} | {
        f"{text[: number.start()]}#{int(number[0]) - page}{text[number.end() :]}" for number in _NUMBER.finditer(text)
    }


def _paragraphs(text: str, page: int, repeated: set[str], notes: FileNotes) -> Iterator[Block]:
    lines = text.splitlines(keepends=True)
    filled = [number for number, line in enumerate(lines) if line.strip()]
    edges = {*filled[:EDGE_LINES], *filled[-EDGE_LINES:]}
    widths = sorted(len(lines[number].rstrip()) for number in filled)
    full = FULL_LINE * widths[math.ceil(0.9 * (len(widths) - 1))] if widths else 0.0
    held, begin, start = "", 0, 0
    for number, line in enumerate(lines):
        bare = line.strip()
        left_out = number in edges and (page > 1 or bare.isdigit()) and not repeated.isdisjoint(_shapes(line, page))
        if bare and not left_out:
            begin = begin if held else start
            held += line
        notes.dropped["boilerplate"] += left_out
        start += len(line)
        if held and (left_out or not bare or len(line.rstrip()) < full):
            yield Block(held.rstrip(), begin, markup="lines", page=page)
            held = ""
    if held:
        yield Block(held.rstrip(), begin, markup="lines", page=page)


@contextmanager
def _warnings_kept_quiet() -> Iterator[None]:
    """What pypdf logs about files that are not quite as they should be: the remarks say what matters."""
    logger = logging.getLogger("pypdf")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)
