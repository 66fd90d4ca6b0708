"""Read plain text and Markdown line by line, in bounded memory.

Markdown is split into paragraphs, list items, table rows and code listings; it is not rendered. Offsets are characters
of the file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

from inpars.documents.blocks import Block, FileNotes, Headings, Markup, clean
from inpars.documents.readers import ReadOptions
from inpars.documents.text_files import encoding_of, lines_of, open_text

MAX_CHARACTERS = 1 << 13  # longer paragraphs are split

Lines = Iterator[tuple[int, str]]


@dataclass(slots=True)
class Paragraph:
    """Collects lines until a block ends."""

    markup: Markup
    start: int = 0
    text: str = ""

    def add(self, start: int, line: str) -> None:
        """Append a line."""
        if not self.text:
            self.start = start
        self.text += line

    def take(self, headings: tuple[str, ...] = (), markup: Markup | None = None) -> Iterator[Block]:
        """Yield the block unless it is blank, and start a new one."""
        text, self.text = self.text, ""
        if text.strip():
            body = text.rstrip()
            lead = len(body) - len(body.lstrip())
            if markup == "code":
                lead = body.rfind("\n", 0, lead) + 1  # the first line keeps its indentation
            yield Block(body[lead:], self.start + lead, headings, markup or self.markup)


def read_plain(path: Path, notes: FileNotes, options: ReadOptions) -> Iterator[Block]:
    """Paragraphs between blank lines."""
    yield from read_lines_of(path, notes, options, _plain_blocks)


def read_markdown(path: Path, notes: FileNotes, options: ReadOptions) -> Iterator[Block]:
    """Paragraphs, list items, rows and listings under their headings; of front matter only the title is used."""
    yield from read_lines_of(path, notes, options, _markdown_blocks)


def read_lines_of(
    path: Path, notes: FileNotes, options: ReadOptions, blocks: Callable[[Lines, FileNotes], Iterator[Block]]
) -> Iterator[Block]:
    """The blocks of a text file in any encoding."""
    with open_text(path, encoding_of(path, options.encoding, notes.remarks.append)) as stream:
        yield from blocks(lines_of(stream), notes)


def _plain_blocks(lines: Lines, _notes: FileNotes) -> Iterator[Block]:
    paragraph = Paragraph("plain")
    for start, line in lines:
        if not line.strip() or len(paragraph.text) >= MAX_CHARACTERS:
            yield from paragraph.take()
        if line.strip():
            paragraph.add(start, line)
    yield from paragraph.take()


_HEADING = re.compile(r"^ {0,3}(#{1,6})(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*$")
_UNDERLINE = re.compile(r"^ {0,3}(=+|-+)[ \t]*$")
_FENCE = re.compile(r"^[ \t]*(?:[-+*][ \t]+|\d+[.)][ \t]+)?(`{3,}(?=[^`]*$)|~{3,})")
_ITEM = re.compile(r"^[ \t]*(?:>[ \t]?)*(?:[-+*][ \t]+|\d{1,9}[.)][ \t]+)\S")
_CONTAINER = re.compile(r"^[ \t]*(?:!!!|\?\?\?|===|:|\[\^)")  # notes, tabs, definitions: indented text belongs to them
_INDENTED = re.compile(r"^(?: {4}| {0,3}\t)[ \t]*\S")
_ROW = re.compile(r"^[ \t]*\|")
_RULER = re.compile(r"^[\s|:+*_=-]+$")
FRONT_LINES = 500  # maximum length of front matter
_FRONT_KEY = re.compile(r"^(?:#|-{3}$|\.{3}$|[\w\"'-][^:]*:(?:\s|$))")
_FRONT_TITLE = re.compile(r"^title:[ \t]*[\"']?(.*?)[\"']?[ \t]*$", re.IGNORECASE)


class _Markdown:
    """A line-based parser of Markdown."""

    def __init__(self, notes: FileNotes) -> None:
        self.paragraph, self.headings, self.notes = Paragraph("markdown"), Headings(), notes
        self._fence = ""
        self._indented = False  # in an indented listing
        self._in_list = False  # indented text continues a list item
        self._empty_section: tuple[int, int, str] | None = None  # level, offset and text of a heading without text yet

    def end(self) -> Iterator[Block]:
        for block in self.paragraph.take(self.headings.path, "code" if self._fence or self._indented else None):
            self._empty_section = None
            yield block
        self._indented = False

    def close(self) -> Iterator[Block]:
        """End the file; a lone title does not count as text."""
        yield from self.end()
        if self._empty_section is not None and self._empty_section[0] > 1:
            yield from self._enter(0, 0, "")

    def _enter(self, level: int, start: int, text: str) -> Iterator[Block]:
        """Begin a section; the heading of an empty section before it becomes a block."""
        if self._empty_section is not None and level <= self._empty_section[0]:
            yield Block(self._empty_section[2], self._empty_section[1], self.headings.path, "markdown")
        enter(self.headings, self.notes, level, text, "markdown")
        self._empty_section = (level, start, text) if text.strip() else None

    def line(self, start: int, line: str) -> Iterator[Block]:
        """Process a line; yields the blocks that end here."""
        bare = line.rstrip("\r\n")
        if self._indented and bare.strip() and not _INDENTED.match(bare):
            yield from self.end()
        if self._fence or self._indented:
            yield from self._listing(start, line)
        else:
            yield from self._text(start, line, bare)

    def _text(self, start: int, line: str, bare: str) -> Iterator[Block]:
        """Process a line outside listings."""
        if fenced := _FENCE.match(bare):
            yield from self.end()
            self._fence = fenced[1]
        elif not self.paragraph.text and not self._in_list and _INDENTED.match(bare):
            self._indented = True
            self.paragraph.add(start, line)
        elif heading := _HEADING.match(bare):
            yield from self.end()
            self._in_list = False
            yield from self._enter(len(heading[1]), start + max(heading.start(2), 0), heading[2] or "")
        elif (under := _UNDERLINE.match(bare)) and self.paragraph.text.strip() and not _ITEM.match(self.paragraph.text):
            text, self.paragraph.text = self.paragraph.text.rstrip(), ""
            yield from self._enter(1 if under[1][0] == "=" else 2, self.paragraph.start, text)
        elif not bare.strip() or _RULER.match(bare):
            yield from self.end()
        else:
            if _ITEM.match(bare) or _CONTAINER.match(bare):
                self._in_list = True
            elif not self.paragraph.text and not bare[0].isspace():
                self._in_list = False
            if _ITEM.match(bare) or _ROW.match(bare) or len(self.paragraph.text) >= MAX_CHARACTERS:
                yield from self.end()
            self.paragraph.add(start, line)

    def _listing(self, start: int, line: str) -> Iterator[Block]:
        bare = line.strip()
        if self._fence and bare.startswith(self._fence) and not bare.strip(self._fence[0]):
            yield from self.end()
            self._fence = ""
            return
        if len(self.paragraph.text) >= MAX_CHARACTERS:
            indented = self._indented
            yield from self.end()
            self._indented = indented
        self.paragraph.add(start, line)


def _markdown_blocks(lines: Lines, notes: FileNotes) -> Iterator[Block]:
    parser = _Markdown(notes)
    front = list(islice(lines, FRONT_LINES))
    length = _front_matter([line.rstrip() for _, line in front])
    for _, line in front[:length]:
        titled = _FRONT_TITLE.match(line.rstrip())
        notes.title = titled[1] if titled else notes.title
    for start, line in chain(front[length:], lines):
        yield from parser.line(start, line)
    yield from parser.close()


def _front_matter(lines: Sequence[str]) -> int:
    """The number of lines of YAML front matter: a ruler, keys without a blank line first, and a ruler."""
    if len(lines) < 2 or lines[0] != "---" or not _FRONT_KEY.match(lines[1]):
        return 0
    return next((number for number, line in enumerate(lines[1:], start=2) if line in ("---", "...")), 0)


def enter(headings: Headings, notes: FileNotes, level: int, text: str, markup: Markup) -> None:
    """Begin a section; the first heading becomes the file's title if it has none."""
    heading = clean(text, markup)
    headings.enter(level, heading)
    notes.title = notes.title or heading
