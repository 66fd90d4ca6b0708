"""Read web pages: trafilatura extracts the main text without menus, banners and scripts.

If it misses most of the page's articles, these are used; if it finds nothing, the whole page. Offsets are
characters of the extracted text.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import trafilatura
from lxml import etree
from trafilatura.settings import use_config
from trafilatura.utils import decode_file

from inpars.documents.blocks import Block, FileNotes, Headings, placed, row_of
from inpars.documents.readers import EMPTY, ReadOptions, read_whole
from inpars.errors import UnreadableFileError

BUTTONS = "//*[contains(concat(' ', @class, ' '), ' mw-editsection ')]"  # MediaWiki's "[edit]" next to headings
COMMENT = "ancestor-or-self::*[not(self::body) and contains(concat(' ', @class, ' ', @id), ' comment') and not(.//h1)]"
ARTICLES = f"//article[not(ancestor::article or {COMMENT})]"
SEPARATE = {"lb", "item", "list", "row", "cell", "p", "head", "quote"}
HIDDEN = ("script", "style", "nav", "aside", "footer", "form", "noscript", "template")
BLOCKS = {
    *("p", "div", "article", "section", "header", "main", "figure", "blockquote", "pre", "br", "hr", "details"),
    *("h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "li", "dl", "dt", "dd", "table", "tr"),
}
MIN_SHARE = 0.5  # of the articles' words that must be extracted
MAX_COPIED_CELLS, MAX_COPIED_CHARACTERS = 10_000, 200  # per page, per cell; longer ones are no labels, but layout
TYPE_CHARACTERS = 50  # in which trafilatura looks for "html"
_TEXT, _LISTING = {"markup": "plain"}, {"markup": "code"}

Piece = tuple[str, dict[str, Any]]


def read_html(path: Path, notes: FileNotes, _options: ReadOptions) -> Iterator[Block]:
    """Headings, paragraphs, list items, table rows and listings of the main text."""
    raw = read_whole(path)
    tree = trafilatura.load_html(_as_page(raw))
    if tree is None:
        raise UnreadableFileError("not a web page", path=path)
    for summary in tree.iter("summary"):
        summary.tag = "p"  # trafilatura drops the questions of folded answers
    _repeat_tall_cells(tree)
    notes.title, article = _title(tree), _article(tree)
    pieces = list(_pieces(_main_text(tree)))
    words = sum(len(text.split()) for text, _ in pieces)
    if article is not None and words < MIN_SHARE * len(" ".join(article.itertext()).split()):
        pieces = [(line, _TEXT) for line in _lines(article)]
        notes.remarks.append("most of its article was not found as main text, all of the article is taken")
    if not pieces:
        pieces = [(line, _TEXT) for line in trafilatura.html2txt(raw).splitlines() if line.strip()]
        notes.remarks.append("no main text found, all of the page is taken")
    if not pieces:
        raise UnreadableFileError(EMPTY, path=path)
    yield from placed(pieces)


def _as_page(raw: bytes) -> str:
    """The text of a page; trafilatura refuses parts of pages, which do not say that they are HTML."""
    text = str(decode_file(raw))
    return text if "html" in text[:TYPE_CHARACTERS].lower() else f"<!doctype html>{text}"


def _repeat_tall_cells(tree: Any) -> None:  # noqa: ANN401
    """Copy cells that span rows into each of these rows, which say little without them."""
    copies = MAX_COPIED_CELLS
    for cell in tree.xpath("//tr/*[@rowspan]"):
        span, position = cell.attrib.pop("rowspan").strip(), cell.getparent().index(cell)
        is_label = re.fullmatch("[1-9][0-9]{0,4}", span) and len("".join(cell.itertext())) <= MAX_COPIED_CHARACTERS
        more = int(span) - 1 if is_label else 0
        rows = list(islice(cell.getparent().itersiblings("tr"), min(more, copies)))
        for row in rows:
            row.insert(position, copy.deepcopy(cell))
        copies -= len(rows)


def _article(tree: Any) -> Any:  # noqa: ANN401
    """Copies of the page's articles, without comments and hidden parts; None if it has none."""
    articles = tree.xpath(ARTICLES)
    whole = etree.Element("div")
    for article in map(copy.deepcopy, articles):
        article.tail = None
        etree.strip_elements(article, *HIDDEN, "article", etree.Comment, with_tail=False)
        whole.append(article)
    return whole if articles else None


def _lines(article: Any) -> list[str]:  # noqa: ANN401
    """The text, one line per block element."""
    lines = "".join(_runs(article, lambda child: "\n" if child.tag in BLOCKS else "")).split("\n")
    return [text for line in lines if (text := " ".join(line.split()))]


def _main_text(tree: Any) -> Any:  # noqa: ANN401 - lxml's elements
    settings = use_config()
    settings.set("DEFAULT", "MIN_EXTRACTED_SIZE", "0")
    settings.set("DEFAULT", "MIN_OUTPUT_SIZE", "0")
    settings.set("DEFAULT", "EXTRACTION_TIMEOUT", "0")  # the timeout uses signals, which work only in the main thread
    xml = trafilatura.extract(
        tree,
        output_format="xml",
        include_comments=False,
        include_tables=True,
        favor_recall=True,
        prune_xpath=BUTTONS,
        config=settings,
    )
    return etree.fromstring(xml.encode()).find("main") if xml else None


def _title(tree: Any) -> str:  # noqa: ANN401
    heading = next((element for element in tree.iter("h1") if "".join(element.itertext()).strip()), None)
    named = heading if heading is not None else next(tree.iter("title"), None)
    return " ".join("".join(named.itertext()).split()) if named is not None else ""


def _pieces(main: Any) -> Iterator[Piece]:  # noqa: ANN401
    headings, bare = Headings(), None  # the level of a heading without text yet
    for element in () if main is None else main:
        if element.tag == "head":
            rend = element.get("rend", "h2")[1:]
            level = int(rend) if rend.isdecimal() else 2
            if bare is not None and level <= bare:
                yield headings.path[-1], {"headings": headings.path, **_TEXT}
            headings.enter(level, text := _text(element))
            bare = level if text else None
            continue
        for piece, fields in _parts(element):
            if piece.strip():
                bare = None
                yield piece, {"headings": headings.path, **fields}
    if bare is not None and bare > 1:  # not a page of only a title
        yield headings.path[-1], {"headings": headings.path, **_TEXT}


def _parts(element: Any) -> Iterator[Piece]:  # noqa: ANN401
    """The blocks of one element: table rows, list items, or the element itself."""
    if element.tag == "code":
        yield "".join(element.itertext()).strip("\n"), _LISTING
    elif element.tag == "table":
        for row in element.iter("row"):
            cells = [_text(cell) for cell in row.iter("cell")]
            yield row_of(cells) if any(cells) else "", _TEXT
    elif element.tag == "list":
        for item in element.iterchildren("item"):
            yield _text(item), _TEXT
    elif element.find(".//code") is not None and element.tag in ("quote", "p") and "\n" in (element.text or "\n"):
        for child in element:
            yield from _parts(child)
    else:
        yield _text(element), _TEXT


def _text(element: Any) -> str:  # noqa: ANN401
    """The text of an element, with blanks around lines, items and listings."""
    return " ".join("".join(_runs(element, _gap)).split())


def _gap(child: Any) -> str:  # noqa: ANN401
    listing = child.tag == "code" and "\n" in "".join(child.itertext())
    return " " if child.tag in SEPARATE or listing else ""


def _runs(element: Any, gap_of: Callable[[Any], str]) -> Iterator[str]:  # noqa: ANN401
    """The pieces of an element's text, with a gap before and after each inner element."""
    yield element.text or ""
    for child in element:
        gap = gap_of(child)
        yield from (gap, *_runs(child, gap_of), gap, child.tail or "")
