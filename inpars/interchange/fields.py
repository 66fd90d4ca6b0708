"""Checks on the fields of other toolkits' JSON. Each raises DataFormatError with path, line and field."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from inpars.errors import DataFormatError
from inpars.fields import checked_id
from inpars.formats import parse_document
from inpars.interchange.items import Unkept, made_id
from inpars.json_text import replace_surrogates
from inpars.records import Document
from inpars.tables import DOC_ID_FIELDS, DOCUMENT_TEXT_FIELDS

PASSAGE_FIELDS = (*DOC_ID_FIELDS, *DOCUMENT_TEXT_FIELDS, "title", "metadata")
NAME_CHARACTERS = 40  # of a field's name that are shown


def text_of(value: object, name: str, path: Path, line: int) -> str:
    """A text."""
    if not isinstance(value, str):
        raise wrong("must be text", name, value, path, line)
    return replace_surrogates(value)


def texts_of(record: Mapping[str, Any], name: str, path: Path, line: int) -> list[str]:
    """A list of texts; none where the field is absent."""
    return [text_of(value, name, path, line) for value in list_of(record, name, path, line)]


def list_of(record: Mapping[str, Any], name: str, path: Path, line: int) -> list[Any]:
    """A list; an empty one where the field is absent."""
    value = record.get(name)
    if value is None:
        return []
    if not isinstance(value, list):
        raise wrong("must be a list", name, value, path, line)
    return value


def number_of(value: object, name: str, path: Path, line: int) -> float:
    """A finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
        raise wrong("must be a number", name, value, path, line)
    return float(value)


def scores_of(record: Mapping[str, Any], name: str, count: int, path: Path, line: int) -> list[float | None]:
    """A list of `count` numbers; as many times None where the field is absent."""
    values = list_of(record, name, path, line)
    if not values:
        return [None] * count
    if len(values) != count:
        raise wrong(f"has {len(values)} numbers for {count} texts", name, values, path, line)
    return [number_of(value, name, path, line) for value in values]


def object_of(value: object, name: str, path: Path, line: int) -> dict[str, Any]:
    """A JSON object."""
    if not isinstance(value, dict):
        raise wrong("must be an object", name, value, path, line)
    return value


def id_of(value: object, text: str, kind: str, path: Path, line: int) -> str:
    """An id, made from the text where there is none."""
    return made_id(kind, text) if value is None or value == "" else checked_id(value, path, line)


def document_of_object(value: object, name: str, path: Path, line: int, doc_id: object = None) -> Document:
    """A passage with its `docid` (or `doc_id` beside it), `title` and text."""
    record = object_of(value, name, path, line)
    fields = record if doc_id is None else {**record, "_id": doc_id}
    if any(fields.get(key) not in (None, "") for key in DOC_ID_FIELDS):
        return parse_document(fields, path, line)
    document = parse_document({**fields, "_id": "none"}, path, line)
    return replace(document, doc_id=made_id("d", document.full_text))


def unread(record: Mapping[str, Any], known: Collection[str]) -> Iterator[Unkept]:
    """Fields with a value that the reader ignores."""
    for name, value in record.items():
        if name not in known and value not in (None, "", [], {}):
            yield Unkept(f"field {name[:NAME_CHARACTERS]!r}")


def unread_files(folder: Path, read: Iterable[Path], parts: Iterable[Path] = ()) -> Iterator[Unkept]:
    """Files of a folder, and of some subfolders, that the reader ignores."""
    known = set(read)
    for path in sorted(file for part in (folder, *parts) if part.is_dir() for file in part.iterdir()):
        if path.is_file() and path not in known and not path.name.startswith("."):
            yield Unkept(f"file {str(path.relative_to(folder))!r}")


def wrong(problem: str, name: str, value: object, path: Path, line: int) -> DataFormatError:
    """The error for a field."""
    return DataFormatError(problem, path=path, line=line, field=name, excerpt=_excerpt(value))


def _excerpt(value: object) -> str:
    """The value as it is written, as far as an excerpt goes; Python writes no whole number of thousands of digits."""
    try:
        return repr(value)
    except ValueError:
        return f"a {type(value).__name__} with a number of thousands of digits"
