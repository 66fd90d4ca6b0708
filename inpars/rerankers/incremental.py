"""Scores part by part, for those that save them as they come."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from inpars.protocols import PairScorer, PartScorer, ScoredPart


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
