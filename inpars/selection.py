"""Which documents a model writes queries for: a uniform sample that does not depend on the corpus' order.

Every document gets a key from (seed, doc_id); the smallest keys are the sample. Memory for the sample only, and a
corpus that grows changes the sample little. Of near-duplicates the one with the smallest key stays.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from inpars.errors import ConfigError
from inpars.near_duplicates import NearDuplicates
from inpars.records import Document

SPARE = 2  # so many times the sample is looked at first where near-duplicates may leave it


@dataclass(frozen=True, slots=True)
class Selection:
    """The chosen documents in the order of the corpus, and how many were left out for which reason."""

    documents: list[Document]
    dropped: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which documents may be chosen at all.

    `doc_ids` are the only ones where given; `examples` are documents of the prompt's worked examples, never chosen.
    """

    minimum_characters: int = 0
    doc_ids: Sequence[str] | None = None
    examples: Collection[str] = ()

    def why_not(self, document: Document, listed: Collection[str]) -> str | None:
        """Why the document is left out; None where it may be chosen."""
        if self.doc_ids is not None and document.doc_id not in listed:
            return "not_listed"
        if document.doc_id in self.examples:
            return "prompt_example"
        return "too_short" if len(document.full_text.strip()) < max(1, self.minimum_characters) else None


def choose_documents(
    documents: Collection[Document],
    *,
    maximum: int | None,
    minimum_characters: int = 0,
    seed: int = 0,
    doc_ids: Sequence[str] | None = None,
    examples: Collection[str] = (),
    skip_near_duplicates: bool = False,
) -> Selection:
    """Up to `maximum` documents, uniformly at random without replacement; all of them where it is None.

    Documents with less text than `minimum_characters`, or with none, are never chosen (`too_short`), nor are those of
    the `examples`. Raises ConfigError for one of `doc_ids` that is not among the documents.
    """
    wanted = Wanted(minimum_characters, doc_ids, examples)
    if not skip_near_duplicates:
        pool, dropped = _smallest_keys(documents, wanted, maximum, seed)
        return Selection(_in_order(pool), dropped)
    size = None if maximum is None else maximum * SPARE
    while True:
        pool, dropped = _smallest_keys(documents, wanted, size, seed)
        kept, near = _without_near_duplicates(pool, maximum)
        if size is None or len(kept) == maximum or not dropped["not_sampled"]:
            break
        size *= SPARE
    dropped["near_duplicate"] = near
    dropped["not_sampled"] += len(pool) - len(kept) - near
    return Selection(_in_order(kept), +dropped)


def sampling_key(seed: int, record_id: str) -> int:
    """A 64-bit number that looks random and depends on nothing but the seed and the id."""
    return int.from_bytes(hashlib.blake2b(f"{seed}\0{record_id}".encode(), digest_size=8).digest(), "big")


_Entry = tuple[int, int, Document]  # negated key, position, document: the largest key on top of a heap


def _smallest_keys(
    documents: Collection[Document], wanted: Wanted, maximum: int | None, seed: int
) -> tuple[list[_Entry], Counter[str]]:
    """The `maximum` documents with the smallest keys, and why the others were left out."""
    dropped: Counter[str] = Counter()
    sample: list[_Entry] = []
    listed, unseen = set(wanted.doc_ids or ()), dict.fromkeys(wanted.doc_ids or ())
    for position, document in enumerate(documents):
        unseen.pop(document.doc_id, None)
        reason = wanted.why_not(document, listed)
        if reason is not None:
            dropped[reason] += 1
            continue
        entry = (-sampling_key(seed, document.doc_id), position, document)
        if maximum is None or len(sample) < maximum:
            heapq.heappush(sample, entry)
        else:
            heapq.heappushpop(sample, entry)
            dropped["not_sampled"] += 1
    if unseen:
        raise ConfigError(
            f"{len(unseen)} of {len(listed)} ids of --doc-ids are not in the corpus, {next(iter(unseen))!r} first; "
            "check that list and corpus belong together"
        )
    return sample, dropped


def _without_near_duplicates(pool: Sequence[_Entry], maximum: int | None) -> tuple[list[_Entry], int]:
    """The first `maximum` by key that resemble none before them, and how many were passed over."""
    kept: list[_Entry] = []
    seen, near = NearDuplicates(), 0
    for entry in sorted(pool, key=lambda entry: (-entry[0], entry[2].doc_id)):
        if maximum is not None and len(kept) == maximum:
            break
        if seen.add(entry[2].full_text):
            kept.append(entry)
        else:
            near += 1
    return kept, near


def _in_order(entries: Sequence[_Entry]) -> list[Document]:
    return [document for _, _, document in sorted(entries, key=lambda entry: entry[1])]
