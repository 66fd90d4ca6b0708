"""The words of a text and what is derived from them: copied queries, openings, keys."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from inpars.text.hashing import key64

COPIED_WORDS = 6  # a query of at least this many words that occurs verbatim in its document is a copy
CHARACTERS_PER_WORD = 2  # of scripts without spaces
OPENING_WORDS = 2
# accents and vowel signs on letters, as in Hindi and Thai, which `\w` takes for the ends of words (up to Lepcha)
_MARKS = "".join(chr(code) for code in range(0x300, 0x1C50) if unicodedata.category(chr(code)).startswith("M"))
_WORD = re.compile(rf"\w[\w{_MARKS}]*")
# Thai, Lao, Burmese, Khmer, kana and ideographs: scripts without spaces between words
_WITHOUT_SPACES = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)


def words(text: str) -> tuple[str, ...]:
    """The lower-cased words of a text, without punctuation."""
    return tuple(_WORD.findall(text.lower()))


def count_words(text: str) -> int:
    """The number of words; in scripts without spaces, `CHARACTERS_PER_WORD` characters count as one."""
    rest, characters = _WITHOUT_SPACES.subn(" ", text)
    return len(words(rest)) + -(-characters // CHARACTERS_PER_WORD)


def is_copied(query: str, document: str) -> bool:
    """Whether a query of at least `COPIED_WORDS` words occurs verbatim in the document."""
    if count_words(query) < COPIED_WORDS:
        return False
    if _WITHOUT_SPACES.search(query):
        return "".join(words(query)) in "".join(words(document))
    return f" {' '.join(words(query))} " in f" {' '.join(words(document))} "


def opening(words: Sequence[str]) -> tuple[str, ...]:
    """The first words of a query: `what is`, `how to`."""
    return tuple(words[:OPENING_WORDS])


def words_key(words: Sequence[str]) -> int:
    """A 64-bit hash of words in order."""
    return key64(" ".join(words))


def query_key(text: str) -> int:
    """`words_key` of a text's words; a text without words is split at blanks instead."""
    return words_key(words(text) or text.split())
