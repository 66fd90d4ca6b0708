"""Choose the documents to generate queries for: a uniform sample that does not depend on the corpus order.

Each document gets a key from (seed, doc_id), and the smallest keys form the sample, so a growing corpus changes it
little. Of near-duplicates the one with the smallest key is kept. Memory: two numbers per eligible document; documents
of a corpus on disk are read on access.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from inpars.errors import ConfigError
from inpars.io.corpus import Corpus, SelectedDocuments
from inpars.records import Document
from inpars.text.hashing import sampling_key
from inpars.text.minhash import NearDuplicates

CANDIDATES = 10  # documents offered to `pick` per document to pick


@dataclass(frozen=True, slots=True)
class Selection:
    """The chosen documents in corpus order, and the counts of dropped documents by reason."""

    documents: Sequence[Document]
    dropped: Counter[str] = field(default_factory=Counter)


def choose_documents(
    documents: Corpus | Sequence[Document],
    *,
    maximum: int | None,
    minimum_characters: int = 0,
    seed: int = 0,
    doc_ids: Sequence[str] | None = None,
    examples: Collection[str] = (),
    skip_near_duplicates: bool = False,
    pick: Callable[[Sequence[Document], int], Sequence[int]] | None = None,
) -> Selection:
    """Draw up to `maximum` documents uniformly without replacement; all of them if it is None.

    Excluded are documents shorter than `minimum_characters` or empty (`too_short`), the prompt's worked `examples`, and
    all but `doc_ids` if given. `pick` gets `CANDIDATES` documents per wanted one and returns the chosen positions.
    Raises ConfigError if one of `doc_ids` is not in the corpus.
    """
    drawn = maximum is not None or skip_near_duplicates
    positions, dropped = _by_key(documents, seed, minimum_characters, doc_ids, examples, drawn=drawn)
    ordered = documents.in_file_order() if isinstance(documents, Corpus) else documents
    if pick is not None and maximum is not None and len(positions) > maximum:
        offered = np.sort(positions[: CANDIDATES * maximum])
        picked = pick(SelectedDocuments(ordered.__getitem__, offered), maximum)
        dropped["not_sampled"] = len(positions) - maximum
        return Selection(SelectedDocuments(ordered.__getitem__, offered[np.sort(np.asarray(picked))]), +dropped)
    chosen = positions[:maximum]
    if skip_near_duplicates:
        chosen, examined = _without_near_duplicates(positions, ordered, maximum)
        dropped["near_duplicate"] = examined - len(chosen)
        dropped["not_sampled"] = len(positions) - examined
    else:
        dropped["not_sampled"] = len(positions) - len(chosen)
    return Selection(SelectedDocuments(ordered.__getitem__, np.sort(chosen)), +dropped)


Positions: TypeAlias = npt.NDArray[np.int64]


def _by_key(
    documents: Corpus | Sequence[Document],
    seed: int,
    minimum_characters: int,
    doc_ids: Sequence[str] | None,
    examples: Collection[str],
    *,
    drawn: bool,
) -> tuple[Positions, Counter[str]]:
    """The positions of eligible documents, by key if some are drawn, and the counts of others by reason."""
    dropped: Counter[str] = Counter()
    keys, positions = array("Q"), array("q")
    listed, unseen = set(doc_ids or ()), dict.fromkeys(doc_ids or ())
    for position, document in enumerate(documents):
        unseen.pop(document.doc_id, None)
        if doc_ids is not None and document.doc_id not in listed:
            dropped["not_listed"] += 1
        elif document.doc_id in examples:
            dropped["prompt_example"] += 1
        elif len(document.full_text.strip()) < max(1, minimum_characters):
            dropped["too_short"] += 1
        else:
            positions.append(position)
            if drawn:
                keys.append(sampling_key(seed, document.doc_id))
    if unseen:
        raise ConfigError(
            f"{len(unseen)} of {len(listed)} ids of --doc-ids are not in the corpus, {next(iter(unseen))!r} first; "
            "check that list and corpus belong together"
        )
    in_order = np.frombuffer(positions, dtype=np.int64)
    return in_order[np.argsort(np.frombuffer(keys, dtype=np.uint64), kind="stable")] if drawn else in_order, dropped


def _without_near_duplicates(
    positions: Positions, documents: Sequence[Document], maximum: int | None
) -> tuple[Positions, int]:
    """The first `maximum` positions without near-duplicates, and how many were examined."""
    chosen: list[int] = []
    seen, examined = NearDuplicates(), 0
    for position in positions.tolist():
        if len(chosen) == maximum:
            break
        examined += 1
        if seen.add(documents[position].full_text):
            chosen.append(position)
    return np.array(chosen, dtype=np.int64), examined
