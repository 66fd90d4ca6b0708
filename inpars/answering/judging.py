"""Exact match and F1 of answers as SQuAD defines them (Rajpurkar et al., 2016 and 2018).

An unanswerable question has the empty text as its only right answer.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def exact_match(answer: str, right: Sequence[str]) -> float:
    """1 where the answer equals a right one but for case, punctuation, articles and blanks."""
    return float(any(answer_words(answer) == answer_words(other) for other in right or [""]))


def f1(answer: str, right: Sequence[str]) -> float:
    """The highest harmonic mean of precision and recall over words with any right answer."""
    return max(_overlap(answer_words(answer), answer_words(other)) for other in right or [""])


def answer_words(text: str) -> list[str]:
    """The words that count."""
    return _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split()


def _overlap(said: Sequence[str], right: Sequence[str]) -> float:
    if not said or not right:
        return float(said == right)
    common = sum((Counter(said) & Counter(right)).values())
    return 2 * common / (len(said) + len(right))
