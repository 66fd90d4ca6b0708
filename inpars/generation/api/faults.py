"""What a server says when it does not answer: in any of the forms of its message, under any status.

OpenAI's servers send `{"error": {"message", "type", "param", "code"}}`; others a plain string, FastAPI's `detail`,
Google's list of one object, or a web page; gateways send such a thing with status 200. A content filter's refusal is
told from all else, since it is an answer: asking again changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import unescape
from typing import Any

from inpars.io.json_text import JsonError, parse_json

FINAL = {401, 402, 403, 404, 405}  # no request can succeed
REFUSED = {400, 413, 414, 422}  # not this one
AGAIN = {408, 409, 425, 429}  # besides everything from 500 on
_MESSAGES = ("message", "msg", "detail", "error_description", "error_message", "error_msg", "reason", "title")
_CODES = ("code", "status", "status_code", "statusCode", "type", "param", "innererror", "inner_error")
_STATUS_OF_WORDS = (
    (r"insufficient[_ ](?:quota|credits?|funds|balance)|out of credits|billing|payment[_ ]required", 402),
    (r"rate[_ ]?limit|too[_ ]many[_ ]requests|resource_exhausted|throttl", 429),
    (r"invalid[_ ]api[_ ]key|unauthori[sz]ed|unauthenticated|authentication|not authenticated|no auth", 401),
    (r"permission|forbidden|access[_ ]denied", 403),
    (r"not[_ ]found|does not exist|no such model", 404),
    (r"overloaded|unavailable|server[_ ]error|internal|timed?[_ ]?out|bad[_ ]gateway|upstream|provider returned", 503),
    (r"invalid|unsupported|bad[_ ]?request|context[_ ]length|not supported", 400),
)
_FILTERS = re.compile(
    r"content[_ -]?(?:policy|management policy|filter)|responsible ?ai|moderation|flagged as|input was flagged|"
    r"safety[_ ](?:system|filter|settings|policy)|prohibited[_ ]content|inappropriate content|"
    r"data_?inspection_?failed|new_sensitive|"
    r"guardrail[_ ]?interven|sensitive[_ ]content|\bblocklist|blocked by (?:our|the) (?:content|safety)",
    re.IGNORECASE,
)
_HIDDEN = re.compile(r"<(script|style)\b.*?</\1>|<!--.*?-->", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"<[^<>]*>")


@dataclass(frozen=True, slots=True)
class Fault:
    """One refusal or failure; `status` is the code that the message names, else HTTP's, None where neither is known."""

    status: int | None
    message: str
    filtered: bool = False
    empty_account: bool = False


class FaultError(Exception):
    """A fault in an answer that HTTP calls a success."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


class OddReplyError(ValueError):
    """An answer in which no text is to be found: what is odd about it, and how it begins."""

    def __init__(self, problem: str, excerpt: str = "", *, page: bool = False, settles: bool = False) -> None:
        """`page` for a web page; `settles` where the server is through and another try is a matter of luck."""
        super().__init__(f"{problem}: {excerpt}" if excerpt else problem)
        self.problem, self.page, self.settles = problem, page, settles


def fault_of_status(status: int, content: bytes) -> Fault:
    """What a server says under an HTTP status of failure."""
    text = content.decode("utf-8", "replace").strip()
    try:
        payload = parse_json(text) if text else None
    except JsonError:
        payload = visible(text) if text.startswith("<") else text
    return fault_in(payload, status) or Fault(status, _message(payload) or "no reason given")


def fault_in(payload: Any, status: int | None = None) -> Fault | None:
    """The fault that a JSON value speaks of, None where of none; an HTTP status of failure goes before its codes."""
    error = _error(payload, failed=status is not None)
    if error is None:
        return None
    message, codes = _message(error), [*_codes(error), *_codes(payload)]
    words = " ".join([message, *codes])
    code = status or next((int(code) for code in codes if re.fullmatch(r"[45]\d\d", code)), None) or _status_of(words)
    empty = "insufficient_quota" in words
    return Fault(code, message or "no reason given", _FILTERS.search(words) is not None or _is_filtered(error), empty)


def _error(payload: Any, *, failed: bool) -> Any:
    if isinstance(payload, list) and len(payload) == 1:
        payload = payload[0]
    if not isinstance(payload, dict):
        return payload if failed and payload else None
    for name in ("error", "errors"):
        if (error := payload.get(name)) and (not isinstance(error, dict) or any(error.values())):
            return error
    bare = any(_message(payload.get(name)) for name in _MESSAGES)
    return payload if failed or (bare and not payload.get("choices")) else None


def _message(error: Any, depth: int = 3) -> str:
    """The words in a fault of any form."""
    if isinstance(error, str):
        return error.strip()
    if not depth:
        return ""
    if isinstance(error, list):
        return "; ".join(filter(None, (_message(entry, depth - 1) for entry in error[:3])))
    if not isinstance(error, dict):
        return ""
    message = next((text for name in _MESSAGES if (text := _message(error.get(name), depth - 1))), "")
    location, metadata = error.get("loc"), error.get("metadata")
    where = ".".join(map(str, location)) if isinstance(location, list) else ""
    behind = metadata.get("raw") if isinstance(metadata, dict) else None  # OpenRouter: the provider's own words
    message = f"{message} ({behind})" if message and isinstance(behind, str) else message
    return f"{where}: {message}" if where and message else message or _message(error.get("error"), depth - 1)


def _codes(error: Any) -> Iterator[str]:
    """Words and numbers that name the kind of fault."""
    if isinstance(error, dict):
        for name in _CODES:
            if isinstance(value := error.get(name), str | int):
                yield str(value)
            else:
                yield from _codes(value)


def _status_of(words: str) -> int | None:
    return next((status for pattern, status in _STATUS_OF_WORDS if re.search(pattern, words, re.IGNORECASE)), None)


def is_filtered(payload: Mapping[str, Any]) -> bool:
    """Whether an answer without a text says that a filter took it."""
    for name in ("promptFeedback", "prompt_feedback"):
        feedback = payload.get(name)
        if isinstance(feedback, dict) and (feedback.get("blockReason") or feedback.get("block_reason")):
            return True
    return _is_filtered(payload)


def _is_filtered(value: Any, depth: int = 5) -> bool:
    if isinstance(value, dict) and depth:
        return value.get("filtered") is True or any(_is_filtered(item, depth - 1) for item in value.values())
    return isinstance(value, list) and depth > 0 and any(_is_filtered(item, depth - 1) for item in value[:50])


def visible(page: str) -> str:
    """What a reader of a web page sees of it, on one line."""
    return " ".join(unescape(_TAG.sub(" ", _HIDDEN.sub(" ", page))).split()) or "an empty page"
