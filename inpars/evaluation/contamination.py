"""Whether test queries were seen before: among a prompt's examples, or among the queries a model was trained on.

Also whether a test was written by a model. A query is the same where its words are, in their order, and similar where
four fifths of its words and word pairs are shared (MinHash, see `text.minhash`).
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
    known: int  # queries of the source
    tested: int  # queries of the test
    same: tuple[str, ...]  # query_ids
    similar: tuple[str, ...]  # query_ids, without the same ones

    @property
    def query_ids(self) -> tuple[str, ...]:
        """All of them."""
        return self.same + self.similar


def overlap(source: str, known: Collection[str], tested: Mapping[str, str]) -> Overlap:
    """Which test queries (query_id -> text) are in a collection of texts."""
    query_words = {query_id: words(text) for query_id, text in tested.items()}
    keys = {query_id: words_key(parts) for query_id, parts in query_words.items()}
    known_keys = {words_key(words(text)) for text in known}
    resembled = KnownQueries(known, SIMILAR).resembled(
        np.array(list(keys.values()), dtype=np.uint64), sketch_queries(list(query_words.values()))
    )
    same = tuple(query_id for query_id, key in keys.items() if key in known_keys)
    near = tuple(query_id for query_id, near in zip(keys, resembled, strict=True) if near)
    return Overlap(source, len(known), len(tested), same, tuple(q for q in near if keys[q] not in known_keys))


def is_synthetic(qrels: Qrels) -> bool:
    """Whether every query is named after its only relevant document, or as GPL names them: a model wrote them all."""
    return bool(qrels) and all(_named_by_machine(query_id, grades) for query_id, grades in qrels.items())


def _named_by_machine(query_id: str, grades: Mapping[str, int]) -> bool:
    relevant = [doc_id for doc_id, grade in grades.items() if grade > 0]
    if len(relevant) != 1:
        return False
    number = query_id.removeprefix(f"{relevant[0]}-q")
    return (number != query_id and number.isdecimal()) or NUMBERED_BY_GPL.fullmatch(query_id) is not None
