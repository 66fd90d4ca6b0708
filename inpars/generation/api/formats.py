"""A server's answer, whichever server it is: its bytes as one JSON object, and what that object says.

Of the object: the text, how it ended, its log-probabilities, what it took. The table of reasons to finish is that of
the servers' own words; a refusal in any form is an answer; a word that is not in the table is told. Knows nothing of
HTTP, and nothing of queries.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from inpars.generation.api.faults import FaultError, OddReplyError, fault_in, is_filtered, visible
from inpars.io.json_text import JsonError, parse_json, replace_surrogates
from inpars.records import FinishReason

BROKEN = "broken_letters"
SHOWN_CHARACTERS = 100


def read_payload(content: bytes) -> dict[str, Any]:
    """The answer's object. Raises FaultError for a server's complaint, OddReplyError where there is neither."""
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
    """The object that a JSON value is. Raises FaultError, and OddReplyError for any other value."""
    if (fault := fault_in(payload)) is not None and not (isinstance(payload, dict) and payload.get("choices")):
        raise FaultError(fault)
    if isinstance(payload, dict):
        return payload
    if isinstance(payload, str) and payload.strip():
        raise OddReplyError("a text in place of an answer", excerpt(payload))
    raise OddReplyError("no object with `choices`", excerpt(payload), settles=True)


def excerpt(value: Any) -> str:
    """The beginning of an answer, for a message."""
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
    """An answer of either endpoint. `log_probs` are as the server sent them."""

    text: str
    finish: FinishReason
    log_probs: Any
    thoughts: bool  # beside the text, in a field or a part of their own
    is_turn: bool  # in the form of a chat's message
    usage: Mapping[str, Any]
    remarks: tuple[str, ...] = ()


def read_reply(payload: Mapping[str, Any], *, token_limit: int | None = None) -> Reply:
    """The first answer; one that has `token_limit` tokens and no reason to finish was cut by length.

    Raises FaultError for a failure in its place, and OddReplyError where no text is to be found.
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
    sources = (
        choice.get("logprobs"),
        turn.get("logprobs") if isinstance(turn, dict) else None,
        payload.get("logprobs"),
    )
    log_probs = next((value for value in sources if value), None)
    return Reply(
        replace_surrogates(text),
        finish,
        log_probs,
        thoughts,
        isinstance(turn, dict),
        usage,
        (*remarks, *finish_remarks),
    )


def tokens_used(usage: Mapping[str, Any], name: str, otherwise: int) -> int:
    """A count of tokens; `otherwise` where the server gives none that is a number."""
    value = usage.get(name)
    try:
        number = float(value) if not isinstance(value, bool) else math.nan  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return otherwise
    return int(number) if math.isfinite(number) and number >= 0 else otherwise


def _choice(payload: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The answer of index 0; None where a filter took it."""
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
    """The text of an answer, whether thoughts came beside it, and remarks."""
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
    """A part's text, None where it has none; and whether it is a thought."""
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
    """How the answer ended. Raises OddReplyError where the server says that it failed."""
    names = ("finish_reason", "finishReason", "stop_reason", "finish_details", "native_finish_reason", "done_reason")
    reason = next((value for source in (choice, payload) for name in names if (value := source.get(name))), None)
    word = _word(reason)
    if word in FINISH:
        return FINISH[word], ()
    if word in _FAILED:
        raise OddReplyError(f"an answer that ended with {reason!r}", excerpt(dict(choice)))
    cut = token_limit is not None and tokens_used(usage, "completion_tokens", 0) >= token_limit > 0
    remark = f"{UNKNOWN_FINISH}:{excerpt(reason)}" if word else NO_FINISH
    return "length" if cut else "stop", (remark,)


def _word(reason: Any) -> str:
    if isinstance(reason, dict):
        reason = reason.get("type") or reason.get("reason")
    if not isinstance(reason, str):
        return "" if reason is None else str(reason)
    word = reason.strip().rpartition(".")[2].lower().replace("-", "_").replace(" ", "_")
    return word.removeprefix("finish_reason_").removeprefix("finishreason")
