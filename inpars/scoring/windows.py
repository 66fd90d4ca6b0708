"""Long documents in overlapping windows: each is scored as a document of its own, and the scores become one.

The first window alone, the best one (Dai and Callan, arXiv 1905.09217: FirstP and MaxP), or the mean of all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from inpars.errors import ConfigError
from inpars.scoring import PairScorer, Windows
from inpars.scoring.pair_model import Pair

SHARE = 0.75  # of what the model reads; the rest is for query and cue
COMBINE: dict[Windows, Callable[[Sequence[float]], float]] = {
    "maxp": max,
    "firstp": lambda scores: scores[0],
    "mean": lambda scores: math.fsum(scores) / len(scores),
}


class WindowedScorer:
    """A `PairScorer` that shows another one windows of `tokens` tokens, each beginning `stride` after the last."""

    def __init__(
        self,
        scorer: PairScorer,
        tokenizer: Any,  # noqa: ANN401
        windows: Windows,
        *,
        tokens: int,
        stride: int | None = None,
    ) -> None:
        """`stride` is half a window where it is not given. Raises ConfigError where windows would leave gaps."""
        self.name, self._scorer, self._tokenizer = scorer.name, scorer, tokenizer
        self._windows, self._tokens, self._stride = windows, tokens, max(1, tokens // 2) if stride is None else stride
        if self._stride > tokens:
            raise ConfigError(f"windows of {tokens} tokens every {stride} tokens leave gaps; lower --window-stride")
        if not tokenizer.is_fast:
            raise ConfigError(f"{scorer.name} comes with a slow tokenizer, which does not say where its tokens lie")

    def score(self, pairs: Sequence[Pair]) -> list[float]:
        """One score a pair, in their order."""
        documents = list(dict.fromkeys(document for _, document in pairs))
        parts = dict(zip(documents, self._split(documents), strict=True))
        scores = iter(self._scorer.score([(query, part) for query, document in pairs for part in parts[document]]))
        combine = COMBINE[self._windows]
        return [combine([next(scores) for _ in parts[document]]) for _, document in pairs]

    def _split(self, documents: Sequence[str]) -> list[list[str]]:
        """The windows of each document as text; one at least."""
        if not documents:
            return []
        offsets = self._tokenizer(
            list(documents), add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )["offset_mapping"]
        limit = 1 if self._windows == "firstp" else None
        return [
            [document[start:end] for start, end in list(self._spans(places))[:limit]] or [document]
            for document, places in zip(documents, offsets, strict=True)
        ]

    def _spans(self, places: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        """First and last character of each window; the last window ends with the document."""
        start = 0
        while places and (start == 0 or start + self._tokens - self._stride < len(places)):
            window = places[start : start + self._tokens]
            yield (window[0][0] if start else 0), window[-1][1]
            start += self._stride


def default_tokens(max_length: int) -> int:
    """Tokens of a window where none are given."""
    return max(1, int(max_length * SHARE))
