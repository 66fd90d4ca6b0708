"""A person grades pairs in the terminal without seeing the model's grades.

Each answer is written to disk before the next pair is shown, in a judgement file that `--qrels` reads.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path

from inpars.io.judgements import read_qrels
from inpars.io.storage import AppendedLines, to_json_line
from inpars.judging import Pair
from inpars.records import Qrels

SUFFIX = ".person.jsonl"
WIDTH = 100
SCALE = {
    "3": "exactly about the query, with the full answer",
    "2": "answers it in part, or the answer is unclear",
    "1": "same topic, no answer",
    "0": "nothing to do with it",
}
SKIP, QUIT = "s", "q"
KEYS = f"0-3, {SKIP} to skip, {QUIT} to stop; answers are kept"


def answers_path(qrels: Path) -> Path:
    """The file of a person's answers, next to the model's qrels."""
    return qrels.with_name(qrels.name + SUFFIX)


def read_answers(path: Path) -> Qrels:
    """A person's answers so far; an incomplete last line is removed from the file."""
    if not path.exists():
        return {}
    AppendedLines(path).close()
    return read_qrels(path)


def ask_person(pairs: Sequence[Pair], path: Path, read_line: Callable[[], str], show: Callable[[str], None]) -> Qrels:
    """Ask about the pairs without an answer, until all have one or input ends; returns all answers, old and new."""
    answers = read_answers(path)
    remaining = [pair for pair in pairs if pair.document.doc_id not in answers.get(pair.query_id, {})]
    with AppendedLines(path) as lines:
        for number, pair in enumerate(remaining, start=len(pairs) - len(remaining) + 1):
            show(_question(pair, number, len(pairs)))
            answer = _answer(read_line, show)
            if answer == QUIT:
                break
            if answer != SKIP:
                relevance, doc_id = int(answer), pair.document.doc_id
                lines.append([to_json_line({"query_id": pair.query_id, "doc_id": doc_id, "relevance": relevance})])
                answers.setdefault(pair.query_id, {})[doc_id] = relevance
    return answers


def _answer(read_line: Callable[[], str], show: Callable[[str], None]) -> str:
    """A grade, SKIP or QUIT; end of input counts as QUIT."""
    allowed = (*SCALE, SKIP, QUIT)
    while True:
        show(f"grade ({KEYS}): ")
        line = read_line()
        if not line:
            return QUIT
        if (answer := line.strip().lower()) in allowed:
            return answer
        show(f"{line.strip()!r} is none of {', '.join(allowed)}\n")


def _question(pair: Pair, number: int, total: int) -> str:
    text = "\n".join(textwrap.fill(line, WIDTH) for line in pair.document.full_text.splitlines())
    grades = "\n".join(f"  {grade}  {meaning}" for grade, meaning in SCALE.items())
    return f"\n[{number} of {total}]\nquery: {pair.query}\n\n{text}\n\n{grades}\n"
