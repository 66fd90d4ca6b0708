"""Read PDF, docx and web pages with docling, whose models recognise columns, tables and headings.

Used only on request: docling downloads models on first use and takes seconds per page. Offsets are characters of the
page's text in docling's order.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from docling.document_converter import DocumentConverter

from inpars.documents.blocks import Block, FileNotes, Headings
from inpars.documents.readers import EMPTY, ReadOptions
from inpars.errors import UnreadableFileError, reason_of

FURNITURE = ("page_header", "page_footer")


def read_layout(path: Path, notes: FileNotes, _options: ReadOptions) -> Iterator[Block]:
    """Paragraphs, list items, listings and table rows under their headings."""
    try:
        document = _converter().convert(str(path)).document
    except Exception as error:  # docling may raise anything
        raise UnreadableFileError(f"docling could not read it ({reason_of(error)})", path=path) from error
    headings, ends, has_text = Headings(), dict[int | None, int](), False
    for item, _ in document.iterate_items():
        label, page = str(getattr(item.label, "value", item.label)), _page(item)
        text = getattr(item, "text", "").strip()
        if label in FURNITURE:
            notes.dropped["boilerplate"] += 1
        elif label in ("title", "section_header"):
            headings.enter(0 if label == "title" else getattr(item, "level", 1), text)
            notes.title = notes.title or text
        else:
            for part in _rows(item, document) if label == "table" else [text]:
                if part.strip():
                    start = ends.get(page, 0)
                    ends[page], has_text = start + len(part) + 1, True
                    yield Block(part, start, headings.path, "code" if label == "code" else "plain", page)
    if not has_text:
        raise UnreadableFileError(EMPTY, path=path)


@cache
def _converter() -> DocumentConverter:
    """One converter for all files, as it holds the models."""
    return DocumentConverter()


def _page(item: Any) -> int | None:  # noqa: ANN401 - docling's items
    provenance = getattr(item, "prov", None) or ()
    return provenance[0].page_no if provenance else None


def _rows(table: Any, document: Any) -> list[str]:  # noqa: ANN401
    """The rows of a table as `a | b | c`."""
    lines = table.export_to_markdown(document).splitlines()
    rows = [" | ".join(cell.strip() for cell in line.strip("| ").split("|")) for line in lines]
    return [row for row in rows if row.strip("-| :")]
