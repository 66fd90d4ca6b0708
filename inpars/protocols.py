"""Interfaces of models. Loads none."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

ScoredPart: TypeAlias = Sequence[tuple[int, float]]
"""(position of a pair, score)."""


class PairScorer(Protocol):
    """Scores the relevance of (query text, document text) pairs; higher is better."""

    name: str

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """Unbounded float32 scores in the order of the pairs; comparable within a query."""


class PartScorer(PairScorer, Protocol):
    """A scorer that yields scores batch by batch."""

    def score_in_parts(self, pairs: Sequence[tuple[str, str]], positions: Collection[int]) -> Iterator[ScoredPart]:
        """Yield the scores of the pairs at `positions`, and possibly of others.

        Batches are planned over all pairs, so a score does not depend on `positions`.
        """


class TextEncoder(Protocol):
    """Embeds texts, like `retrieval.dense.Encoder`."""

    name: str

    def encode_queries(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Embeddings, (texts, width)."""

    def encode_documents(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Embeddings, (texts, width)."""


def score_in_parts(
    scorer: PairScorer, pairs: Sequence[tuple[str, str]], positions: Collection[int]
) -> Iterator[ScoredPart]:
    """As `PartScorer.score_in_parts`; yields all scores as one part if the scorer has no parts."""
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
