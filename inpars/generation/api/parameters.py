"""Parameters that some servers spell differently, learned from the first refused request.

A refused request costs nothing. Learned changes apply to the rest of the run and do not affect the request's digest.
Parameters that affect the answer are never changed; the error message names the flag to change instead. The system
turn's text moves into the first user turn where a model's chat template takes no system turn (Gemma 2, Mistral 7B).
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

Body: TypeAlias = dict[str, Any]
_UNSUPPORTED = (
    r"(?:un-?supported|not (?:supported|permitted|allowed|recognized|available)|unknown|unrecogni[sz]ed|unexpected|"
    r"extra|forbidden|deprecated|instead|no such|does not support)"
)
NO_SYSTEM_TURN = re.compile(r"system role not supported|only user\b.* roles|roles must alternate", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Change:
    """A change that a refusal matching `pattern` asks for; `apply` returns other bodies unchanged."""

    pattern: re.Pattern[str]
    apply: Callable[[Body], Body]
    note: str = ""


def _both_ways(name: str, more: str = _UNSUPPORTED) -> re.Pattern[str]:
    """Match the parameter's name with words of refusal before or after it."""
    return re.compile(rf"\b{name}\b.*{more}|{more}.*\b{name}\b", re.IGNORECASE | re.DOTALL)


def _renamed(old: str, new: str) -> _Change:
    return _Change(_both_ways(old), lambda body: {new if name == old else name: value for name, value in body.items()})


def _dropped(dropped: str, note: str = "") -> _Change:
    return _Change(
        _both_ways(dropped), lambda body: {name: value for name, value in body.items() if name != dropped}, note
    )


def _without_system_turn(body: Body) -> Body:
    """The body with the system turn's text before that of the first user turn."""
    match body.get("messages"):
        case [{"role": "system", "content": system}, {"role": "user", "content": text}, *rest]:
            return body | {"messages": [{"role": "user", "content": f"{system}\n\n{text}"}, *rest]}
        case _:
            return body


_CHANGES = (
    _renamed("max_tokens", "max_completion_tokens"),
    _renamed("max_completion_tokens", "max_tokens"),
    _Change(
        _both_ways(r"top[_ ]logprobs", r"(?:must|required?|needs?|set|missing)"),
        lambda body: {"top_logprobs": 1} | body if body.get("logprobs") is True else body,
    ),
    _dropped("seed", "the server takes no seed: sampled queries are not reproducible"),
    _Change(NO_SYSTEM_TURN, _without_system_turn, "the model takes no system turn: the first user turn has its text"),
)
_NO_TEMPERATURE = _dropped("temperature")
_ADVICE = (
    (r"temperature", "give --temperature 1"),
    (r"log[_ ]?probs?\b", "give --log-prob-kind absent"),
    (r"top_p\b", "give --top-p 1"),
    (r"context[_ ](?:length|window|size)|maximum context|too many tokens|prompt is too long", "lower --max-doc-tokens"),
    (r"max_(?:completion_|output_|new_)?tokens", "change --max-new-tokens"),
    (r"\bstop\b", "use --backend chat, which sends no stop strings"),
)


class Spelling:
    """The parameter changes that one server requires. Thread-safe.

    `may_drop_temperature` allows sending requests without a temperature.
    """

    def __init__(self) -> None:
        self.may_drop_temperature = False
        self._learned: tuple[_Change, ...] = ()
        self._lock = threading.Lock()

    @property
    def notes(self) -> list[str]:
        """Effects of the learned changes on the answers."""
        return [change.note for change in self._learned if change.note]

    def applied(self, body: Body) -> Body:
        """The body with all learned changes."""
        for change in self._learned:
            body = change.apply(body)
        return body

    def learns(self, message: str, sent: Body, body: Body) -> bool:
        """Learn from the refusal of `sent`, made from `body`; whether the body would now be sent differently."""
        for change in (*_CHANGES, _NO_TEMPERATURE) if self.may_drop_temperature else _CHANGES:
            if change.pattern.search(message) and change.apply(sent) != sent:
                with self._lock:
                    if change not in self._learned:
                        self._learned = (*self._learned, change)
                return self.applied(body) != sent
        return False


def advice(message: str) -> str:
    """The flag that helps against a refusal, or empty."""
    return next((flag for pattern, flag in _ADVICE if re.search(pattern, message, re.IGNORECASE)), "")
