"""Readers turn a file into blocks in reading order; there is one per file type.

A reader is chosen by file extension and imported on first use. Readers raise UnreadableFileError for files without
text, and record what they drop or doubt in the file's notes.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from pkgutil import resolve_name
from typing import ClassVar

from inpars.documents.blocks import Block, FileNotes
from inpars.documents.text_files import FALLBACK
from inpars.errors import MissingDependencyError, UnreadableFileError, pip_line
from inpars.options import FlagGroup, option

READERS_FORMAT = 4  # increase when readers change their output, to invalidate the cache
EMPTY = "no text in it"


@dataclass(frozen=True, kw_only=True)  # without slots, which would not let IngestOptions have several bases
class ReadOptions:
    """How files are read."""

    FLAG_GROUP: ClassVar = FlagGroup("files")

    layout: bool = option(
        False,
        help="read PDF, docx and HTML with docling, which recognises columns and tables (slow; a separate "
        "extra; downloads its PDF models; keeps the menus of web pages)",
    )
    encoding: str = option(FALLBACK, help="encoding of text files that are not UTF-8 or UTF-16")
    text_column: tuple[str, ...] | None = option(
        None,
        help="text column of jsonl, csv and parquet files; repeat it to join several (default: the first of "
        "text, contents, body, passage, paragraphs, ...)",
        metavar="NAME",
    )
    title_column: str = option("title", help="title column", metavar="NAME")
    id_column: str | None = option(None, help="id column (default: the file name and a number)", metavar="NAME")


@dataclass(frozen=True, slots=True)
class Kind:
    """A file type: its reader, and the optional packages that it needs."""

    name: str
    reader: str  # module:function
    packages: tuple[str, ...] = ()  # import names
    requirement: str = ""

    def read(self, path: Path, notes: FileNotes, options: ReadOptions) -> Iterator[Block]:
        """The blocks of a file."""
        blocks: Iterator[Block] = resolve_name(f"inpars.documents.readers.{self.reader}")(path, notes, options)
        return blocks

    def check(self) -> None:
        """Raise MissingDependencyError if a package is not installed."""
        if any(importlib.util.find_spec(package) is None for package in self.packages):
            purpose, name = f"to read {self.name}", self.requirement.partition(">=")[0]
            raise MissingDependencyError(name, purpose, pip_line([self.requirement]))

    @property
    def version(self) -> str:
        """The version of the package that reads the file; empty for our own readers."""
        return metadata.version(self.requirement.partition(">=")[0].partition("[")[0]) if self.requirement else ""


PLAIN = Kind("plain text", "plain:read_plain")
MARKDOWN = Kind("Markdown", "plain:read_markdown")
RST = Kind("reStructuredText", "rst:read_rst")
HTML = Kind("HTML", "web:read_html", ("trafilatura",), "trafilatura>=2.0")
PDF = Kind("PDF", "pdf:read_pdf", ("pypdf", "cryptography"), "pypdf[crypto]>=5.0")
DOCX = Kind("docx", "docx:read_docx", ("docx",), "python-docx>=1.1")
RECORDS = Kind("jsonl", "records:read_json_lines")
TABLE = Kind("csv", "records:read_csv")
PARQUET = Kind("parquet", "records:read_parquet", ("pyarrow",), "pyarrow>=15.0")
JSON = Kind("json", "squad:read_json")
LAYOUT = Kind("PDF, docx and HTML with their layout", "layout:read_layout", ("docling",), "docling>=2.50")
KINDS: dict[str, Kind] = {
    **dict.fromkeys((".txt", ".text", ".txt.gz"), PLAIN),
    **dict.fromkeys((".md", ".markdown", ".mdown", ".mkd"), MARKDOWN),
    **dict.fromkeys((".rst", ".rest"), RST),
    **dict.fromkeys((".html", ".htm", ".xhtml"), HTML),
    **dict.fromkeys((".jsonl", ".jsonl.gz", ".ndjson"), RECORDS),
    **dict.fromkeys((".csv", ".csv.gz", ".tsv", ".tsv.gz"), TABLE),
    **dict.fromkeys((".json", ".json.gz"), JSON),
    ".pdf": PDF,
    ".docx": DOCX,
    ".parquet": PARQUET,
}


def suffix_of(path: Path) -> str:
    """The file extension that selects the reader: `.json.gz`, `.pdf`."""
    return "".join(path.suffixes[-2:]).lower() if path.suffix.lower() == ".gz" else path.suffix.lower()


def kind_of(path: Path, options: ReadOptions) -> Kind | None:
    """The type of a file, None if it is not supported."""
    kind = KINDS.get(suffix_of(path))
    return LAYOUT if options.layout and kind in (PDF, DOCX, HTML) else kind


MAX_BYTES = 256 << 20  # of files that are read into memory


def read_whole(path: Path) -> bytes:
    """A file's bytes. Raises UnreadableFileError for a file that is too large."""
    if path.stat().st_size > MAX_BYTES:
        raise UnreadableFileError(f"larger than {MAX_BYTES >> 20} MB in one document; split it", path=path)
    return path.read_bytes()
