"""A query of people before it is a record of the file: its kind, its documents with grades, and where it stands.

Knows nothing of files. The same words count once, whatever they were found in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

from inpars.records import PEOPLE, SyntheticQuery
from inpars.text.hashing import hex_key
from inpars.text.words import words

PairKind: TypeAlias = Literal["vote", "click", "faq", "heading", "title"]
ID_DIGITS = 16


@dataclass(frozen=True, slots=True)
class Pair:
    """A query with the documents that answer it, the best first; `about` is what the output says of it besides."""

    text: str
    kind: PairKind
    grades: Mapping[str, int]
    about: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def query(self) -> SyntheticQuery:
        """The record, whose id is the same for the same words of a kind."""
        best = max(self.grades, key=self.grades.__getitem__)  # the first of equals
        plain = len(self.grades) == 1 and self.grades[best] == 1
        return SyntheticQuery(
            query_id=f"{self.kind}-{hex_key(' '.join(_key(self.text)), digits=ID_DIGITS)}",
            doc_id=best,
            text=self.text,
            token_log_probs=(),
            stop_log_prob=None,
            finish_reason="stop",
            log_prob_kind="absent",
            prompt=self.kind,
            model=PEOPLE,
            grades={} if plain else self.grades,
        )


def united(pairs: Iterable[Pair], dropped: Counter[str]) -> list[Pair]:
    """Pairs of the same words as one with the documents of all, in the order of the first; the others are counted."""
    merged: dict[tuple[str, ...], Pair] = {}
    for pair in pairs:
        first = merged.setdefault(_key(pair.text), pair)
        if first is pair:
            continue
        dropped["duplicate"] += 1
        grades = dict(first.grades)
        for doc_id, grade in pair.grades.items():
            grades[doc_id] = max(grade, grades.get(doc_id, grade))
        merged[_key(pair.text)] = replace(first, grades=grades)
    return list(merged.values())


def _key(text: str) -> tuple[str, ...]:
    return words(text) or tuple(text.split())
