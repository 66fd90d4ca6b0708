"""Single fields of lines and JSON objects, checked: ids, texts, numbers, columns. Errors name path, line and field."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from inpars.errors import DataFormatError
from inpars.io.json_text import replace_surrogates
from inpars.io.packing import plain_name
from inpars.io.storage import BYTE_ORDER_MARK, read_lines

WHOLE_NUMBER = re.compile(r"\s*[+-]?[0-9]+\s*")
MAX_DIGITS = 18  # of a whole number: what 64 bits hold
MAX_EXACT = 2**53  # above it a float no longer tells neighbouring whole numbers apart


def one_line(text: str) -> str:
    """Text with tabs and newlines turned into blanks, for tab-separated files."""
    return " ".join(text.split())


def is_tsv(path: Path) -> bool:
    """Whether the name says tab-separated, packed or not."""
    return plain_name(path).lower().endswith((".tsv", ".txt"))


def read_tsv(path: Path, minimum: int) -> Iterator[tuple[int, list[str]]]:
    """The columns of a tab-separated file's lines with their numbers. Raises DataFormatError for too few."""
    for number, line in read_lines(path):
        yield number, split_tsv(line, path, number, minimum)


def split_tsv(line: str, path: Path, number: int, minimum: int) -> list[str]:
    """The columns of one line. Raises DataFormatError for fewer than `minimum`."""
    fields = line.split("\t")
    if len(fields) < minimum:
        raise DataFormatError(
            f"{len(fields)} tab-separated columns, {minimum} are needed", path=path, line=number, excerpt=line
        )
    return fields


def first_present(record: Mapping[str, Any], names: tuple[str, ...], path: Path, number: int | None) -> Any:  # noqa: ANN401
    """The value of the first of some names that an object has. Raises DataFormatError for none."""
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
    """As `first_present`, of values that must be text."""
    value = first_present(record, names, path, number)
    if not isinstance(value, str):
        field = next(name for name in names if record.get(name) is not None)
        raise DataFormatError("must be text", path=path, line=number, field=field, excerpt=repr(value))
    return replace_surrogates(value)


def checked_id(value: object, path: Path, number: int) -> str:
    """An id as text, without blanks around it; a whole float without its `.0`. Raises DataFormatError for all else."""
    text = value.strip().lstrip(BYTE_ORDER_MARK) if isinstance(value, str) else _number_as_id(value)
    if text.split() != [text] or replace_surrogates(text) != text:
        raise DataFormatError(
            "an id must be one word without blanks, or a whole number", path=path, line=number, excerpt=repr(value)
        )
    return text


def _number_as_id(value: object) -> str:
    """A whole number as text, empty for what is no id: true, NaN, 1.5, a float whose last digits are lost."""
    if isinstance(value, float) and value.is_integer() and abs(value) < MAX_EXACT:
        value = int(value)
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else ""


def is_gap(value: object) -> bool:
    """Whether a value is missing: null, or NaN as pandas writes it."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def finite_number(text: str, path: Path, number: int) -> float:
    """A score as a number. Raises DataFormatError unless it is a finite one."""
    try:
        value = float(text) if text.isascii() and "_" not in text else math.nan  # Python takes 1_000 and other digits
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataFormatError("must be a finite number", path=path, line=number, field="score", excerpt=text)
    return value


def whole_number(text: str, path: Path, number: int, *, field: str, least: int, most: int) -> int:
    """A number in decimal digits. Raises DataFormatError unless it is a whole one from `least` to `most`."""
    if is_whole_number(text) and len(text.strip()) <= MAX_DIGITS and least <= int(text) <= most:
        return int(text)
    problem = f"must be a whole number from {least} to {most}"
    raise DataFormatError(problem, path=path, line=number, field=field, excerpt=text)


def is_whole_number(text: str) -> bool:
    """Whether that is an integer in decimal digits."""
    return WHOLE_NUMBER.fullmatch(text) is not None


def list_of(record: Mapping[str, Any], name: str, path: Path, line: int) -> list[Any]:
    """A list; an empty one where the field is absent."""
    value = record.get(name)
    if value is None:
        return []
    if not isinstance(value, list):
        raise field_error("must be a list", name, value, path, line)
    return value


def number_of(value: object, name: str, path: Path, line: int) -> float:
    """A finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
        raise field_error("must be a number", name, value, path, line)
    return float(value)


def field_error(problem: str, name: str, value: object, path: Path, line: int) -> DataFormatError:
    """The error for a field."""
    return DataFormatError(problem, path=path, line=line, field=name, excerpt=_excerpt(value))


def _excerpt(value: object) -> str:
    """The value as it is written, as far as an excerpt goes; Python writes no whole number of thousands of digits."""
    try:
        return repr(value)
    except ValueError:
        return f"a {type(value).__name__} with a number of thousands of digits"
