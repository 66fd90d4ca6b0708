"""The bytes of a server's answer as one JSON object, whichever way it was packed.

Besides plain JSON: an event stream that nobody asked for, its chunks joined; `data:` before a whole answer; one JSON
object a line; a list of one; bytes that are not UTF-8. Knows nothing of HTTP, and nothing of queries.
"""

from __future__ import annotations

import codecs
import contextlib
import re
from collections.abc import Mapping
from typing import Any

from inpars.generation.api_faults import FaultError, OddReplyError, fault_in, visible
from inpars.json_text import JsonError, parse_json

STREAM, ENCODING, BROKEN = "stream", "encoding", "broken_letters"
SHOWN_CHARACTERS = 100
_FIELD = re.compile(r"(?:data|event|id|retry):|:")
_WRAPPERS = ("data", "result", "response", "body")


def read_payload(content: bytes, content_type: str = "") -> tuple[dict[str, Any], tuple[str, ...]]:
    """The answer's object and remarks on its packing. Raises OddReplyError, and FaultError for a server's complaint."""
    text, remarks = _decoded(content, content_type)
    text = text.lstrip("\ufeff").strip()
    if not text:
        raise OddReplyError("an empty answer")
    if text.startswith("<"):
        raise OddReplyError("not JSON", f"<html> {visible(text)[:SHOWN_CHARACTERS]}", page=True)
    try:
        payload = parse_json(text)
    except JsonError as error:
        events = _events(text)
        if not events:
            raise OddReplyError(str(error), shown(text)) from None
        payload, remarks = joined(events, complete="[DONE]" in text), (*remarks, STREAM)
    return unwrapped(payload), remarks


def shown(value: Any) -> str:  # noqa: ANN401 - JSON
    """The beginning of an answer, for a message."""
    line = " ".join(str(value).split())
    return line if len(line) <= SHOWN_CHARACTERS else line[: SHOWN_CHARACTERS - 1] + "…"


def unwrapped(payload: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """The object that has `choices`. Raises FaultError, and OddReplyError where there is none."""
    if isinstance(payload, str) and payload.lstrip().startswith(("{", "[")):
        with contextlib.suppress(JsonError):
            payload = parse_json(payload)
    if isinstance(payload, list) and len(payload) == 1:
        payload = payload[0]
    if isinstance(payload, dict) and "choices" not in payload:
        inner = (payload.get(name) for name in _WRAPPERS)
        payload = next((value for value in inner if isinstance(value, dict) and "choices" in value), payload)
    if isinstance(payload, dict):
        if (fault := fault_in(payload)) is not None and not payload.get("choices"):
            raise FaultError(fault)
        return payload
    if isinstance(payload, str) and payload.strip():
        raise OddReplyError("a text in place of an answer", shown(payload))
    raise OddReplyError("no object with `choices`", shown(payload), settles=True)


def _decoded(content: bytes, content_type: str) -> tuple[str, tuple[str, ...]]:
    """The text of an answer: in the encoding it names, in UTF-8, or, where that cannot be, in Latin-1 and told."""
    try:
        return content.decode("utf-8"), ()
    except UnicodeDecodeError:
        named = re.search(r"charset=\"?([\w.:-]+)", content_type)
        if named and _known(named[1]) and named[1].lower() not in ("utf-8", "utf8"):
            return content.decode(named[1], "replace"), ()
    text = content.decode("utf-8", "replace")
    if any(sign > "\x7f" and sign != "\ufffd" for sign in text):
        return text, (ENCODING,)  # UTF-8 with a broken letter
    return content.decode("cp1252", "replace"), (ENCODING,)


def _known(name: str) -> bool:
    try:
        codecs.lookup(name)
    except LookupError:
        return False
    return True


def _events(text: str) -> list[Any]:
    """The JSON values of an event stream or of lines; empty where the text is neither, or was torn."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if all(_FIELD.match(line) for line in lines):
        lines = [line.removeprefix("data:").strip() for line in lines if line.startswith("data:")]
    elif len(lines) < 2:
        return []
    try:
        return [parse_json(line) for line in lines if line != "[DONE]"]
    except JsonError:
        return []


def joined(events: list[Any], *, complete: bool) -> dict[str, Any]:
    """The chunks of a stream as the answer they make up; `complete` where the stream says that it ended.

    Raises FaultError for a complaint in the middle, OddReplyError for a stream that broke off.
    """
    whole: dict[str, Any] = {}
    choice: dict[str, Any] = {"finish_reason": None}
    turn: dict[str, Any] = {}
    for event in events:
        if (fault := fault_in(event)) is not None:
            raise FaultError(fault)
        if not isinstance(event, dict):
            raise OddReplyError("a stream of something else", shown(event))
        whole |= {name: value for name, value in event.items() if name != "choices" and value is not None}
        for part in _first_choice(event):
            delta = next((part[name] for name in ("delta", "message") if isinstance(part.get(name), dict)), None)
            _add(turn, delta or {})
            _add(choice, {name: value for name, value in part.items() if name not in ("delta", "message")})
    if not turn and choice == {"finish_reason": None}:
        return whole | {"choices": []}
    if not complete and choice["finish_reason"] is None:
        raise OddReplyError("a stream that broke off", shown(turn.get("content") or choice.get("text") or ""))
    if turn or "text" not in choice:
        choice["message"] = turn
    return whole | {"choices": [choice]}


def _first_choice(event: Mapping[str, Any]) -> list[dict[str, Any]]:
    choices = event.get("choices")
    parts = choices if isinstance(choices, list) else []
    return [part for part in parts if isinstance(part, dict) and part.get("index") in (0, None)][:1]


def _add(whole: dict[str, Any], part: Mapping[str, Any]) -> None:
    """Texts and lists go on, everything else is what was said last."""
    for name, value in part.items():
        known = whole.get(name)
        if value is None:
            continue
        if name in ("role", "finish_reason", "index"):
            whole[name] = value
        elif isinstance(known, str) and isinstance(value, str):
            whole[name] = known + value
        elif isinstance(known, list) and isinstance(value, list):
            whole[name] = [*known, *value]
        elif isinstance(known, dict) and isinstance(value, dict):
            _add(known, value)
        else:
            whole[name] = dict(value) if isinstance(value, dict) else value
