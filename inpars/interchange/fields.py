"""Checks on the fields of other toolkits' JSON. Each raises DataFormatError with path, line and field."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from inpars.errors import DataFormatError
from inpars.fields import checked_id
from inpars.formats import parse_document
from inpars.interchange.items import made_id
from inpars.json_text import well_formed
from inpars.records import Document


def text_of(value: object, name: str, path: Path, line: int) -> str:
    """A text."""
    if not isinstance(value, str):
        raise wrong("must be text", name, value, path, line)
    return well_formed(value)


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
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
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
    found = record if doc_id is None else {**record, "_id": doc_id}
    if not any(found.get(key) not in (None, "") for key in ("_id", "doc_id", "id", "docid")):
        text = next((v for key in ("text", "contents") if isinstance(v := found.get(key), str)), "")
        found = {**found, "_id": made_id("d", text)}
    return parse_document(found, path, line)


def wrong(problem: str, name: str, value: object, path: Path, line: int) -> DataFormatError:
    """The error for a field."""
    return DataFormatError(problem, path=path, line=line, field=name, excerpt=repr(value))
