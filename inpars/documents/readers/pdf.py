"""Read PDF page by page with pypdf; headers and footers of most pages are dropped after the first page.

Lines that fill the page's width are joined to paragraphs; a shorter line ends one. Offsets are characters of the page's
text as extracted by pypdf. Columns are not recognised; see `layout`.
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
EDGE_LINES = 3  # lines at the top and bottom of a page that may be headers and footers
MIN_PAGES = 3  # with the same line, for a header or footer
FULL_LINE = 0.7  # share of the page's usual line length from which the next line continues the paragraph
_END_MARK, _TAIL_BYTES = b"%%EOF", 2048
_NEW_END = b"\nstartxref\n0\n%%EOF\n"  # for truncated files
_NUMBER = re.compile(r"(?<![\d.,])[0-9]{1,5}(?![\d.,]\d)")
_BROKEN = (PyPdfError, ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError, OSError)


def read_pdf(path: Path, notes: FileNotes, _options: ReadOptions) -> Iterator[Block]:
    """The paragraphs of each page."""
    with path.open("rb") as stream, _quiet_pypdf():
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
            reader = PdfReader(BytesIO(read_whole(path) + _NEW_END))  # makes pypdf search for objects
        if reader.is_encrypted and not reader.decrypt(""):  # many only forbid printing, without a password
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
    """The text of each page, and whether a page without text has pictures."""
    texts: list[str] = []
    pictures, broken = False, list[int]()
    for number, page in enumerate(reader.pages, start=1):
        try:
            text = page.extract_text()
            pictures |= not text.strip() and "/XObject" in (page.get("/Resources") or {})
        except Exception:  # pypdf may raise anything; the other pages are read
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
    """The shapes of lines at the top or bottom of most pages."""
    counts: Counter[str] = Counter()
    for page, text in enumerate(texts, start=1):
        lines = [line for line in text.splitlines() if line.strip()]
        counts.update({shape for line in (*lines[:EDGE_LINES], *lines[-EDGE_LINES:]) for shape in _shapes(line, page)})
    pages = sum(bool(text.strip()) for text in texts)
    return {shape for shape, count in counts.items() if count >= max(MIN_PAGES, pages / 2)}


def _shapes(line: str, page: int) -> set[str]:
    """The line itself, and with each number relative to the page number, which is constant for page numbers."""
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
    paragraph, begin, start = "", 0, 0
    for number, line in enumerate(lines):
        bare = line.strip()
        is_dropped = number in edges and (page > 1 or bare.isdigit()) and not repeated.isdisjoint(_shapes(line, page))
        if bare and not is_dropped:
            begin = begin if paragraph else start
            paragraph += line
        notes.dropped["boilerplate"] += is_dropped
        start += len(line)
        if paragraph and (is_dropped or not bare or len(line.rstrip()) < full):
            yield Block(paragraph.rstrip(), begin, markup="lines", page=page)
            paragraph = ""
    if paragraph:
        yield Block(paragraph.rstrip(), begin, markup="lines", page=page)


@contextmanager
def _quiet_pypdf() -> Iterator[None]:
    """Suppress pypdf's warnings about malformed files; our remarks report what matters."""
    logger = logging.getLogger("pypdf")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)
