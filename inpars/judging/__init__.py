"""Relevance judgements by a language model: the judge protocol, pairs and grades. Importing it loads no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from inpars.records import Document

JudgeBackend: TypeAlias = Literal["causal", "completions", "chat"]


@dataclass(frozen=True, slots=True)
class Pair:
    """A query and a document that a run retrieved for it."""

    query_id: str
    query: str
    document: Document

    @property
    def key(self) -> str:
        """Both ids, joined by a tab, which no id contains."""
        return f"{self.query_id}\t{self.document.doc_id}"


@dataclass(frozen=True, slots=True)
class Graded:
    """A model's grade for one pair.

    `log_prob` is the natural log of the grade's probability under the model's raw distribution, or None;
    `grade_log_probs` are those of grades 0 to 3, if all are known. If `grade` is None, `problem` says why.
    """

    grade: int | None
    log_prob: float | None = None
    grade_log_probs: tuple[float, ...] = ()
    reason: str = ""
    problem: str = ""


class Judge(Protocol):
    """Grades pairs, each independently of the others."""

    name: str
    device: str  # for manifests

    def plan(self, pairs: Sequence[Pair]) -> list[list[int]]:
        """Positions of the pairs in chunks; each chunk is graded and stored as a whole, in this order."""

    def judge(self, pairs: Sequence[Pair]) -> list[Graded]:
        """The grades of one chunk's pairs."""
