"""Which documents of a corpus are an answer, or a passage of it, or hold it: by their words, in one pass.

A document is found by the first `SPAN` words of the shorter of the two; then all of its words are compared. Answers are
in memory, documents are not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from inpars.records import Document
from inpars.text.words import words, words_key

SPAN = 8  # words; shorter texts have to be equal


def match_answers(answers: Sequence[str], documents: Iterable[Document]) -> list[dict[str, int]]:
    """For each answer the documents with grades: 2 for the same words, 1 for a part or what holds it."""
    grades_of: list[dict[str, int]] = [{} for _ in answers]
    texts = [words(answer) for answer in answers]
    whole = _index((number, [text]) for number, text in enumerate(texts))
    starts = _index((number, [text[:SPAN]]) for number, text in enumerate(texts) if len(text) >= SPAN)
    inside = _index((number, _spans(text)) for number, text in enumerate(texts))
    for document in documents:
        for text in {words(document.text), words(document.full_text)}:
            same = whole.get(words_key(text), ()) if text else ()
            for number in same:
                grades_of[number][document.doc_id] = 2
            if len(text) < SPAN:
                continue
            parts = {n for n in inside.get(words_key(text[:SPAN]), ()) if _holds(texts[n], text)}
            holders = {n for span in _spans(text) for n in starts.get(words_key(span), ()) if _holds(text, texts[n])}
            for number in parts | holders:
                grades_of[number].setdefault(document.doc_id, 1)
    return [_best(grades) for grades in grades_of]


def _best(grades: dict[str, int]) -> dict[str, int]:
    """Where a document is the answer itself, that alone; all are of grade 1 then."""
    equal = {doc_id: 1 for doc_id, grade in grades.items() if grade == 2}
    return equal or grades


def _index(spans: Iterable[tuple[int, Iterable[Sequence[str]]]]) -> dict[int, list[int]]:
    index: dict[int, list[int]] = {}
    for number, several in spans:
        for span in several:
            index.setdefault(words_key(span), []).append(number)
    return index


def _spans(text: Sequence[str]) -> Iterator[Sequence[str]]:
    return (text[start : start + SPAN] for start in range(len(text) - SPAN + 1))


def _holds(text: Sequence[str], part: Sequence[str]) -> bool:
    return f" {' '.join(part)} " in f" {' '.join(text)} "
