"""Locate the query in a model's output: a chat reply or a continuation.

A chat reply may contain reasoning, a preamble, labels and markdown; a continuation contains the query up to its stop
string. Positions are returned instead of texts, to select the log-probabilities of the query's tokens.

Reasoning models enclose their reasoning in marks that differ by family, and servers without a parser for them pass
everything on. The opening mark may be missing (it was part of the chat template), and so may the closing one (the token
limit was reached). A mark counts only in plausible positions, so that a query about a `<think>` tag stays whole.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from inpars.prompts.templates import Prompt

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
    """The answer is `text[start:end]`; `thoughts`: reasoning was removed."""

    start: int
    end: int
    thoughts: bool


def find_answer(text: str) -> AnswerSpan:
    """The text after the reasoning, empty if it never ends; the whole text if there is none."""
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
        return AnswerSpan(0, openings[0].start(), True)  # an answer followed by reasoning
    return AnswerSpan(len(text), len(text), True)


def _begins_line(text: str, position: int) -> bool:
    line = text[:position].rpartition("\n")[2]
    return _TURN.fullmatch(line) is not None or _CLOSING.search(line) is not None


def _closes(text: str, mark: re.Match[str], openings: list[re.Match[str]]) -> bool:
    """Whether a closing mark ends reasoning: an opening mark precedes it, or it is in no position a query has one."""
    if any(opening.end() <= mark.start() for opening in openings):
        return True
    before, after = text[: mark.start()], text[mark.end() :]
    line = before.rpartition("\n")[2]
    if _OPENING.search(line):
        return False
    is_word = line[-1:].isspace() and after[:1].isspace() and line.rstrip()[-1:] not in tuple(".!?:;)")
    return not line.strip() or (bool(after.strip()) and not (is_word and "\n" not in before.strip()))


QUOTES = {'"': '"', "'": "'", "“": "”", "‘": "’", "«": "»", "„": "“", "‚": "‘", "「": "」", "『": "』", "`": "`"}
_EMPHASIS = ("```", "**", "__", "~~", "*", "_")
_BULLET = re.compile(r"[-*•–—]\s+(?=[^\s\d])")
_NUMBER = re.compile(r"(\d{1,2})(\.|\)|\.\))\s+(?=\S)")
_HEADING = re.compile(r"#{2,6}\s+")
_ASKS = re.compile(
    r"(?:what|how|why|when|where|who|whom|whose|which|is|are|was|were|can|could|does|do|did|should|will|would|has|have)\b",
    re.IGNORECASE,
)
_TAG = re.compile(r"<(query|question|search_query|answer|output|response|result|final|final_answer|text)>\s*", re.I)
_BOXED = re.compile(r"\$*\\boxed\{(?:\\text\{)?([^{}]*)\}{1,2}\$*[.]?")
_GLUED = re.compile(r"(?<=\S)(?:<[|｜][\w▁]+[|｜]>|</s>|<eos>|<end_of_turn>|\[EOS\])\s*$")
_JSON = re.compile(
    r'\s*(?:```(?:json)?\s*)?\[?\s*\{\s*(?:"\w+"\s*:\s*"(?:[^"\\]|\\.)*"\s*,\s*)*?'  # perhaps after other fields
    r'"(?:quer(?:y|ies)|questions?|search_query|q|output|answer)"\s*:\s*\[?\s*"((?:[^"\\]|\\["\\/])+)"'
)
Span = tuple[int, int]


def trimmed(text: str, start: int, end: int) -> Span:
    """The span without surrounding whitespace."""
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return start, end


def without_lead(text: str, start: int, end: int, *, listed: bool) -> Span:
    """Without a leading bullet, heading mark or number; `listed` if the reply has further items or a preamble."""
    for pattern in (_BULLET, _HEADING):
        if match := pattern.match(text, start, end):
            return match.end(), end
    if (match := _NUMBER.match(text, start, end)) and (listed or _counts(match, text[match.end() : end])):
        return match.end(), end
    if listed and text.startswith("> ", start, end):
        return start + 2, end
    return start, end


def _counts(number: re.Match[str], rest: str) -> bool:
    """Whether a number is a list item's: German and other languages write ordinals the same way."""
    return ")" in number[2] or rest.endswith("?") or _ASKS.match(rest) is not None


def without_pair(text: str, start: int, end: int) -> Span:
    """Without one pair of marks around the whole span."""
    if (match := _TAG.match(text, start, end)) and (close := text.find(f"</{match[1]}>", match.end(), end)) >= 0:
        return match.end(), close
    if (boxed := _BOXED.match(text, start, end)) and boxed.end() == end:
        return boxed.span(1)
    if glued := _GLUED.search(text[start:end]):
        return start, start + glued.start()
    stop = end - 1 if text[end - 1 : end] in (".", ",", ";") else end  # after the closing mark
    for edge in dict.fromkeys((end, stop)):
        if (inner := _quoted(text, start, edge) or _emphasised(text, start, edge)) is not None:
            return inner
    return start, end


def _quoted(text: str, start: int, end: int) -> Span | None:
    if end - start < 3 or QUOTES.get(text[start]) != text[end - 1]:
        return None
    inner, close = text[start + 1 : end - 1], text[end - 1]
    if close in "'’":  # do not take apostrophes for quotes
        inner = re.sub(r"(?<=\w)['’](?=\w)", "", inner)
    if (position := inner.find(close)) >= 0 and (position == 0 or not inner[position - 1].isspace()):
        return None  # two quoted phrases
    return start + 1, end - 1


def _emphasised(text: str, start: int, end: int) -> Span | None:
    for mark in _EMPHASIS:
        if not (text.startswith(mark, start, end) and text.endswith(mark, start, end) and end - start > 2 * len(mark)):
            continue
        inner = text[start + len(mark) : end - len(mark)]
        words = " " in inner.strip() if mark[0] == "_" else inner[0].isalnum() or " " in inner
        if words and mark not in inner and (len(mark) > 1 or not inner.startswith(mark)):
            return start + len(mark), end - len(mark)
    return None


_NOUN = r"(?:quer(?:y|ies)|questions?|search(?:es)?|keywords?|passages?|documents?|texts?|request|example|answer)"
_YES = r"(?:sure|certainly|of course|absolutely|okay|ok|alright|great|understood|gladly|no problem)"
_KIND = (
    r"(?:relevant|good|possible|potential|search|user|suggested|generated|example|natural|short|best|final|new|concise|"
    r"web|google|bing|likely|typical|sample|hypothetical|corresponding|matching)"
)
_LABEL_WORDS = (
    rf"(?:(?:the|an?|my|one|your)\s+)?(?:{_KIND}\s+){{0,3}}"
    r"(?:quer(?:y|ies)|questions?|search (?:terms?|phrase)|q|output|answer|response)(?:\s*#?\d{1,2})?"
    rf"(?:\s+for (?:this|the) {_NOUN})?(?:\s+(?:is|could be|might be|would be|can be))?"
)
LABEL = re.compile(
    rf"#{{0,6}}\s*(?:(\*\*|__|\*|_){_LABEL_WORDS}\s*(?:[:：]\s*\1|\1\s*[:：])|{_LABEL_WORDS}\s*[:：])\s*(?=\S)",
    re.IGNORECASE,
)
_LABEL_LINE = re.compile(rf"{_LABEL_WORDS}\s*[:：]?", re.IGNORECASE)
INLINE = re.compile(
    rf"(?:{_YES}[!,.]*\s+)?(?:here(?:[’']s| is| are)|below is|the following is)\s(?=[^:：\n]*{_NOUN})"
    r"[^:：\n]{0,80}[:：]\s*(?=\S)"
    r"|(?:sure|certainly|of course|absolutely)!\s+(?=\S)",
    re.IGNORECASE,
)
_ANNOUNCES = re.compile(rf"(?:{_YES}|here|below|the following|based on|given)\b|.*\b{_NOUN}\b", re.IGNORECASE)
_FILLER = re.compile(
    rf"{_YES}(?:\s+thing)?(?:!|\.|,?\s+(?:i|let|here|this|happy|glad)\b[^\n]*[.!])"
    r"|(?:i[’']d|i would|i[’']ll|i can|i[’']m|i am|let me)\b"
    r"[^\n]*\b(?:help|happy|glad|generate|write|create)\b[^\n]*[.!]",
    re.IGNORECASE,
)
_RULE = re.compile(r"(?:[-*_=]\s*){3,}")
_UNABLE = r"i(?:\s+(?:can(?:no|[’'])t|can not|won[’']t|am (?:unable|not able) to)|[’']m (?:unable|not able) to)"
_WRITE = r"(?:assist|help|comply|provide|fulfill?|generate|create|write|answer|process|engage|continue|do)"
_SORRY = r"(?:(?:i[’']m|i am)\s+(?:very\s+|really\s+)?sorry|i apologi[sz]e|sorry)"
_REFUSAL = re.compile(
    rf"{_SORRY},?\s+(?:but\s+)?{_UNABLE}\s+{_WRITE}\b"
    rf"|(?:unfortunately,?\s+)?{_UNABLE}\s+{_WRITE}\s+"
    r"(?:you\b|with (?:that|this|your)\b|that\b|this\b|an?\b|any\b|the (?:query|question|request)\b|your\b)"
    r"|as an ai(?: language)? model\b",
    re.IGNORECASE,
)
_TAG_LINE = re.compile(r"<[a-z_]+>", re.IGNORECASE)
_LONGEST = 240  # characters of a preamble line


def is_preamble(line: str, *, blank_follows: bool) -> bool:
    """Whether a line only announces the following ones."""
    bare = line.strip('*_#>`" \t')
    if (
        (not bare and len(line) > 1)
        or _RULE.fullmatch(line)
        or _TAG_LINE.fullmatch(line)
        or _LABEL_LINE.fullmatch(bare)
    ):
        return True
    if len(bare) > _LONGEST:
        return False
    if bare.endswith((":", "：")):
        return blank_follows or _ANNOUNCES.match(bare) is not None
    return _FILLER.fullmatch(bare) is not None


def refuses(text: str) -> bool:
    """Whether the model declines to answer in words."""
    return _REFUSAL.match(text.strip()) is not None


_LINE = re.compile(r"[^\n]*\S[^\n]*")
_SECOND = re.compile(r"\s*(?:2[.)]|[-*•–])\s")
_LAYERS = 8  # maximum nested marks around a query

THOUGHTS, ONLY_THOUGHTS, PREAMBLE, MARKUP = "thoughts", "only_thoughts", "preamble", "markup"
REFUSED, ECHO = "refused_in_words", "echo"


class QuerySpan(NamedTuple):
    """The query is `text[start:end]`; `remarks` name what was removed."""

    start: int
    end: int
    remarks: tuple[str, ...] = ()


def find_continued(text: str, form: Prompt, prompt: str = "") -> QuerySpan:
    """Locate the query in a continuation; some servers repeat the prompt before it."""
    echo = len(prompt) if prompt and text.startswith(prompt) else 0
    answer = find_answer(text[echo:])
    start, end = echo + answer.start, echo + answer.end
    if answer.thoughts:
        start, end = trimmed(text, start, end)
    end = start + form.stop_position(text[start:end])
    start, end = trimmed(text, start, end)
    return QuerySpan(start, end, _thought_remarks(answer.thoughts, start == end) + (ECHO,) * bool(echo))


def find_replied(text: str, form: Prompt) -> QuerySpan:
    """Locate the query in a chat reply."""
    answer = find_answer(text)
    start, end = trimmed(text, answer.start, answer.end)
    remarks = _thought_remarks(answer.thoughts, start == end)
    if refuses(text[start:end]):
        return QuerySpan(start, start, (*remarks, REFUSED))
    lines = [trimmed(text, *match.span()) for match in _LINE.finditer(text, start, end)]
    first = _first_line(text, lines, form)
    if not lines:
        return QuerySpan(start, start, remarks)
    begin = lines[first][0]
    if match := _JSON.match(text, start, end) or _JSON.match(text, begin, end):
        return QuerySpan(*trimmed(text, *match.span(1)), (*remarks, MARKUP))
    listed = first > 0 or any(_SECOND.match(text, *line) for line in lines[first + 1 :])
    span = trimmed(text, begin, begin + form.stop_position(text[begin:end]))
    bare = _bare(text, *span, form.cue, listed=listed)
    remarks += (PREAMBLE,) * (first > 0) + (MARKUP,) * (bare != span)
    return QuerySpan(*bare, remarks)


def _thought_remarks(thoughts: bool, nothing_else: bool) -> tuple[str, ...]:
    return (ONLY_THOUGHTS if nothing_else else THOUGHTS,) if thoughts else ()


def _first_line(text: str, lines: list[tuple[int, int]], form: Prompt) -> int:
    """Index of the query's line: the first that is no preamble and does not repeat the prompt's form."""
    label, cue = form.prefix.rpartition("\n")[2].strip().lower(), form.cue.lower()
    cues = [
        number
        for number, (start, end) in enumerate(lines)
        if cue and text[start:end].lower().startswith(cue) and number
    ]
    if lines and cues and label and text[slice(*lines[0])].lower().startswith(label):
        lines, shift = lines[cues[0] :], cues[0]
    else:
        shift = 0
    for number, (start, end) in enumerate(lines[:-1]):
        line, gap = text[start:end], text[end : lines[number + 1][0]]
        fence = line.startswith("```") and line.count("```") == 1 and " " not in line
        only_cue = bool(cue) and line.strip("*_#>` ").lower() == cue
        if not (fence or only_cue or is_preamble(line, blank_follows=gap.count("\n") > 1)):
            return shift + number
    return shift + max(0, len(lines) - 1)


def _bare(text: str, start: int, end: int, cue: str, *, listed: bool) -> tuple[int, int]:
    """The span without labels, list marks, quotes and markdown around the query."""
    for layer in range(_LAYERS):
        before = start, end
        start, end = trimmed(text, start, end)
        if layer == 0 and cue and text[start:end].lower().startswith(cue.lower()):
            start, end = trimmed(text, start + len(cue), end)
        for pattern in (LABEL, INLINE):
            if match := pattern.match(text, start, end):
                start = match.end()
        start, end = without_lead(text, start, end, listed=listed)
        start, end = without_pair(text, start, end)
        if (start, end) == before:
            break
    return start, end
