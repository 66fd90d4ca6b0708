"""Where the answer lies in a text that also holds the model's thoughts.

Reasoning models write their thoughts between marks of their family's own, and servers that know no parser for them pass
all of it on. The opening mark may be missing (the chat template wrote it), the closing one too (the token limit came
first). A mark counts only where such marks stand, so that a query about a `<think>` tag stays whole.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_NAMES = r"(?:seed:|antml:)?(?:think|thinking|thoughts?|reasoning|reason|reflection|analysis|scratchpad)"
_OPENING = re.compile(
    rf"<{_NAMES}(?:\s[^<>]*)?>"  # DeepSeek, Qwen and most others
    r"|\[THINK\]|◁think▷|<\|begin_of_thought\|>|<\|START_THINKING\|>|<\|channel>thought\b"
    r"|<\|channel\|>\s*(?:analysis|commentary)\b[^<]*(?:<\|message\|>)?"  # gpt-oss
    r"|Here(?: is|'s) my thought process:",
    re.IGNORECASE,
)
_CLOSING = re.compile(
    rf"</{_NAMES}>"
    r"|\[/THINK\]|◁/think▷|<\|end_of_thought\|>|<\|END_THINKING\|>|<channel\|>"
    r"|<\|channel\|>\s*final\b[^<]*(?:<\|message\|>)?"
    r"|Here(?: is|'s) my response:",
    re.IGNORECASE,
)
_BARE_CHANNEL = re.compile(r"\s*analysis(?=[A-Z\"'“])")  # gpt-oss's marks without their special tokens
_BARE_FINAL = "assistantfinal"
_TURN = re.compile(
    r"\s*(?:<[|｜][\w▁]+[|｜]>\s*|<s>\s*|<bos>\s*|<start_of_turn>\s*)*(?:(?<=>)(?:assistant|model)\b\s*)?"
)


class AnswerSpan(NamedTuple):
    """The answer is `text[start:end]`; `thoughts` says that something was left out."""

    start: int
    end: int
    thoughts: bool


def find_answer(text: str) -> AnswerSpan:
    """What follows the thoughts, empty where they never end; the whole text where there are none."""
    if match := _BARE_CHANNEL.match(text):
        final = text.rfind(_BARE_FINAL, match.end())
        return AnswerSpan(len(text) if final < 0 else final + len(_BARE_FINAL), len(text), True)
    openings = [match for match in _OPENING.finditer(text) if _begins_line(text, match.start())]
    closings = [match for match in _CLOSING.finditer(text) if _closes(text, match, openings)]
    if not openings and not closings:
        return AnswerSpan(0, len(text), False)
    start = closings[-1].end() if closings else 0
    end = next((match.start() for match in openings if match.start() >= start), len(text))
    if not _TURN.fullmatch(text[start:end]):
        return AnswerSpan(start, end, True)
    if openings and not _TURN.fullmatch(text[: openings[0].start()]):
        return AnswerSpan(0, openings[0].start(), True)  # an answer, and thoughts about it
    return AnswerSpan(len(text), len(text), True)


def _begins_line(text: str, position: int) -> bool:
    line = text[:position].rpartition("\n")[2]
    return _TURN.fullmatch(line) is not None or _CLOSING.search(line) is not None


def _closes(text: str, mark: re.Match[str], openings: list[re.Match[str]]) -> bool:
    """Whether a closing mark ends thoughts: one was opened, or it stands as no mark within a query does."""
    if any(opening.end() <= mark.start() for opening in openings):
        return True
    before, behind = text[: mark.start()], text[mark.end() :]
    line = before.rpartition("\n")[2]
    if _OPENING.search(line):
        return False
    a_word = line[-1:].isspace() and behind[:1].isspace() and line.rstrip()[-1:] not in tuple(".!?:;)")
    return not line.strip() or (bool(behind.strip()) and not (a_word and "\n" not in before.strip()))
