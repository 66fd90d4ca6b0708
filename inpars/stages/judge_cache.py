"""Grades of a local judge kept on the disk beside its output, so that a pool that grows costs only its new pairs.

A grade is known again by all that decides it: model, prompt, settings, and the words of query and document.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from inpars.errors import DataFormatError
from inpars.io.storage import AppendedLines, read_jsonl, to_json_line
from inpars.judging import Graded, Pair

if TYPE_CHECKING:
    from inpars.judging.local import LocalJudge

SUFFIX = ".grades.jsonl"


def grades_path(output: Path) -> Path:
    """Where they lie."""
    return output.with_name(output.name + SUFFIX)


class KeptGrades:
    """A `Judge` in front of a local one."""

    def __init__(self, judge: LocalJudge, path: Path, settings: str) -> None:
        """Read what is there; `settings` is all that decides a grade besides its pair."""
        self._judge, self._path, self._settings = judge, path, settings
        self.name, self.device, self.parameters = judge.name, judge.device, judge.parameters
        self._known = _read(path)

    def plan(self, pairs: Sequence[Pair]) -> list[list[int]]:
        """The judge's, of all pairs: known or not, so that an interrupted stage finds its chunks again."""
        return self._judge.plan(pairs)

    def judge(self, pairs: Sequence[Pair]) -> list[Graded]:
        """Known grades, and the judge's of the other pairs."""
        digests = [self._digest(pair) for pair in pairs]
        new = {digest: pair for digest, pair in zip(digests, pairs, strict=True) if digest not in self._known}
        if new:
            found = dict(zip(new, self._judge.judge(list(new.values())), strict=True))
            with AppendedLines(self._path) as lines:
                lines.append(to_json_line({"pair": digest, **asdict(grade)}) for digest, grade in found.items())
            self._known |= found
        return [self._known[digest] for digest in digests]

    def _digest(self, pair: Pair) -> str:
        parts = (self._settings, pair.query, pair.document.full_text)
        return hashlib.blake2b("".join(f"{len(part)}\0{part}" for part in parts).encode(), digest_size=16).hexdigest()


def _read(path: Path) -> dict[str, Graded]:
    if not path.exists():
        return {}
    AppendedLines(path).close()  # drops a torn last line
    known = {}
    for number, record in read_jsonl(path):
        try:
            digest = record.pop("pair")
            known[digest] = Graded(**record | {"grade_log_probs": tuple(record["grade_log_probs"])})
        except (KeyError, TypeError):
            raise DataFormatError("not a grade; remove this file to grade anew", path=path, line=number) from None
    return known
