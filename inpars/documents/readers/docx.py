"""Read Word documents with python-docx: paragraphs and tables in order, under their headings, then the notes.

Tracked changes are read as accepted, formulas in one line. Offsets are characters of the extracted text; docx files
have no page numbers.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docx
from docx.opc.constants import RELATIONSHIP_TYPE
from docx.opc.exceptions import PackageNotFoundError
from docx.oxml import OxmlElement, parse_xml
from docx.table import Table

from inpars.documents.blocks import Block, FileNotes, Headings, placed, row_of
from inpars.documents.readers import EMPTY, MAX_BYTES, ReadOptions
from inpars.errors import UnreadableFileError

MADE_UP = ("Word Document", "python-docx")  # title and author that python-docx reports for a file without properties
_OLE = bytes.fromhex("d0cf11e0a1b11ae1")  # encrypted documents, and renamed .doc files
_LEVEL = re.compile(r"heading (\d)", re.IGNORECASE)
_CONTENTS_LIST = "w:sdt[w:sdtPr/w:docPartObj/w:docPartGallery/@w:val = 'Table of Contents']"
_REMOVED = f".//{_CONTENTS_LIST} | .//w:sdtPr | .//w:sdtEndPr | .//w:del | .//w:moveFrom"
_WRAPPERS = " | ".join(f".//w:{name}" for name in ("sdt", "sdtContent", "ins", "moveTo", "smartTag", "fldSimple"))
_NOTES = (RELATIONSHIP_TYPE.FOOTNOTES, RELATIONSHIP_TYPE.ENDNOTES)
_MATHS = "{http://schemas.openxmlformats.org/officeDocument/2006/math}"
_SIGNS = {"num": "", "den": "/", "sub": "_", "sup": "^", "deg": ""}  # before parts of formulas
_PARAGRAPHS = ".//w:p[not(ancestor::*[local-name() = 'Fallback'])]"  # a text box may have its text twice


def read_docx(path: Path, notes: FileNotes, _options: ReadOptions) -> Iterator[Block]:
    """Paragraphs and table rows."""
    with path.open("rb") as stream:
        if stream.read(len(_OLE)) == _OLE:
            raise UnreadableFileError("encrypted, or an old .doc; save it as .docx without a password", path=path)
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > MAX_BYTES:
                raise UnreadableFileError(f"larger than {MAX_BYTES >> 20} MB unpacked; split it", path=path)
        document = docx.Document(str(path))
        if getattr(document.element, "body", None) is None:
            raise UnreadableFileError("no Word document inside", path=path)
        footnotes = list(_footnotes(document))
    except (zipfile.BadZipFile, PackageNotFoundError, KeyError, ValueError, SyntaxError):
        raise UnreadableFileError("damaged or cut off", path=path) from None
    properties = document.core_properties
    title = "" if (properties.title, properties.last_modified_by) == MADE_UP else properties.title
    notes.title = " ".join((title or "").split())
    _unwrap(document.element.body)
    pieces = [*_pieces(document, notes), *((text, {}) for text in footnotes)]
    if not pieces:
        raise UnreadableFileError(EMPTY, path=path)
    yield from placed(pieces)


def _unwrap(body: Any) -> None:  # noqa: ANN401 - lxml's elements
    """Accept tracked changes, and dissolve content controls and formulas, inside which python-docx sees no text."""
    for element in body.xpath(_REMOVED):
        element.getparent().remove(element)
    for element in body.xpath(_WRAPPERS):
        for child in list(element):
            element.addprevious(child)
        element.getparent().remove(element)
    for formula in list(body.iter(f"{_MATHS}oMath")):
        run = OxmlElement("w:r")
        run.text = _one_line(formula)
        parent = formula.getparent()
        (parent if parent.tag == f"{_MATHS}oMathPara" else formula).addprevious(run)


def _one_line(formula: Any) -> str:  # noqa: ANN401
    """A formula's characters, as in `(a+b)/2` and `x^2`."""
    name = str(formula.tag).removeprefix(_MATHS)
    if name == "t":
        return formula.text or ""
    inner = "".join(map(_one_line, formula))
    if name == "d":
        opening, closing = (formula.find(f"{_MATHS}dPr/{_MATHS}{end}Chr") for end in ("beg", "end"))
        return f"{_character(opening, '(')}{inner}{_character(closing, ')')}"
    if name == "nary":
        return _character(formula.find(f"{_MATHS}naryPr/{_MATHS}chr"), "\u222b") + inner
    if name == "rad":
        return f"\u221a({inner})"
    group = f"({inner})" if name in _SIGNS and len(inner) > 1 else inner
    return _SIGNS.get(name, "") + group if inner else ""


def _character(element: Any, default: str) -> str:  # noqa: ANN401
    """The character that an element of a formula's properties names."""
    return default if element is None else str(element.get(f"{_MATHS}val", default))


def _footnotes(document: Any) -> Iterator[str]:  # noqa: ANN401
    """The paragraphs of footnotes and endnotes, in order."""
    for relation in document.part.rels.values():
        if relation.reltype not in _NOTES or relation.is_external:
            continue
        body = OxmlElement("w:body")
        body.extend(parse_xml(relation.target_part.blob))
        _unwrap(body)
        yield from _paragraphs(body)


def _pieces(document: Any, notes: FileNotes) -> Iterator[tuple[str, dict[str, Any]]]:  # noqa: ANN401
    headings = Headings()
    for part in document.iter_inner_content():
        if isinstance(part, Table):
            for row in part.rows:
                cells = {cell._tc: " ".join(_paragraphs(cell._tc)) for cell in row.cells}  # merged cells are repeated
                if any(cells.values()):
                    yield row_of(cells.values()), {"headings": headings.path}
            continue
        text, style = " ".join(part.text.split()), (part.style.name or "") if part.style is not None else ""
        level = _LEVEL.match(style)
        if text and (level or style == "Title"):
            headings.enter(int(level[1]) if level else 0, text)
            notes.title = notes.title or text
        elif text:
            yield text, {"headings": headings.path}
        for boxed in _paragraphs(part._p):
            yield boxed, {"headings": headings.path}


def _paragraphs(element: Any) -> list[str]:  # noqa: ANN401 - lxml's elements
    """The texts of the paragraphs inside an element: of a cell and its tables, or of a paragraph's text boxes."""
    return [text for paragraph in element.xpath(_PARAGRAPHS) if (text := " ".join(paragraph.text.split()))]
