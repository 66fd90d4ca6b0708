"""Checks of single fields of lines and JSON objects: ids, texts, numbers. Errors name the path, line and field."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from inpars.errors import DataFormatError
from inpars.io.json_text import replace_surrogates
from inpars.io.packing import plain_name
from inpars.io.storage import BYTE_ORDER_MARK

WHOLE_NUMBER = re.compile(r"\s*[+-]?[0-9]+\s*")
MAX_DIGITS = 18  # of a whole number: what 64 bits hold
MAX_EXACT = 2**53  # larger whole numbers are not exact as floats


def one_line(text: str) -> str:
    """The text with each run of whitespace replaced by a blank, for tab-separated files."""
    return " ".join(text.split())


def is_tsv(path: Path) -> bool:
    """Whether the file name says tab-separated, compressed or not."""
    return plain_name(path).lower().endswith((".tsv", ".txt"))


def split_tsv(line: str, path: Path, number: int, minimum: int) -> list[str]:
    """The columns of one line. Raises DataFormatError for fewer than `minimum` columns."""
    fields = line.split("\t")
    if len(fields) < minimum:
        raise DataFormatError(
            f"{len(fields)} tab-separated columns, {minimum} are needed", path=path, line=number, excerpt=line
        )
    return fields


def first_present(record: Mapping[str, Any], names: tuple[str, ...], path: Path, number: int | None) -> Any:  # noqa: ANN401
    """The value of the first of these names that the record has. Raises DataFormatError if it has none."""
    for name in names:
        if record.get(name) is not None:
            return record[name]
    raise DataFormatError(
        f"no {names[0]!r} field (or {', '.join(names[1:])})" if len(names) > 1 else f"no {names[0]!r} field",
        path=path,
        line=number,
        excerpt=", ".join(record) or "an empty object",
    )


def text_of(record: Mapping[str, Any], names: tuple[str, ...], path: Path, number: int | None) -> str:
    """Like `first_present`, for text."""
    value = first_present(record, names, path, number)
    if not isinstance(value, str):
        field = next(name for name in names if record.get(name) is not None)
        raise field_error("must be text", field, value, path, number)
    return replace_surrogates(value)


def checked_id(value: object, path: Path, number: int) -> str:
    """An id as stripped text; a whole float loses its `.0`. Raises DataFormatError for other values."""
    text = value.strip().lstrip(BYTE_ORDER_MARK) if isinstance(value, str) else _number_as_id(value)
    if text.split() != [text] or replace_surrogates(text) != text:
        raise DataFormatError(
            "an id must be one word without blanks, or a whole number", path=path, line=number, excerpt=repr(value)
        )
    return text


def _number_as_id(value: object) -> str:
    """A whole number as text; empty for values that are not ids: true, NaN, 1.5, floats that are not exact."""
    if isinstance(value, float) and value.is_integer() and abs(value) < MAX_EXACT:
        value = int(value)
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else ""


def is_gap(value: object) -> bool:
    """Whether a value is missing: null, or NaN as written by pandas."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def finite_number(text: str, path: Path, number: int, *, field: str = "score") -> float:
    """A score, or what `field` names. Raises DataFormatError unless it is a finite number."""
    try:
        value = float(text) if text.isascii() and "_" not in text else math.nan  # float() accepts 1_000 and ٣
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataFormatError("must be a finite number", path=path, line=number, field=field, excerpt=text)
    return value


def whole_number(text: str, path: Path, number: int, *, field: str, least: int, most: int) -> int:
    """A whole number in decimal digits. Raises DataFormatError unless it is between `least` and `most`."""
    if WHOLE_NUMBER.fullmatch(text) and len(text.strip()) <= MAX_DIGITS and least <= int(text) <= most:
        return int(text)
    problem = f"must be a whole number from {least} to {most}"
    raise DataFormatError(problem, path=path, line=number, field=field, excerpt=text)


def list_of(record: Mapping[str, Any], name: str, path: Path, line: int) -> list[Any]:
    """A list, empty if the field is absent. Raises DataFormatError for other values."""
    value = record.get(name)
    if value is None:
        return []
    if not isinstance(value, list):
        raise field_error("must be a list", name, value, path, line)
    return value


def number_of(value: object, name: str, path: Path, line: int) -> float:
    """A finite number. Raises DataFormatError for other values."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
        raise field_error("must be a number", name, value, path, line)
    return float(value)


def field_error(problem: str, name: str, value: object, path: Path, line: int | None) -> DataFormatError:
    """The error for a field, with the value as excerpt."""
    try:
        excerpt = repr(value)
    except ValueError:  # Python refuses to print integers of thousands of digits
        excerpt = f"a {type(value).__name__} with a number of thousands of digits"
    return DataFormatError(problem, path=path, line=line, field=name, excerpt=excerpt)
