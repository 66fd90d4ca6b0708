"""Lines and labels that a chat model puts before a query: "Sure! Here is a query:", "Query:", "**Question 1:**".

A line counts as a preamble only where something follows it, a label only where it ends in a colon: better a preamble
left standing than a good query damaged.
"""

from __future__ import annotations

import re

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
_LONGEST = 240  # characters of a line that announces something


def is_preamble(line: str, *, blank_follows: bool) -> bool:
    """Whether a line only announces the ones behind it."""
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
    """Whether a reply says in words that the model will not answer."""
    return _REFUSAL.match(text.strip()) is not None
