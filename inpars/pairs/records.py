"""A query from people (title, FAQ, click, vote) and its graded documents, before it becomes a record.

Queries with the same words are merged, whatever their source.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

from inpars.io.fields import is_gap
from inpars.records import PEOPLE, SyntheticQuery
from inpars.text.hashing import hex_key
from inpars.text.words import words

PairKind: TypeAlias = Literal["vote", "click", "faq", "heading", "title"]
ID_DIGITS = 16


@dataclass(frozen=True, slots=True)
class Pair:
    """A query with the documents that answer it, best first; `about` holds further fields for the output."""

    text: str
    kind: PairKind
    grades: Mapping[str, int]
    about: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def query(self) -> SyntheticQuery:
        """The record; its id depends on the kind and the words alone."""
        best = max(self.grades, key=self.grades.__getitem__)  # the first on ties
        plain = len(self.grades) == 1 and self.grades[best] == 1
        return SyntheticQuery(
            query_id=f"{self.kind}-{hex_key(' '.join(text_key(self.text)), digits=ID_DIGITS)}",
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
    """Merge pairs with the same words, in order of first occurrence; the highest grade per document wins."""
    merged: dict[tuple[str, ...], Pair] = {}
    for pair in pairs:
        key = text_key(pair.text)
        first = merged.setdefault(key, pair)
        if first is pair:
            continue
        dropped["duplicate"] += 1
        grades = dict(first.grades)
        for doc_id, grade in pair.grades.items():
            grades[doc_id] = max(grade, grades.get(doc_id, grade))
        merged[key] = replace(first, grades=grades)
    return list(merged.values())


def is_blank(value: object) -> bool:
    """Whether a field is null, NaN or blank text."""
    return is_gap(value) or (isinstance(value, str) and not value.strip())


def text_key(text: str) -> tuple[str, ...]:
    """What makes two queries the same: their words, or for queries without any, their tokens."""
    return words(text) or tuple(text.split())
