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
    """1 if the answer equals a right one up to case, punctuation, articles and whitespace, else 0."""
    return float(any(_answer_words(answer) == _answer_words(other) for other in right or [""]))


def f1(answer: str, right: Sequence[str]) -> float:
    """The highest F1 over words with any right answer."""
    return max(_overlap(_answer_words(answer), _answer_words(other)) for other in right or [""])


def _answer_words(text: str) -> list[str]:
    return _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split()


def _overlap(given: Sequence[str], right: Sequence[str]) -> float:
    if not given or not right:
        return float(given == right)
    common = sum((Counter(given) & Counter(right)).values())
    return 2 * common / (len(given) + len(right))


def best_threshold(scored_answers: Sequence[tuple[float, str, Sequence[str]]]) -> float:
    """The score from which to answer for the highest mean F1 over (score, answer, right answers) per question.

    Below the threshold the answer is the empty text. Rajpurkar et al., 2018, choose it in the same way.
    """
    order = sorted(scored_answers, key=lambda entry: -entry[0])
    value, best, limit = 0.0, float("-inf"), 0.0  # `value`: sum of F1 gains over not answering
    for index, (score, answer, right) in enumerate(order):
        value += f1(answer, right) - f1("", right)
        if value > best and (index + 1 == len(order) or order[index + 1][0] < score):
            best, limit = value, score
    return limit
