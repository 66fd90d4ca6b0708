"""A person grades pairs in a terminal, one after the other, without being told what the model said.

Every answer is on the disk before the next pair is shown. Answers are a file of judgements that `--qrels` reads.
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
    """Where a person's answers about some qrels lie."""
    return qrels.with_name(qrels.name + SUFFIX)


def read_answers(path: Path) -> Qrels:
    """What a person answered so far; a torn last line is dropped."""
    if not path.exists():
        return {}
    AppendedLines(path).close()
    return read_qrels(path)


def ask_person(pairs: Sequence[Pair], path: Path, read_line: Callable[[], str], show: Callable[[str], None]) -> Qrels:
    """Ask about the pairs that have no answer yet, until all have one or there is no more input; all answers so far."""
    known = read_answers(path)
    left = [pair for pair in pairs if pair.document.doc_id not in known.get(pair.query_id, {})]
    with AppendedLines(path) as lines:
        for number, pair in enumerate(left, start=len(pairs) - len(left) + 1):
            show(_shown(pair, number, len(pairs)))
            answer = _answer(read_line, show)
            if answer == QUIT:
                break
            if answer != SKIP:
                relevance, doc_id = int(answer), pair.document.doc_id
                lines.append([to_json_line({"query_id": pair.query_id, "doc_id": doc_id, "relevance": relevance})])
                known.setdefault(pair.query_id, {})[doc_id] = relevance
    return known


def _answer(read_line: Callable[[], str], show: Callable[[str], None]) -> str:
    """A grade, skip or quit; the end of the input is quit."""
    allowed = (*SCALE, SKIP, QUIT)
    while True:
        show(f"grade ({KEYS}): ")
        line = read_line()
        if not line:
            return QUIT
        if (answer := line.strip().lower()[:1]) in allowed and len(line.strip()) == 1:
            return answer
        show(f"{line.strip()!r} is none of {', '.join(allowed)}\n")


def _shown(pair: Pair, number: int, total: int) -> str:
    text = "\n".join(textwrap.fill(line, WIDTH) for line in pair.document.full_text.splitlines())
    grades = "\n".join(f"  {grade}  {meaning}" for grade, meaning in SCALE.items())
    return f"\n[{number} of {total}]\nquery: {pair.query}\n\n{text}\n\n{grades}\n"
