"""The few sentences of the hits that a small language model is shown, and whether they are near the question at all.

A model of a hundred million weights loses its way in five whole passages; from the sentences nearest to the question it
can often copy an answer. Where even the nearest is far away there is nothing to copy, and the model is not asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from inpars.apps.qa.extractive import Judge, candidates, in_context
from inpars.apps.qa.records import Hit, Span

SENTENCES = 4


@dataclass(frozen=True, slots=True)
class Focused:
    """What a model is shown of some hits: their numbers among all of them, and themselves with less text."""

    sources: tuple[tuple[int, Hit], ...]
    best_score: float


@dataclass(frozen=True, slots=True)
class Focus:
    """Picks sentences as the sentence reader does."""

    judge: Judge
    threshold: float | None = None
    sentences: int = SENTENCES

    @property
    def limit(self) -> float:
        """The least score of the best sentence."""
        return self.judge.threshold if self.threshold is None else self.threshold

    def choose(self, question: str, hits: Sequence[Hit]) -> Focused:
        """The sentences of highest score, in the order of the hits and of their texts."""
        sentences = candidates(question, hits)
        if not sentences:
            return Focused((), float("-inf"))
        scores = self.judge.score(question, [in_context(hits[number - 1], span) for number, span in sentences])
        order = sorted(range(len(sentences)), key=lambda index: -scores[index])[: self.sentences]
        chosen: dict[int, list[Span]] = {}
        for number, span in sorted(
            (sentences[index] for index in order), key=lambda sentence: (sentence[0], sentence[1].start)
        ):
            chosen.setdefault(number, []).append(span)
        sources = tuple((number, _narrowed(hits[number - 1], spans)) for number, spans in chosen.items())
        return Focused(sources, max(scores))


def _narrowed(hit: Hit, spans: Sequence[Span]) -> Hit:
    """The hit with these sentences alone."""
    text = " ".join(span.of(hit.document.text) for span in spans)
    return replace(hit, document=replace(hit.document, text=text), spans=())
