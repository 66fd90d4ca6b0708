"""What models of one kind have in common for those that use them; importing this loads none."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

ScoredPart: TypeAlias = Sequence[tuple[int, float]]
"""Positions of pairs, and their scores."""


class PairScorer(Protocol):
    """Gives each (query text, document text) pair a relevance score; higher is better."""

    name: str

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """Float32 margins, unbounded, in the order of the pairs; comparable within one query."""


class PartScorer(PairScorer, Protocol):
    """A scorer that hands over its scores while it still computes others."""

    def score_in_parts(self, pairs: Sequence[tuple[str, str]], positions: Collection[int]) -> Iterator[ScoredPart]:
        """The scores of the pairs at the `positions` positions, and perhaps of others, batch by batch.

        Batches are planned over all pairs, so that a score does not depend on `positions`.
        """


class TextEncoder(Protocol):
    """Embeds texts, as `retrieval.dense.Encoder` does."""

    name: str

    def encode_queries(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Embeddings, (texts, width)."""

    def encode_documents(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Embeddings, (texts, width)."""


def score_in_parts(
    scorer: PairScorer, pairs: Sequence[tuple[str, str]], positions: Collection[int]
) -> Iterator[ScoredPart]:
    """As `PartScorer.score_in_parts`; one part with all scores where the scorer gives no parts."""
    in_parts = getattr(scorer, "score_in_parts", None)
    if in_parts is not None:
        yield from in_parts(pairs, positions)
        return
    yield list(enumerate(scorer.score(pairs)))


def score_all(scorer: PartScorer, pairs: Sequence[tuple[str, str]]) -> list[float]:
    """The scores in the order of the pairs."""
    scores = [0.0] * len(pairs)
    for part in scorer.score_in_parts(pairs, range(len(pairs))):
        for position, score in part:
            scores[position] = score
    return scores
