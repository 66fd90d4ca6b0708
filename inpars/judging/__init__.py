"""Relevance judgements by a language model: who grades, and what a pair and its grade are. Loads no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from inpars.records import Document

JudgeBackend: TypeAlias = Literal["causal", "completions", "chat"]


@dataclass(frozen=True, slots=True)
class Pair:
    """A query and a document that a run found for it."""

    query_id: str
    query: str
    document: Document

    @property
    def key(self) -> str:
        """Query and document by their ids, none of which holds a tab."""
        return f"{self.query_id}\t{self.document.doc_id}"


@dataclass(frozen=True, slots=True)
class Graded:
    """What a model says of a pair.

    `log_prob` is the natural log of the grade's probability under the model's raw distribution, None where the model
    gave none; `grade_log_probs` are those of 0, 1, 2 and 3 where all are known. Without a `grade`, `problem` says why.
    """

    grade: int | None
    log_prob: float | None = None
    grade_log_probs: tuple[float, ...] = ()
    reason: str = ""
    problem: str = ""


class Judge(Protocol):
    """Grades pairs. What it says of a pair depends on that pair alone."""

    name: str
    device: str  # for manifests

    def plan(self, pairs: Sequence[Pair]) -> list[list[int]]:
        """Positions of the pairs in chunks that are graded and stored as wholes, in order."""

    def judge(self, pairs: Sequence[Pair]) -> list[Graded]:
        """The grades of one chunk's pairs."""
