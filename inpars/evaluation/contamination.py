"""Detect test queries that occur in a prompt's examples or in training data, and tests that a model wrote.

Two queries are the same if they have the same words in the same order, and similar if they share four fifths of their
words and word pairs (MinHash, see `text.minhash`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from inpars.filtering.known_queries import KnownQueries
from inpars.records import Qrels
from inpars.text.minhash import sketch_queries
from inpars.text.words import words, words_key

SIMILAR = 0.8
NUMBERED_BY_GPL = re.compile(r"genQ\d+")


@dataclass(frozen=True, slots=True)
class Overlap:
    """Test queries that also occur in `source`."""

    source: str
    known: int  # number of source queries
    tested: int  # number of test queries
    same: tuple[str, ...]  # query_ids
    similar: tuple[str, ...]  # query_ids, excluding `same`

    @property
    def query_ids(self) -> tuple[str, ...]:
        """Same and similar queries."""
        return self.same + self.similar


def overlap(source: str, known: Collection[str], tested: Mapping[str, str]) -> Overlap:
    """Find the test queries (query_id -> text) that also occur in `known`."""
    query_words = {query_id: words(text) for query_id, text in tested.items()}
    keys = {query_id: words_key(parts) for query_id, parts in query_words.items()}
    known_keys = {words_key(words(text)) for text in known}
    resembled = KnownQueries(known, SIMILAR).resembled(
        np.array(list(keys.values()), dtype=np.uint64), sketch_queries(list(query_words.values()))
    )
    same = tuple(query_id for query_id, key in keys.items() if key in known_keys)
    similar = tuple(
        query_id for query_id, near in zip(keys, resembled, strict=True) if near and keys[query_id] not in known_keys
    )
    return Overlap(source, len(known), len(tested), same, similar)


def is_synthetic(qrels: Qrels) -> bool:
    """Whether all query ids look machine-made: derived from the only relevant document's id, or numbered as in GPL."""
    return bool(qrels) and all(_named_by_machine(query_id, grades) for query_id, grades in qrels.items())


def _named_by_machine(query_id: str, grades: Mapping[str, int]) -> bool:
    relevant = [doc_id for doc_id, grade in grades.items() if grade > 0]
    if len(relevant) != 1:
        return False
    number = query_id.removeprefix(f"{relevant[0]}-q")
    return (number != query_id and number.isdecimal()) or NUMBERED_BY_GPL.fullmatch(query_id) is not None
