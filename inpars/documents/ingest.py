"""A folder of text files as documents: paragraphs packed into blocks of a few hundred words.

Read are `.txt`, `.md` and `.jsonl` files; other files are listed with the reason why not. Knows nothing of corpora on
disk or of manifests; `stages/ingesting.py` does.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from inpars.errors import DataFormatError
from inpars.formats import parse_document
from inpars.manifest import FileStamp, sha256_of
from inpars.records import Document
from inpars.storage import decode_line, open_lines, read_jsonl

READABLE = (".txt", ".md", ".jsonl")
LATER = (".pdf", ".html", ".htm")
NOT_YET = "PDF and web pages come with a later version"
NOT_TEXT = "not one of " + ", ".join(READABLE)
MAX_WORDS = 180
_PARAGRAPH = re.compile(r"\n[^\S\n]*\n\s*")
_SENTENCE = re.compile(r"(?<=[.!?\u2026\u3002\uff01\uff1f])\s+")
_HEADING = re.compile(r"^ {0,3}#{1,6}\s+(.+?)\s*#*\s*$", re.MULTILINE)
_ANCHOR = re.compile(r"</?a\b[^>]*>")
_ESCAPE = re.compile(r"\\([^A-Za-z0-9\s])")
_NOT_IN_IDS = re.compile(r"[\s%\ud800-\udfff]")  # ids are one word; names that are not UTF-8 hold surrogates


@dataclass(frozen=True, slots=True)
class FoundFiles:
    """The files of a folder that are read, in order of name, and the others by the reason they are not."""

    folder: Path
    readable: list[Path]
    skipped: dict[str, list[str]] = field(default_factory=dict)  # reason -> relative names

    @property
    def stamp(self) -> FileStamp:
        """The readable files by name and content."""
        digest = hashlib.sha256()
        for path in self.readable:
            digest.update(f"{relative_name(path, self.folder)}\0{sha256_of(path)}\n".encode())
        size = sum(path.stat().st_size for path in self.readable)
        return FileStamp(str(self.folder), digest.hexdigest(), size, len(self.readable))


def find_files(folder: Path, leave_out: Collection[Path] = ()) -> FoundFiles:
    """The files below a folder but hidden ones and those of `leave_out`. Raises DataFormatError where none is read."""
    if not folder.is_dir():
        raise DataFormatError("no such folder of documents; check the path", path=folder)
    unwanted = {path.resolve() for path in leave_out}
    found = FoundFiles(folder, [])
    for path in sorted(folder.rglob("*"), key=lambda part: relative_name(part, folder)):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if hidden or not path.is_file() or path.resolve() in unwanted:
            continue
        suffix = path.suffix.lower()
        if suffix in READABLE:
            found.readable.append(path)
        else:
            reason = NOT_YET if suffix in LATER else NOT_TEXT
            found.skipped.setdefault(reason, []).append(relative_name(path, folder))
    if not found.readable:
        others = sum(map(len, found.skipped.values()))
        raise DataFormatError(
            f"no {', '.join(READABLE)} files in this folder, {others} others ({NOT_YET}); turn them into text first",
            path=folder,
        )
    return found


def read_file(path: Path, name: str, max_words: int = MAX_WORDS) -> Iterator[Document]:
    """The documents of one file, `name#1`, `name#2` and so on; a `.jsonl` file's records are texts with titles."""
    number = 0
    for title, text in _texts(path):
        for block in blocks(text, max_words):
            number += 1
            yield Document(f"{name}#{number}", block, title)


def relative_name(path: Path, folder: Path) -> str:
    """The file's name inside the folder as an id: with slashes, one word, and no two files the same."""
    name = path.relative_to(folder).as_posix()
    return _NOT_IN_IDS.sub(lambda found: quote(found[0], safe="", errors="surrogateescape"), name)


def blocks(text: str, max_words: int = MAX_WORDS) -> Iterator[str]:
    """Paragraphs packed into blocks of at most `max_words` words; longer ones are cut between sentences or words."""
    paragraphs = (" ".join(paragraph.split()) for paragraph in _PARAGRAPH.split(text))
    pieces = (piece for paragraph in paragraphs for piece in _pieces(paragraph, max_words))
    return _packed(pieces, max_words, "\n")


def first_heading(text: str) -> str | None:
    """The first `# heading` of a Markdown text, without anchors and escapes."""
    found = _HEADING.search(text)
    return _ESCAPE.sub(r"\1", _ANCHOR.sub("", found[1])).strip() or None if found else None


def _texts(path: Path) -> Iterator[tuple[str, str]]:
    """Title and text of the file, or of each of its records."""
    if path.suffix.lower() == ".jsonl":
        for number, record in read_jsonl(path):
            document = parse_document({**record, "_id": number}, path, number)
            yield " ".join(document.title.split()) or path.stem, document.text
        return
    with open_lines(path) as stream:
        text = "\n".join(decode_line(raw, path, number) for number, raw in enumerate(stream, start=1))
    heading = first_heading(text) if path.suffix.lower() == ".md" else None
    yield heading or path.stem, text


def _pieces(paragraph: str, max_words: int) -> Iterable[str]:
    """The paragraph, or its sentences packed where it is too long; a sentence too long is cut between words."""
    if len(paragraph.split()) <= max_words:
        return [paragraph] if paragraph else []
    sentences = (sentence.split() for sentence in _SENTENCE.split(paragraph))
    parts = (
        " ".join(words[start : start + max_words]) for words in sentences for start in range(0, len(words), max_words)
    )
    return _packed(parts, max_words, " ")


def _packed(pieces: Iterable[str], max_words: int, separator: str) -> Iterator[str]:
    """Neighbouring pieces joined as long as they have `max_words` words at most."""
    held: list[str] = []
    words = 0
    for piece in pieces:
        length = len(piece.split())
        if held and words + length > max_words:
            yield separator.join(held)
            held, words = [], 0
        held.append(piece)
        words += length
    if held:
        yield separator.join(held)
