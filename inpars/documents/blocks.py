"""Blocks: the text of a file in reading order, with offsets, before it is cut into documents.

A block is a paragraph, list item, table row or code listing. It keeps the source text, so that offsets are exact;
`clean` removes markup.
"""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

Markup: TypeAlias = Literal["plain", "lines", "code", "markdown", "rst"]
"""How `clean` works: plain joins whitespace; lines also joins hyphenated words, for PDF; code keeps the text."""


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of text; `start` is its character offset in the text of the file, page or record.

    For Markdown, reStructuredText and plain text that text is the file itself; otherwise, what the reader extracted.
    """

    text: str
    start: int
    headings: tuple[str, ...] = ()
    markup: Markup = "plain"
    page: int | None = None  # from 1
    record: int | None = None  # from 1: line, row or paragraph of a collection
    title: str = ""  # of the record; the file's is in `FileNotes`
    key: str = ""  # the record's id

    @property
    def origin(self) -> tuple[Any, ...]:
        """Page, record and headings; no passage crosses them."""
        return self.page, self.record, self.headings


@dataclass(slots=True)
class FileNotes:
    """A reader's notes on a file, complete once its blocks are read."""

    title: str = ""
    dropped: Counter[str] = field(default_factory=Counter)
    remarks: list[str] = field(default_factory=list)
    questions: list[dict[str, Any]] = field(default_factory=list)  # see `squad`


def clean(text: str, markup: Markup) -> str:
    """A part of a block without markup."""
    return text.rstrip() if markup == "code" else " ".join(_CLEANERS[markup](text).split())


def placed(texts: Iterable[tuple[str, Mapping[str, Any]]]) -> Iterator[Block]:
    """Blocks of extracted texts, as if joined by newlines."""
    start = 0
    for text, fields in texts:
        yield Block(text, start, **fields)
        start += len(text) + 1


def row_of(cells: Iterable[str]) -> str:
    """A table row as one line; empty cells are kept."""
    return " ".join(" | ".join(cells).split()).rstrip(" |")


class Headings:
    """The current path of headings while reading a document."""

    def __init__(self) -> None:
        self._open: list[tuple[int, str]] = []

    def enter(self, level: int, heading: str) -> None:
        """Begin a section; ends open sections of the same and deeper levels."""
        self._open = [pair for pair in self._open if pair[0] < level]
        if heading:
            self._open.append((level, heading))

    @property
    def path(self) -> tuple[str, ...]:
        """The open headings, outermost first."""
        return tuple(heading for _, heading in self._open)


_ANCHOR = re.compile(r"</?(?:a|br|span|sup|sub)\b[^>]*>", re.IGNORECASE)
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_ESCAPE = re.compile(r"\\([!-/:-@\[-`{-~])")
_IMAGE = re.compile(r"!\[([^\]\n]*)\]\([^()\s]*(?:\([^()\s]*\)[^()\s]*)*(?:\s+\"[^\"]*\")?\)")
_LINK = re.compile(r"(?<!\\)\[((?:[^\[\]\\]|\\.)*)\]\((?:[^()\s\\]|\\.|\([^()\s]*\))*(?:\s+\"[^\"]*\")?\)")
_REFERENCE = re.compile(r"(?<!\\)\[([^\[\]\n]+)\]\[[^\[\]\n]*\]")
_EMPHASIS = re.compile(r"(?<![\\\w*_])(\*\*\*|\*\*|\*|___|__|_)(?=[^\s*_])(.+?)(?<=[^\s\\])\1(?![\w*_])", re.DOTALL)
_CODE_SPAN = re.compile(r"(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)
_LIST_MARK = re.compile(r"^[ \t]*(?:>[ \t]?)*(?:[-+*][ \t]+|\d{1,9}[.)][ \t]+)?")


def _clean_markdown(text: str) -> str:
    """The text without markup; inline code is unchanged."""
    text = _COMMENT.sub(" ", _LIST_MARK.sub("", text, count=1))
    parts, end = [], 0
    for code in _CODE_SPAN.finditer(text):
        parts += [_without_marks(text[end : code.start()]), code[2]]
        end = code.end()
    return "".join([*parts, _without_marks(text[end:])])


def _without_marks(text: str) -> str:
    text = _LINK.sub(r"\1", _IMAGE.sub(r"\1", _ANCHOR.sub("", text)))
    text = _EMPHASIS.sub(r"\2", _EMPHASIS.sub(r"\2", _REFERENCE.sub(r"\1", text)))
    return html.unescape(_ESCAPE.sub(r"\1", text))


_ROLE = re.compile(r":[a-z][\w:.+-]*:`(?:~|!)?([^`<]+?)(?:\s*<[^`>]*>)?`", re.IGNORECASE)
_RST_LINK = re.compile(r"`([^`<]+?)\s*<[^`>]+>`__?")
_RST_MARK = re.compile(r"``(.+?)``|\*\*(.+?)\*\*|(?<!\w)\*(\S[^*]*?)\*(?!\w)|`([^`]+)`_?_?", re.DOTALL)
_RST_LIST_MARK = re.compile(r"^[ \t]*(?:[-+*\u2022][ \t]+|(?:\d{1,9}|#)[.)][ \t]+|\|[ \t]+)?")


def _clean_rst(text: str) -> str:
    text = _RST_LINK.sub(r"\1", _ROLE.sub(r"\1", _RST_LIST_MARK.sub("", text, count=1)))
    return _RST_MARK.sub(lambda match: next(part for part in match.groups() if part is not None), text)


_SOFT_HYPHEN = re.compile("\u00ad[ \t]*\n?[ \t]*")
_HYPHEN = re.compile(r"(?<=[^\W\d_])-[ \t]*\n[ \t]*(?=[a-z])")


def _clean_lines(text: str) -> str:
    """Join words that are broken at line ends; hyphens stay, as they may belong to the word."""
    return _HYPHEN.sub("-", _SOFT_HYPHEN.sub("", text))


_CLEANERS: dict[str, Callable[[str], str]] = {
    "plain": lambda text: text,
    "lines": _clean_lines,
    "markdown": _clean_markdown,
    "rst": _clean_rst,
}
