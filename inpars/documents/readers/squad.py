"""Read SQuAD's JSON (1.1 and 2.0) as paragraphs with questions, and other JSON as records.

Each paragraph is a record titled by its article. Its questions and the offsets of their answers go into the file's
notes, from which judgements are made. Rajpurkar et al., arXiv 1606.05250 and 1806.03822.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inpars.documents.blocks import Block, FileNotes
from inpars.documents.readers import MAX_BYTES, ReadOptions
from inpars.documents.readers.records import are_json_lines, json_records, record_blocks, text_columns
from inpars.documents.text_files import encoding_of, open_text
from inpars.errors import DataFormatError, UnreadableFileError
from inpars.io.json_text import JsonError, parse_json

NOT_SQUAD = "JSON, but neither SQuAD's form nor a list of records"
EXCERPT_CHARACTERS = 40


@dataclass(frozen=True, slots=True)
class Question:
    """A question about a paragraph; `answers` are (text, offset in the paragraph), empty if unanswerable."""

    question_id: str
    text: str
    paragraph: int  # from 1, within the file
    answers: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Paragraph:
    """One paragraph of an article."""

    number: int  # from 1, within the file
    title: str
    text: str
    questions: tuple[Question, ...]


def read_squad(path: Path) -> list[Paragraph]:
    """All paragraphs of a SQuAD file, gzipped or not. Raises DataFormatError."""
    paragraphs = _squad(_loaded(path, encoding_of(path)), path)
    if paragraphs is None:
        raise DataFormatError(NOT_SQUAD, path=path)
    return paragraphs


def read_json(path: Path, notes: FileNotes, options: ReadOptions) -> Iterator[Block]:
    """SQuAD's paragraphs, a list of records, one record, or a record per line."""
    encoding = encoding_of(path, options.encoding, notes.remarks.append)
    if are_json_lines(path, encoding):
        yield from record_blocks(json_records(path, encoding, notes), path, notes, options)
        return
    content = _loaded(path, encoding)
    paragraphs = _squad(content, path)
    if paragraphs is not None:
        for paragraph in paragraphs:
            notes.questions += [
                {
                    "id": question.question_id,
                    "text": question.text,
                    "record": question.paragraph,
                    "answers": [[start, start + len(text)] for text, start in question.answers],
                }
                for question in paragraph.questions
            ]
            title = " ".join(paragraph.title.replace("_", " ").split())
            yield Block(paragraph.text, 0, record=paragraph.number, title=title)
        return
    whole = [content] if isinstance(content, dict) and text_columns(content, options) else content
    for values in (whole, *(content.values() if isinstance(content, dict) else ())):
        records = [value for value in values if isinstance(value, dict)] if isinstance(values, list) else []
        if records:
            notes.dropped["broken_record"] += len(values) - len(records)
            yield from record_blocks(records, path, notes, options)
            return
    raise UnreadableFileError(NOT_SQUAD, path=path)


def _loaded(path: Path, encoding: str) -> Any:  # noqa: ANN401 - a JSON value
    if path.stat().st_size > MAX_BYTES:
        raise UnreadableFileError(f"larger than {MAX_BYTES >> 20} MB; make JSON lines of it", path=path)
    with open_text(path, encoding) as stream:
        try:
            return parse_json(stream.read())
        except JsonError as error:
            raise UnreadableFileError(str(error), path=path) from None


def _squad(content: Any, path: Path) -> list[Paragraph] | None:  # noqa: ANN401
    articles = content.get("data") if isinstance(content, dict) else None
    if not (isinstance(articles, list) and articles and isinstance(articles[0], dict) and "paragraphs" in articles[0]):
        return None
    paragraphs: list[Paragraph] = []
    try:
        for article in articles:
            for paragraph in article["paragraphs"]:
                number = len(paragraphs) + 1
                questions = tuple(_question(row, number) for row in paragraph.get("qas", ()))
                paragraphs.append(
                    Paragraph(number, _text(article.get("title") or ""), _text(paragraph["context"]), questions)
                )
    except (KeyError, TypeError, AttributeError) as error:
        raise UnreadableFileError(
            f"SQuAD's form, but broken after {len(paragraphs)} paragraphs ({error!r})", path=path
        ) from None
    return paragraphs


def _question(row: dict[str, Any], paragraph: int) -> Question:
    answers = () if row.get("is_impossible") else row.get("answers", ())
    spans = dict.fromkeys((_text(answer["text"]), _whole_number(answer["answer_start"])) for answer in answers)
    return Question(str(row["id"]), row["question"].strip(), paragraph, tuple(spans))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"no text: {repr(value)[:EXCERPT_CHARACTERS]}")
    return value


def _whole_number(value: object) -> int:
    if type(value) is not int:
        raise TypeError(f"no whole number: {repr(value)[:EXCERPT_CHARACTERS]}")
    return value
