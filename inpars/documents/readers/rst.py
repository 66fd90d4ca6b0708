"""Read reStructuredText line by line, in bounded memory.

The source is split into paragraphs, list items and code listings under their headings. It is not rendered: docutils
would drop the content of Sphinx's directives and roles, which is kept here. Offsets are characters of the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from inpars.documents.blocks import Block, FileNotes, Headings
from inpars.documents.readers import ReadOptions
from inpars.documents.readers.plain import MAX_CHARACTERS, Lines, Paragraph, enter, read_lines_of

_ADORNMENT = re.compile(r"^([!-/:-@\[-`{-~])\1{2,}[ \t]*$")
_DIRECTIVE = re.compile(r"^[ \t]*\.\.(?:[ \t]+(?:\|[^|]*\|[ \t]*)?([\w:+.-]+)::[ \t]*(.*))?$")
_TARGET = re.compile(r"^[ \t]*\.\.[ \t]*(?:$|_|[^\s:]+(?![^\n]*::))")
_OPTION = re.compile(r"^[ \t]+:[\w -]+:(?:[ \t]|$)")
_RST_ITEM = re.compile(r"^[ \t]*(?:[-+*\u2022][ \t]+|(?:\d{1,9}|#)[.)][ \t]+|\|[ \t]+)\S")
_TABLE_RULER = re.compile(r"^[ \t]*[=+-][=+ -]*[=+-][ \t]*$")
_LISTINGS = ("code", "code-block", "sourcecode", "parsed-literal", "doctest", "literalinclude")
_WORDLESS = ("image", "figure", "toctree", "include", "index", "contents", "highlight", "currentmodule", "module")


def read_rst(path: Path, notes: FileNotes, options: ReadOptions) -> Iterator[Block]:
    """Paragraphs, list items, listings and the contents of directives."""
    yield from read_lines_of(path, notes, options, _blocks)


def _blocks(lines: Lines, notes: FileNotes) -> Iterator[Block]:
    parser = _Parser(notes)
    for start, line in lines:
        yield from parser.line(start, line)
    yield from parser.end()


class _Parser:
    """A line-based parser of reStructuredText."""

    def __init__(self, notes: FileNotes) -> None:
        self.paragraph, self.headings, self.notes = Paragraph("rst"), Headings(), notes
        self._levels: dict[tuple[str, bool], int] = {}  # heading levels by adornment, in order of appearance
        self._listing: int | None = None  # indentation of the line that begins the current listing
        self._skipped: int | None = None  # indentation of the current directive without text
        self._has_overline = False  # the previous line was an adornment

    def end(self) -> Iterator[Block]:
        return self.paragraph.take(self.headings.path, "code" if self._listing is not None else None)

    def line(self, start: int, line: str) -> Iterator[Block]:
        """Process a line; yields the blocks that end here."""
        bare = line.rstrip()
        indent = len(bare) - len(bare.lstrip())
        if self._is_inside(self._listing, bare, indent):
            if len(self.paragraph.text) >= MAX_CHARACTERS:
                yield from self.end()
            if self.paragraph.text or not _OPTION.match(bare):
                self.paragraph.add(start, line)
            return
        if self._listing is not None:
            yield from self.end()
            self._listing = None
        if self._is_inside(self._skipped, bare, indent):
            return
        self._skipped = None
        if _ADORNMENT.match(bare):
            yield from self._adornment(bare)
        elif directive := _DIRECTIVE.match(bare):
            yield from self._directive(directive, start, line, indent)
        else:
            yield from self._text(start, line, indent)

    @staticmethod
    def _is_inside(opened: int | None, bare: str, indent: int) -> bool:
        return opened is not None and (not bare or indent > opened)

    def _adornment(self, bare: str) -> Iterator[Block]:
        """A line of one repeated character: the underline of a heading, an overline or a transition."""
        text = self.paragraph.text.strip()
        if text and "\n" not in text and len(bare) >= min(len(text), 4):
            self.paragraph.text = ""
            level = self._levels.setdefault((bare[0], self._has_overline), len(self._levels) + 1)
            enter(self.headings, self.notes, level, text, "rst")
            self._has_overline = False
        else:
            yield from self.end()
            self._has_overline = True

    def _directive(self, match: re.Match[str], start: int, line: str, indent: int) -> Iterator[Block]:
        yield from self.end()
        name, argument = match[1] or "", match[2] or ""
        if name in _LISTINGS:
            self._listing = indent
        elif name in _WORDLESS or not name:
            self._skipped = indent
        elif argument:
            self.paragraph.add(start + line.index(argument), argument + "\n")

    def _text(self, start: int, line: str, indent: int) -> Iterator[Block]:
        bare = line.rstrip()
        if not bare or _TABLE_RULER.match(bare) or _TARGET.match(bare) or _OPTION.match(bare):
            self._has_overline = False
            yield from self.end()
            return
        if _RST_ITEM.match(bare) or len(self.paragraph.text) >= MAX_CHARACTERS:
            yield from self.end()
        self.paragraph.add(start, line)
        if bare.endswith("::"):
            yield from self.end()
            self._listing = indent
