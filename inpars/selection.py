"""Which documents a model writes queries for: a uniform sample that does not depend on the corpus' order.

Every document gets a key from (seed, doc_id); the smallest keys are the sample. One pass, memory for the sample only,
and a corpus that grows changes the sample little.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from inpars.records import Document


@dataclass(frozen=True, slots=True)
class Selection:
    """The chosen documents in the order of the corpus, and how many were left out for which reason."""

    documents: list[Document]
    dropped: Counter[str] = field(default_factory=Counter)


def choose_documents(
    documents: Iterable[Document],
    *,
    maximum: int | None,
    minimum_characters: int = 0,
    seed: int = 0,
) -> Selection:
    """Up to `maximum` documents, uniformly at random without replacement; all of them where it is None.

    Documents with less text than `minimum_characters`, or with none, are never chosen (`too_short`).
    """
    dropped: Counter[str] = Counter()
    sample: list[tuple[int, int, Document]] = []  # (negated key, position, document): the largest key on top
    for position, document in enumerate(documents):
        if len(document.full_text.strip()) < max(1, minimum_characters):
            dropped["too_short"] += 1
            continue
        entry = (-sampling_key(seed, document.doc_id), position, document)
        if maximum is None or len(sample) < maximum:
            heapq.heappush(sample, entry)
        else:
            heapq.heappushpop(sample, entry)
            dropped["not_sampled"] += 1
    return Selection([document for _, _, document in sorted(sample, key=lambda entry: entry[1])], dropped)


def sampling_key(seed: int, record_id: str) -> int:
    """A 64-bit number that looks random and depends on nothing but the seed and the id."""
    return int.from_bytes(hashlib.blake2b(f"{seed}\0{record_id}".encode(), digest_size=8).digest(), "big")
