"""Questions and answers from tables, JSON lines, or pages whose headings are questions.

On a page (Markdown, HTML, reStructuredText, docx) a heading that ends with a question mark is a question, and so is
bold text at the start of a line that does; the text up to the next question is its answer.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from inpars.documents.blocks import Block, FileNotes, clean
from inpars.documents.readers import DOCX, HTML, MARKDOWN, RST, ReadOptions, kind_of
from inpars.errors import ConfigError
from inpars.io.fields import checked_id, text_of
from inpars.io.record_files import read_records, records_form
from inpars.io.tables import RecordSchema
from inpars.pairs.records import is_blank
from inpars.records import Document
from inpars.text.words import words, words_key

QUESTIONS = ("question", "query", "q", "title")
ANSWERS = ("answer", "answers", "a", "response", "text")
DOC_IDS = ("doc_id", "answer_id", "docid", "document_id")
COLUMNS = RecordSchema("questions and answers", QUESTIONS, ANSWERS, DOC_IDS, ("question", "answer", "doc_id"))
QUESTION_MARKS = ("?", "\uff1f", "\u061f")
PAGES = (MARKDOWN, HTML, RST, DOCX)
_BOLD = re.compile(r"^[ \t]*(?:[-+*][ \t]+|\d{1,9}[.)][ \t]+)?(\*\*|__)(?P<text>\S[^\n]*?\?)\1", re.MULTILINE)
SPAN = 8  # words; shorter texts match only if equal


@dataclass(frozen=True, slots=True)
class QuestionAnswer:
    """A question and its answer."""

    question: str
    answer: str
    doc_id: str | None  # if the file names one
    source: str  # file, and line if it has lines


def read_faq(path: Path, dropped: Counter[str]) -> Iterator[QuestionAnswer]:
    """Questions in file order. Raises DataFormatError, and ConfigError for a page without questions."""
    kind = kind_of(path, ReadOptions())
    if kind in PAGES and kind is not None:
        count = 0
        for count, pair in enumerate(_of_page(kind.read(path, FileNotes(), ReadOptions()), path), start=1):  # noqa: B007
            yield pair
        if not count:
            raise ConfigError(f"{path}: no heading or bold text is a question; --headings uses all headings")
        return
    for number, record in read_records(path, records_form(path, COLUMNS), COLUMNS):
        values = {name: value for name, value in record.items() if not is_blank(value)}
        if values.keys().isdisjoint(QUESTIONS) or values.keys().isdisjoint(ANSWERS):
            dropped["empty"] += 1
            continue
        doc_id = next((values[name] for name in DOC_IDS if name in values), None)
        yield QuestionAnswer(
            " ".join(text_of(values, QUESTIONS, path, number).split()),
            text_of(values, ANSWERS, path, number),
            None if doc_id is None else checked_id(doc_id, path, number),
            f"{path.name}:{number}",
        )


def _of_page(blocks: Iterator[Block], path: Path) -> Iterator[QuestionAnswer]:
    for heading, section in groupby(blocks, key=lambda block: block.headings[-1] if block.headings else ""):
        question, answer = heading if heading.rstrip().endswith(QUESTION_MARKS) else "", list[str]()
        for block in section:
            end = 0
            for bold in _BOLD.finditer(block.text) if block.markup == "markdown" else ():
                answer.append(clean(block.text[end : bold.start()], block.markup))
                yield from _pair(question, answer, path)
                question, answer, end = clean(bold["text"], block.markup), [], bold.end()
            answer.append(clean(block.text[end:], block.markup))
        yield from _pair(question, answer, path)


def _pair(question: str, answer: list[str], path: Path) -> Iterator[QuestionAnswer]:
    text = "\n".join(filter(None, answer))
    if question and text:
        yield QuestionAnswer(question, text, None, path.name)


def match_answers(answers: Sequence[str], documents: Iterable[Document]) -> list[dict[str, int]]:
    """Graded documents per answer: a document with the same words, else those that contain it or that it contains."""
    grades_of: list[dict[str, int]] = [{} for _ in answers]
    texts = [words(answer) for answer in answers]
    whole = _index((number, [text]) for number, text in enumerate(texts))
    starts = _index((number, [text[:SPAN]]) for number, text in enumerate(texts) if len(text) >= SPAN)
    inside = _index((number, _spans(text)) for number, text in enumerate(texts))
    for document in documents:
        for text in {words(document.text), words(document.full_text)}:
            for number in whole.get(words_key(text), ()) if text else ():
                grades_of[number][document.doc_id] = 2
            if len(text) < SPAN:
                continue
            parts = {n for n in inside.get(words_key(text[:SPAN]), ()) if _holds(texts[n], text)}
            holders = {n for span in _spans(text) for n in starts.get(words_key(span), ()) if _holds(text, texts[n])}
            for number in parts | holders:
                grades_of[number].setdefault(document.doc_id, 1)
    # a document equal to the answer (2 so far) excludes the others; every remaining grade is 1
    equal = [{doc_id: 1 for doc_id, grade in grades.items() if grade == 2} for grades in grades_of]
    return [same or grades for same, grades in zip(equal, grades_of, strict=True)]


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
