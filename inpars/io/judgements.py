"""Read and write judgements: TREC's four columns, BEIR's three with a header, votes as JSON lines.

Every reader gives each query-document pair one grade. Repeated lines count once. Lines that disagree are an error, as
are several subtopics (TREC's second column) of one pair, since our measures ignore subtopics. Only votes, which have
timestamps, replace earlier ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import TypeAlias

from inpars.errors import DataFormatError
from inpars.io.fields import MAX_DIGITS, WHOLE_NUMBER, checked_id, first_present, whole_number
from inpars.io.storage import parse_object, read_lines, write_lines
from inpars.progress import SILENT, Progress
from inpars.records import Qrel, Qrels

GRADE_LIMIT = 1000  # in absolute value: trec_eval's time grows with the square of the highest grade
QRELS_HEADER = "query-id\tcorpus-id\tscore"
QUERY_ID_FIELDS = ("_id", "query_id", "id", "qid")
QUOTE = '"'

Lines: TypeAlias = Iterable[tuple[int, str]]


class Judgements:
    """Collects judgements one by one; `check` reports the conflicts at the end."""

    def __init__(self, source: Path | str, unit: str = "") -> None:
        """Errors name a judgement `source:7`, or `source, unit 7` if the source has no lines."""
        self.qrels: Qrels = {}
        self._source, self._unit = source, unit
        self._usual_subtopic: str | None = None  # the first judgement's
        self._subtopics: dict[tuple[str, str], str] = {}  # of pairs with a different one
        self._problems: dict[tuple[str, str], tuple[int, str]] = {}  # pair -> line number and problem of the first
        self._by_subtopic = False

    def add(self, qrel: Qrel, number: int, subtopic: str = "") -> bool:
        """Add a judgement and return whether it is new; `number` is its line."""
        pair, grades = (qrel.query_id, qrel.doc_id), self.qrels.setdefault(qrel.query_id, {})
        if self._usual_subtopic is None:
            self._usual_subtopic = subtopic
        if qrel.doc_id not in grades:
            grades[qrel.doc_id] = qrel.relevance
            if subtopic != self._usual_subtopic:
                self._subtopics[pair] = subtopic
            return True
        former = self._subtopics.get(pair, self._usual_subtopic)
        if subtopic != former:
            self._by_subtopic = True
            self._problem(pair, number, f"for subtopic {former!r} and for subtopic {subtopic!r} (column 2)")
        elif grades[qrel.doc_id] != qrel.relevance:
            self._problem(pair, number, f"{grades[qrel.doc_id]} before and {qrel.relevance} here")
        return False

    def check(self) -> None:
        """Raise DataFormatError if judgements conflict, with the first conflict and the number of pairs."""
        if not self._problems:
            return
        number, problem = next(iter(self._problems.values()))
        text = f"{problem}; pairs of query and document that are judged in several ways: {len(self._problems)}; "
        text += "merge diversity judgements into one per pair" if self._by_subtopic else "keep one line of each"
        if self._unit:
            raise DataFormatError(text, path=f"{self._source}, {self._unit} {number}")
        raise DataFormatError(text, path=self._source, line=number)

    def _problem(self, pair: tuple[str, str], number: int, grades: str) -> None:
        problem = f"document {pair[1]!r} is judged twice for query {pair[0]!r}, {grades}"
        self._problems.setdefault(pair, (number, problem))


def read_qrels(path: Path, progress: Progress = SILENT) -> Qrels:
    """Judgements of a file in any of the three formats. Raises DataFormatError."""
    judgements = Judgements(path)
    for _ in _collected(path, judgements, progress):
        pass
    return judgements.qrels


def iterate_qrels(path: Path) -> Iterator[Qrel]:
    """Like `read_qrels`, as an iterator; conflicts raise DataFormatError at the end."""
    return _collected(path, Judgements(path), SILENT)


def write_qrels(path: Path, qrels: Qrels) -> int:
    """Write BEIR's three columns with their header and return the number of judgements."""
    return write_lines(path, chain([QRELS_HEADER], map(qrel_row, _each(qrels)))) - 1


def write_named_qrels(path: Path, qrels: Qrels) -> int:
    """Write BEIR's format if the name ends in .tsv, else TREC's; return the number of judgements."""
    if path.name.removesuffix(".gz").endswith(".tsv"):
        return write_qrels(path, qrels)
    return write_lines(path, map(trec_row, _each(qrels)))


def trec_row(qrel: Qrel) -> str:
    """A judgement in TREC's four columns."""
    return f"{qrel.query_id} 0 {qrel.doc_id} {qrel.relevance}"


def _each(qrels: Qrels) -> Iterator[Qrel]:
    return (Qrel(q, d, relevance) for q, judged in qrels.items() for d, relevance in judged.items())


def qrel_row(qrel: Qrel) -> str:
    """A judgement in BEIR's three columns, quoted as csv."""
    return f"{_csv_field(qrel.query_id)}\t{_csv_field(qrel.doc_id)}\t{qrel.relevance}"


def checked_grade(value: object) -> int:
    """A grade from another library. Raises ValueError unless it is a whole number within the limits."""
    if isinstance(value, str) and WHOLE_NUMBER.fullmatch(value) and len(value) <= MAX_DIGITS:
        value = int(value)
    if not isinstance(value, int | float) or value != value // 1 or abs(value) > GRADE_LIMIT:
        raise ValueError(f"relevance must be a whole number from {-GRADE_LIMIT} to {GRADE_LIMIT} (found {value!r:.40})")
    return int(value)


def _collected(path: Path, judgements: Judgements, progress: Progress) -> Iterator[Qrel]:
    """The new judgements, in file order."""
    lines = read_lines(path)
    first = next(lines, None)
    if first is None:
        return
    lines = chain([first], lines)
    if path.name.removesuffix(".gz").endswith(".jsonl") or first[1].startswith("{"):
        yield from _votes(lines, path, judgements, progress)
    else:
        for number, qrel, subtopic in _columns(lines, path):
            if judgements.add(qrel, number, subtopic):
                yield qrel
    judgements.check()


def _columns(lines: Lines, path: Path) -> Iterator[tuple[int, Qrel, str]]:
    """The line number, judgement and subtopic (TREC's second column) of each line."""
    for index, (number, line) in enumerate(lines):
        fields = [field.strip() for field in line.split("\t")] if "\t" in line else line.split()
        if len(fields) == 3:
            fields = [_plain_field(field) for field in fields]
            if index == 0 and not any(character.isdigit() for character in fields[-1]):
                continue  # BEIR's header
        if len(fields) not in (3, 4):
            problem = f"{len(fields)} columns, qrels have 4 (TREC) or 3 (BEIR)"
            raise DataFormatError(problem, path=path, line=number, excerpt=line)
        query_id, doc_id = checked_id(fields[0], path, number), checked_id(fields[-2], path, number)
        yield number, Qrel(query_id, doc_id, _grade(fields[-1], path, number)), fields[1] if len(fields) > 3 else ""


def _votes(lines: Lines, path: Path, judgements: Judgements, progress: Progress) -> Iterator[Qrel]:
    """The judgements of `inpars serve --feedback`: the last vote per pair counts, and null withdraws earlier votes."""
    votes: dict[tuple[str, str], tuple[int, Qrel | None]] = {}
    changed = 0
    for number, line in lines:
        record = parse_object(line, path, number)
        query_id = checked_id(first_present(record, QUERY_ID_FIELDS, path, number), path, number)
        doc_id = checked_id(first_present(record, ("doc_id",), path, number), path, number)
        relevance = record.get("relevance")
        grade_text = str(relevance) if type(relevance) is int else repr(relevance)
        qrel = None if relevance is None else Qrel(query_id, doc_id, _grade(grade_text, path, number))
        if qrel is None or "time" in record:
            changed += votes.get((query_id, doc_id), (0, qrel))[1] != qrel
            votes[query_id, doc_id] = number, qrel
        elif judgements.add(qrel, number):
            yield qrel
    yield from (vote for number, vote in votes.values() if vote is not None and judgements.add(vote, number))
    if changed:
        progress.note(f"{path}: {changed} votes replace an earlier one on the same document; the last vote counts")


def _grade(text: str, path: Path, number: int) -> int:
    return whole_number(text, path, number, field="relevance", least=-GRADE_LIMIT, most=GRADE_LIMIT)


def _csv_field(text: str) -> str:
    """An id as a csv field; only ids that begin with a quote are changed."""
    return QUOTE + text.replace(QUOTE, 2 * QUOTE) + QUOTE if text.startswith(QUOTE) else text


def _plain_field(field: str) -> str:
    """The value of a csv field: without enclosing quotes, and with doubled quotes undone."""
    inner = field[1:-1]
    quoted = len(field) > 1 and field[0] == field[-1] == QUOTE and QUOTE not in inner.replace(2 * QUOTE, "")
    return inner.replace(2 * QUOTE, QUOTE) if quoted else field
