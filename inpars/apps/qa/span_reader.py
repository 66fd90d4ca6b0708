"""Extractive answers by a model that marks them in texts (SQuAD 2.0 and its like), with its own idea of no answer.

The score is the best span's logits less those of "no answer", as `rerankers.answerability` has it; above 0 the model
prefers the span. Readers of `inpars train reader` know a better threshold. A hit's place decides nothing: the surest of
all hits' spans is the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock
from typing import Unpack

from inpars.apps.qa.extractive import NO_HITS, best_answer, unanswered
from inpars.apps.qa.records import Answer, Hit, Span
from inpars.models.compute_options import Placement
from inpars.rerankers.answerability import AnswerabilityScorer


class SpanReader:
    """Marks the answer in the text of a hit; safe to call from several threads, which take turns."""

    closest = False

    def __init__(self, model: str, *, threshold: float | None = None, **where: Unpack[Placement]) -> None:
        """Load the model. Raises ConfigError where it is not one that marks answers."""
        self._scorer = AnswerabilityScorer(model, **where)
        self.name, self._lock = f"span marked by {model}", Lock()
        self.threshold = self._scorer.threshold if threshold is None else threshold

    def read(self, question: str, hits: Sequence[Hit]) -> Answer:
        """The surest span of all hits."""
        if not hits:
            return unanswered(question, self.name, hits, NO_HITS)
        with self._lock:
            spans = self._scorer.spans([(question, hit.document.text) for hit in hits])
        candidates = [
            (number, Span(span.start, span.end), span.margin)
            for number, (span, hit) in enumerate(zip(spans, hits, strict=True), start=1)
            if hit.document.text[span.start : span.end].strip()
        ]
        if not candidates:
            return unanswered(question, self.name, hits, "no source has any text")
        return best_answer(question, hits, candidates, self.name, self.threshold)
