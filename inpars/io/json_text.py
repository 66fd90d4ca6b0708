r"""Strict JSON for files and servers, with one error type.

Python's parser raises four kinds of errors (JSONDecodeError, ValueError for integers of thousands of digits,
RecursionError for deep nesting, UnicodeDecodeError for bytes) and accepts unpaired surrogates (`\ud83d` alone), which
files and tokenizers refuse. Its writer emits NaN and Infinity, which are not JSON.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any


class JsonError(ValueError):
    """Invalid or unusable JSON; the message is a clause without path or line."""


def parse_json(text: str | bytes) -> Any:  # noqa: ANN401  JSON values
    """The value of a JSON text, with U+FFFD for unpaired surrogates. Raises JsonError."""
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8-sig")
        value = json.loads(text)
        if "\\ud" in text or "\\uD" in text:  # perhaps unpaired surrogates
            value = json.loads(replace_surrogates(json.dumps(value, ensure_ascii=False)))
        return value
    except (ValueError, RecursionError) as error:
        raise json_error(error) from None


def json_error(error: ValueError | RecursionError) -> JsonError:
    """The JsonError for an error of Python's JSON parser."""
    if isinstance(error, json.JSONDecodeError):
        return JsonError(f"broken JSON: {error.msg} at column {error.colno}")
    if isinstance(error, UnicodeDecodeError):
        return JsonError(f"not UTF-8 at byte {error.start}")
    if isinstance(error, RecursionError):
        return JsonError("JSON that is nested too deeply")
    return JsonError(f"JSON with an unusable number: {error}".partition(";")[0])  # more digits than Python converts


def replace_surrogates(text: str) -> str:
    """The text with U+FFFD for unpaired surrogates, which files and tokenizers refuse."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def to_json(value: Any, *, indent: int | None = None, default: Callable[[Any], Any] | None = None) -> str:  # noqa: ANN401
    """Strict JSON without ASCII escapes; null for NaN and infinities, U+FFFD for unpaired surrogates."""
    options: dict[str, Any] = {"ensure_ascii": False, "allow_nan": False, "indent": indent, "default": default}
    try:
        text = _encode(value) if indent is None and default is None else json.dumps(value, **options)
    except ValueError:
        text = json.dumps(plain_json(value), **options)
    return replace_surrogates(text)


def plain_json(value: Any) -> Any:  # noqa: ANN401
    """A JSON value with null for NaN and infinities, and U+FFFD for unpaired surrogates."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return replace_surrogates(value)
    if isinstance(value, list | tuple):
        return [plain_json(item) for item in value]
    if isinstance(value, dict):
        return {replace_surrogates(str(name)): plain_json(item) for name, item in value.items()}
    return value


_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
