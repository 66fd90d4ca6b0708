"""Parse the answers and errors of any OpenAI-compatible server.

Answers: text, finish reason, log-probabilities and token usage. Servers use many words for the finish reason; a refusal
in any form counts as an answer, and unknown words become remarks.

Errors come in many forms, under any status. OpenAI sends `{"error": {"message", "type", "param", "code"}}`; others a
plain string, FastAPI's `detail`, Google's list of one object, or a web page; gateways send them with status 200.
Content filters are recognized, since their refusal counts as an answer: retrying is pointless.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import unescape
from typing import Any

from inpars.io.json_text import JsonError, parse_json, replace_surrogates
from inpars.records import FinishReason

FINAL = {401, 402, 403, 404, 405}  # every request will fail
REFUSED = {400, 413, 414, 422}  # this request will fail
AGAIN = {408, 409, 424, 425, 429, 499}  # retry, as from 500 on; 424 is a failed generation of TGI, 499 Google's
_MESSAGES = ("message", "msg", "detail", "error_description", "error_message", "error_msg", "reason", "title")
_CODES = ("code", "status", "status_code", "statusCode", "type", "param", "innererror", "inner_error")
_STATUS_OF_WORDS = (
    (r"insufficient[_ ](?:quota|credits?|funds|balance)|out of credits|billing|payment[_ ]required", 402),
    (r"rate[_ ]?limit|too[_ ]many[_ ]requests|resource_exhausted|throttl", 429),
    (r"invalid[_ ]api[_ ]key|unauthori[sz]ed|unauthenticated|authentication|not authenticated|no auth", 401),
    (r"permission|forbidden|access[_ ]denied", 403),
    (r"not[_ ]found|does not exist|no such model|unexpected endpoint", 404),  # the last one is LM Studio's
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
    """An error reported by a server; `status` is HTTP's if it is a failure, else a code in the message, or None."""

    status: int | None
    message: str
    filtered: bool = False
    empty_account: bool = False


class FaultError(Exception):
    """A fault in an answer with a successful HTTP status."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


class OddReplyError(ValueError):
    """An answer without a text; describes the problem and quotes the beginning."""

    def __init__(self, problem: str, excerpt: str = "", *, page: bool = False, settles: bool = False) -> None:
        """`page`: it is a web page; `settles`: the server did process the request, retries may or may not help."""
        super().__init__(f"{problem}: {excerpt}" if excerpt else problem)
        self.problem, self.page, self.settles = problem, page, settles


def fault_of_status(status: int, content: bytes) -> Fault:
    """The fault in the body of a failed HTTP response."""
    text = content.decode("utf-8", "replace").strip()
    try:
        payload = parse_json(text) if text else None
    except JsonError:
        payload = visible(text) if text.startswith("<") else text
    return fault_in(payload, status) or Fault(status, _message(payload) or "no reason given")


def fault_in(payload: Any, status: int | None = None) -> Fault | None:
    """The fault in a JSON value, or None; a failed HTTP `status` takes precedence over codes in the value."""
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
    """The message in an error of any form."""
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
    raw = metadata.get("raw") if isinstance(metadata, dict) else None  # OpenRouter: the provider's message
    message = f"{message} ({raw})" if message and isinstance(raw, str) else message
    return f"{where}: {message}" if where and message else message or _message(error.get("error"), depth - 1)


def _codes(error: Any) -> Iterator[str]:
    """Words and numbers that identify the kind of error."""
    if isinstance(error, dict):
        for name in _CODES:
            if isinstance(value := error.get(name), str | int):
                yield str(value)
            else:
                yield from _codes(value)


def _status_of(words: str) -> int | None:
    return next((status for pattern, status in _STATUS_OF_WORDS if re.search(pattern, words, re.IGNORECASE)), None)


def is_filtered(payload: Mapping[str, Any]) -> bool:
    """Whether an answer without a text was blocked by a content filter."""
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
    """A web page's visible text on one line."""
    return " ".join(unescape(_TAG.sub(" ", _HIDDEN.sub(" ", page))).split()) or "an empty page"


BROKEN = "broken_letters"
SHOWN_CHARACTERS = 100


def read_payload(content: bytes) -> dict[str, Any]:
    """Parse an answer's bytes. Raises FaultError if it reports an error, OddReplyError if it is something else."""
    text = content.decode("utf-8-sig", "replace").strip()
    if not text:
        raise OddReplyError("an empty answer")
    if text.startswith("<"):
        raise OddReplyError("not JSON", f"<html> {visible(text)[:SHOWN_CHARACTERS]}", page=True)
    try:
        return answer_in(parse_json(text))
    except JsonError as error:
        raise OddReplyError(str(error), excerpt(text)) from None


def answer_in(payload: Any) -> dict[str, Any]:
    """The value if it is an answer's object. Raises FaultError, and OddReplyError for other values."""
    if (fault := fault_in(payload)) is not None and not (isinstance(payload, dict) and payload.get("choices")):
        raise FaultError(fault)
    if isinstance(payload, dict):
        return payload
    if isinstance(payload, str) and payload.strip():
        raise OddReplyError("a text in place of an answer", excerpt(payload))
    raise OddReplyError("no object with `choices`", excerpt(payload), settles=True)


def excerpt(value: Any) -> str:
    """The beginning of an answer, for error messages."""
    line = " ".join(str(value).split())
    return line if len(line) <= SHOWN_CHARACTERS else line[: SHOWN_CHARACTERS - 1] + "…"


_WORDS: dict[FinishReason, str] = {
    "stop": "stop stopped eos eos_token eos_token_id end_turn end_of_turn endoftext end_of_text stop_sequence "
    "stop_token stop_string complete completed finished finish done end success normal",
    "length": "length max_tokens max_length max_new_tokens max_output_tokens max_completion_tokens model_length "
    "token_limit token_limit_reached context_length context_window model_context_window_exceeded incomplete truncated "
    "max_tokens_reached output_token_limit",
    "error": "content_filter content_filtered contentfilter content_filter_triggered filtered safety recitation "
    "blocked block blocklist prohibited_content spii image_safety sensitive moderation refusal refused guardrail "
    "guardrail_intervened guardrails risk_control model_armor",
}
FINISH: dict[str, FinishReason] = {word: reason for reason, words in _WORDS.items() for word in words.split()}
_FAILED = {"error", "failed", "abort", "aborted", "cancelled", "canceled", "timeout", "network_error", "server_error"}
_THOUGHT_FIELDS = ("reasoning_content", "reasoning", "reasoning_details", "thinking", "thoughts", "thinking_blocks")
_THOUGHT_TYPES = {"thinking", "thought", "thoughts", "reasoning", "reasoning_content", "redacted_thinking", "summary"}
FILTERED, NO_FINISH, UNKNOWN_FINISH, PARTS = "filtered", "no_finish_reason", "finish_reason", "parts"


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer of either endpoint. `log_probs` are unparsed."""

    text: str
    finish: FinishReason
    log_probs: Any
    thoughts: bool  # the server sent reasoning separately from the text
    is_turn: bool  # has the form of a chat message
    usage: Mapping[str, Any]
    remarks: tuple[str, ...] = ()


def read_reply(payload: Mapping[str, Any], *, token_limit: int | None = None) -> Reply:
    """The first answer; without a finish reason it counts as cut off if it has `token_limit` tokens.

    Raises FaultError if it reports an error, OddReplyError if it has no text.
    """
    choice = _choice(payload)
    usage = payload["usage"] if isinstance(payload.get("usage"), dict) else {}
    if choice is None:
        return Reply("", "error", None, False, False, usage, (FILTERED,))
    text, thoughts, remarks = _text(choice)
    finish, finish_remarks = _finish(payload, choice, usage, token_limit)
    turn = choice.get("message")
    refused = isinstance(turn, dict) and bool(turn.get("refusal")) and not text.strip()
    if refused or (finish == "error") or (not text.strip() and is_filtered(choice)):
        return Reply("", "error", None, thoughts, False, usage, (*remarks, FILTERED))
    sources = (choice, turn if isinstance(turn, dict) else {}, payload)
    log_probs = next((source["logprobs"] for source in sources if source.get("logprobs")), None)
    remarks = (*remarks, *finish_remarks)
    return Reply(replace_surrogates(text), finish, log_probs, thoughts, isinstance(turn, dict), usage, remarks)


def tokens_used(usage: Mapping[str, Any], name: str, otherwise: int) -> int:
    """A token count; `otherwise` if the server sent no valid number."""
    value = usage.get(name)
    try:
        number = float(value) if not isinstance(value, bool) else math.nan  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return otherwise
    return int(number) if math.isfinite(number) and number >= 0 else otherwise


def _choice(payload: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The choice with index 0; None if a content filter blocked it."""
    choices = payload.get("choices")
    usable = [choice for choice in choices if isinstance(choice, dict)] if isinstance(choices, list) else []
    if not usable:
        if is_filtered(payload):
            return None
        problem = "`choices` is empty" if "choices" in payload else "no `choices`"
        raise OddReplyError(problem, excerpt(dict(payload)), settles=True)
    choice = next((choice for choice in usable if choice.get("index") == 0), usable[0])
    if (fault := fault_in({"error": choice.get("error")})) is not None:
        raise FaultError(fault)
    return choice


def _text(choice: Mapping[str, Any]) -> tuple[str, bool, tuple[str, ...]]:
    """The text of a choice, whether it has separate reasoning, and remarks."""
    turn = choice["message"] if isinstance(choice.get("message"), dict) else None
    candidates = (choice.get(name) for name in ("text", "content", "message"))
    content = (
        turn.get("content") if turn is not None else next((value for value in candidates if value is not None), None)
    )
    if turn is None and content is None and not {"text", "finish_reason", "message"} & choice.keys():
        raise OddReplyError("a choice without a text", excerpt(dict(choice)), settles=True)
    thoughts = turn is not None and any(turn.get(name) for name in _THOUGHT_FIELDS)
    if content is None or isinstance(content, str):
        return content or "", thoughts, ()
    parts = content if isinstance(content, list) else [content]
    texts, has_others = [], False
    for part in parts:
        text_part, thought = _part(part)
        thoughts = thoughts or thought
        has_others = has_others or (text_part is None and not thought)
        texts.append(text_part or "")
    if has_others and not any(texts):
        raise OddReplyError("content that is no text", excerpt(content), settles=True)
    return "".join(texts), thoughts, (PARTS,) if has_others else ()


def _part(part: Any) -> tuple[str | None, bool]:
    """The text of a content part, or None, and whether the part is reasoning."""
    if isinstance(part, str):
        return part, False
    if not isinstance(part, dict):
        return None, False
    if part.get("type") in _THOUGHT_TYPES or part.get("thought") is True:
        return None, True
    text = part.get("text")
    text = text.get("value") if isinstance(text, dict) else text
    return (text, False) if isinstance(text, str) else (None, False)


def _finish(
    payload: Mapping[str, Any], choice: Mapping[str, Any], usage: Mapping[str, Any], token_limit: int | None
) -> tuple[FinishReason, tuple[str, ...]]:
    """The finish reason. Raises OddReplyError if generation failed."""
    names = ("finish_reason", "finishReason", "stop_reason", "finish_details", "native_finish_reason", "done_reason")
    reason = next((value for source in (choice, payload) for name in names if (value := source.get(name))), None)
    word = _normalized(reason)
    if word in FINISH:
        return FINISH[word], ()
    if word in _FAILED:
        raise OddReplyError(f"an answer that ended with {reason!r}", excerpt(dict(choice)))
    cut = token_limit is not None and tokens_used(usage, "completion_tokens", 0) >= token_limit > 0
    remark = f"{UNKNOWN_FINISH}:{excerpt(reason)}" if word else NO_FINISH
    return "length" if cut else "stop", (remark,)


def _normalized(reason: Any) -> str:
    if isinstance(reason, dict):
        reason = reason.get("type") or reason.get("reason")
    if not isinstance(reason, str):
        return "" if reason is None else str(reason)
    word = reason.strip().rpartition(".")[2].lower().replace("-", "_").replace(" ", "_")
    return word.removeprefix("finish_reason_").removeprefix("finishreason")
