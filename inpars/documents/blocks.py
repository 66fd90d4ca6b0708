"""What comes out of a file before it is cut into documents: blocks in reading order, each with its place.

A block is a paragraph, a list item, a table's row, a listing. Its text stands as in the source, so that places are
exact; `clean` makes of any part of it what a reader of the page would see. Knows nothing of files.
"""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

Markup: TypeAlias = Literal["plain", "lines", "code", "markdown", "rst"]
"""plain: runs of blanks are one; lines: so are hyphens at ends of lines, as in PDF; code: kept as it is."""


@dataclass(frozen=True, slots=True)
class Block:
    """Text of one source with its place; `start` counts the characters of the file's text, or of its page or record.

    The text of Markdown, reStructuredText and plain text is the file itself; of other forms, what the reader extracted.
    """

    text: str
    start: int
    headings: tuple[str, ...] = ()
    markup: Markup = "plain"
    page: int | None = None  # from 1
    record: int | None = None  # from 1: line, row or paragraph of a collection
    title: str = ""  # of the record; the file's stands in `FileNotes`
    key: str = ""  # the record's own id

    @property
    def origin(self) -> tuple[Any, ...]:
        """Page, record and headings, which a passage never crosses."""
        return self.page, self.record, self.headings


@dataclass(slots=True)
class FileNotes:
    """What a reader has to say about a file, complete when its blocks are read."""

    title: str = ""
    dropped: Counter[str] = field(default_factory=Counter)
    remarks: list[str] = field(default_factory=list)
    questions: list[dict[str, Any]] = field(default_factory=list)  # of collections that have them: see `squad`


def clean(text: str, markup: Markup) -> str:
    """Any part of a block as it is read."""
    return text.rstrip() if markup == "code" else " ".join(_CLEANERS[markup](text).split())


def placed(texts: Iterable[tuple[str, Mapping[str, Any]]]) -> Iterator[Block]:
    """Blocks of texts that were extracted, one newline between neighbours."""
    start = 0
    for text, fields in texts:
        yield Block(text, start, **fields)
        start += len(text) + 1


def row_of(cells: Iterable[str]) -> str:
    """A table's row in one line; an empty cell keeps its place."""
    return " ".join(" | ".join(cells).split()).rstrip(" |")


class Headings:
    """The path of headings at each point of a document that is read from top to bottom."""

    def __init__(self) -> None:
        self._open: list[tuple[int, str]] = []

    def enter(self, level: int, heading: str) -> None:
        """Begin a section, which ends all of the same level and below."""
        self._open = [pair for pair in self._open if pair[0] < level]
        if heading:
            self._open.append((level, heading))

    @property
    def path(self) -> tuple[str, ...]:
        """The outermost first."""
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
    """The text without markup; code between backticks is unchanged."""
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
    """Words broken at a line's end are joined; a hyphen stays, as it may belong to the word."""
    return _HYPHEN.sub("-", _SOFT_HYPHEN.sub("", text))


_CLEANERS: dict[str, Callable[[str], str]] = {
    "plain": lambda text: text,
    "lines": _clean_lines,
    "markdown": _clean_markdown,
    "rst": _clean_rst,
}
