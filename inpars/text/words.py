"""The words of a text and what is derived from them: copied queries, openings, keys."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from inpars.text.hashing import key64

COPIED_WORDS = 6  # a query of at least this many words that occurs verbatim in its document is a copy
OPENING_WORDS = 2
# accents and vowel signs on letters, as in Hindi and Thai, which `\w` takes for the ends of words (up to Lepcha)
_MARKS = "".join(chr(code) for code in range(0x300, 0x1C50) if unicodedata.category(chr(code)).startswith("M"))
_WORD = re.compile(rf"\w[\w{_MARKS}]*")


def words(text: str) -> tuple[str, ...]:
    """The lower-cased words of a text, without punctuation."""
    return tuple(_WORD.findall(text.lower()))


def is_copied(query: str, document: str) -> bool:
    """Whether a query of at least `COPIED_WORDS` words occurs verbatim in the document."""
    query_words = words(query)
    if len(query_words) < COPIED_WORDS:
        return False
    return f" {' '.join(query_words)} " in f" {' '.join(words(document))} "


def opening(words: Sequence[str]) -> tuple[str, ...]:
    """The first words of a query: `what is`, `how to`."""
    return tuple(words[:OPENING_WORDS])


def words_key(words: Sequence[str]) -> int:
    """A 64-bit hash of words in order."""
    return key64(" ".join(words))


def query_key(text: str) -> int:
    """`words_key` of a text's words; a text without words is split at blanks instead."""
    return words_key(words(text) or text.split())
