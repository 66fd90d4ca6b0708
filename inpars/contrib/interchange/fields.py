"""Checks on the fields of other toolkits' JSON. Each raises DataFormatError with path, line and field."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from inpars.contrib.interchange.items import Unkept, made_id
from inpars.io.fields import checked_id, field_error, list_of, number_of
from inpars.io.formats import parse_document
from inpars.io.json_text import replace_surrogates
from inpars.io.tables import DOC_ID_FIELDS, DOCUMENT_TEXT_FIELDS
from inpars.records import Document

PASSAGE_FIELDS = (*DOC_ID_FIELDS, *DOCUMENT_TEXT_FIELDS, "title", "metadata")
NAME_CHARACTERS = 40  # of a field name in messages


def text_of(value: object, name: str, path: Path, line: int) -> str:
    """A text, lone surrogates replaced."""
    if not isinstance(value, str):
        raise field_error("must be text", name, value, path, line)
    return replace_surrogates(value)


def texts_of(record: Mapping[str, Any], name: str, path: Path, line: int) -> list[str]:
    """A list of texts; empty if the field is absent."""
    return [text_of(value, name, path, line) for value in list_of(record, name, path, line)]


def scores_of(record: Mapping[str, Any], name: str, count: int, path: Path, line: int) -> list[float | None]:
    """A list of `count` numbers; all None if the field is absent."""
    values = list_of(record, name, path, line)
    if not values:
        return [None] * count
    if len(values) != count:
        raise field_error(f"has {len(values)} numbers for {count} texts", name, values, path, line)
    return [number_of(value, name, path, line) for value in values]


def object_of(value: object, name: str, path: Path, line: int) -> dict[str, Any]:
    """A JSON object."""
    if not isinstance(value, dict):
        raise field_error("must be an object", name, value, path, line)
    return value


def id_of(value: object, text: str, kind: str, path: Path, line: int) -> str:
    """The id, or one made from the text if it is missing."""
    return made_id(kind, text) if value is None or value == "" else checked_id(value, path, line)


def document_of_object(value: object, name: str, path: Path, line: int, doc_id: object = None) -> Document:
    """A passage from its `title` and text, with `doc_id`, its own `docid`, or an id made from the text."""
    record = object_of(value, name, path, line)
    fields = record if doc_id is None else {**record, "_id": doc_id}
    if any(fields.get(key) not in (None, "") for key in DOC_ID_FIELDS):
        return parse_document(fields, path, line)
    document = parse_document({**fields, "_id": "none"}, path, line)
    return replace(document, doc_id=made_id("d", document.full_text))


def unread(record: Mapping[str, Any], known: Collection[str]) -> Iterator[Unkept]:
    """Non-empty fields that the reader ignores."""
    for name, value in record.items():
        if name not in known and value not in (None, "", [], {}):
            yield Unkept(f"field {name[:NAME_CHARACTERS]!r}")


def unread_files(folder: Path, read: Iterable[Path], parts: Iterable[Path] = ()) -> Iterator[Unkept]:
    """Files in a folder and the given subfolders that the reader ignores."""
    known = set(read)
    for path in sorted(file for part in (folder, *parts) if part.is_dir() for file in part.iterdir()):
        if path.is_file() and path not in known and not path.name.startswith("."):
            yield Unkept(f"file {str(path.relative_to(folder))!r}")
