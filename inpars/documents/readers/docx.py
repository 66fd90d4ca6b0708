"""Read Word documents with python-docx: paragraphs and tables in order, under their headings.

Offsets are characters of the extracted text; docx files have no page numbers.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docx
from docx.opc.exceptions import PackageNotFoundError
from docx.table import Table

from inpars.documents.blocks import Block, FileNotes, Headings, placed, row_of
from inpars.documents.readers import EMPTY, MAX_BYTES, ReadOptions
from inpars.errors import UnreadableFileError

_OLE = bytes.fromhex("d0cf11e0a1b11ae1")  # encrypted documents, and renamed .doc files
_LEVEL = re.compile(r"heading (\d)", re.IGNORECASE)


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
    except (zipfile.BadZipFile, PackageNotFoundError, KeyError, ValueError, SyntaxError):
        raise UnreadableFileError("damaged or cut off", path=path) from None
    notes.title = " ".join((document.core_properties.title or "").split())
    pieces = list(_pieces(document, notes))
    if not pieces:
        raise UnreadableFileError(EMPTY, path=path)
    yield from placed(pieces)


def _pieces(document: Any, notes: FileNotes) -> Iterator[tuple[str, dict[str, Any]]]:  # noqa: ANN401
    headings = Headings()
    for part in document.iter_inner_content():
        if isinstance(part, Table):
            for row in part.rows:
                cells = {cell._tc: " ".join(cell.text.split()) for cell in row.cells}  # merged cells are repeated
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
