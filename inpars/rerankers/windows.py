"""Scores long documents by overlapping windows.

The score is the first window's, the best one's (Dai and Callan, arXiv 1905.09217: FirstP and MaxP), the mean, or that
of the window which a bi-encoder finds nearest to the query.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from inpars.errors import ConfigError
from inpars.protocols import PairScorer, ScoredPart, score_all, score_in_parts
from inpars.records import Document, FullText
from inpars.rerankers.kinds import Windows
from inpars.rerankers.pair_model import Pair
from inpars.retrieval.passages import require_offsets, token_offsets, window_spans

if TYPE_CHECKING:
    from inpars.retrieval.dense import Encoder

SHARE = 0.75  # of the model's input length; the rest is for query and cue
COMBINE: dict[str, Callable[[Sequence[float]], float]] = {
    "maxp": max,
    "firstp": lambda scores: scores[0],
    "mean": lambda scores: math.fsum(scores) / len(scores),
}


class NearestWindowScorer:
    """A `PairScorer` that passes only each document's window nearest to the query to another scorer."""

    reads_documents_once = True  # a document's windows are embedded once per batch of pairs

    def __init__(self, scorer: PairScorer, encoder: Encoder) -> None:
        self.name, self._scorer, self._encoder = scorer.name, scorer, encoder

    def score(self, pairs: Sequence[Pair]) -> list[float]:
        return score_all(self, pairs)

    def score_in_parts(self, pairs: Sequence[Pair], positions: Collection[int]) -> Iterator[ScoredPart]:
        yield from score_in_parts(self._scorer, self._nearest(pairs), positions)

    def _nearest(self, pairs: Sequence[Pair]) -> list[Pair]:
        documents, queries = (list(dict.fromkeys(pair[side] for pair in pairs)) for side in (1, 0))
        whole = [text.parts() if isinstance(text, FullText) else Document("", text) for text in documents]
        windows = dict(zip(documents, self._encoder.windows_of(whole), strict=True))
        texts = [text for candidates in windows.values() if len(candidates) > 1 for text in candidates]
        vectors = dict(zip(texts, self._encoder.encode_documents(texts), strict=True))
        query_vectors = dict(zip(queries, self._encoder.encode_queries(queries), strict=True)) if texts else {}

        def nearest(query: str, document: str) -> str:
            candidates = windows[document]
            if len(candidates) == 1:
                return candidates[0]
            return max(candidates, key=lambda text: float(vectors[text] @ query_vectors[query]))

        return [(query, nearest(query, document)) for query, document in pairs]


class WindowedScorer:
    """A `PairScorer` that passes windows of `tokens` tokens, `stride` tokens apart, to another scorer."""

    def __init__(
        self, scorer: PairScorer, tokenizer: Any, windows: Windows, *, tokens: int, stride: int | None = None
    ) -> None:
        """`stride` defaults to half a window. Raises ConfigError if windows would leave gaps."""
        self.name, self._scorer, self._tokenizer = scorer.name, scorer, tokenizer
        self._windows, self._tokens, self._stride = windows, tokens, max(1, tokens // 2) if stride is None else stride
        if self._stride > tokens:
            raise ConfigError(f"windows of {tokens} tokens every {stride} tokens leave gaps; lower --window-stride")
        require_offsets(tokenizer, scorer.name)

    def score(self, pairs: Sequence[Pair]) -> list[float]:
        return score_all(self, pairs)

    def score_in_parts(self, pairs: Sequence[Pair], positions: Collection[int]) -> Iterator[ScoredPart]:
        documents = list(dict.fromkeys(document for _, document in pairs))
        windows_of = dict(zip(documents, self._split(documents), strict=True))
        window_pairs = [(query, window) for query, document in pairs for window in windows_of[document]]
        owners = [position for position, (_, document) in enumerate(pairs) for _ in windows_of[document]]
        windows_per_pair, scores = Counter(owners), dict[int, dict[int, float]]()
        combine = COMBINE[self._windows]
        windows = {window for window, owner in enumerate(owners) if owner in positions}
        for part in score_in_parts(self._scorer, window_pairs, windows):
            complete: list[tuple[int, float]] = []
            for window, score in part:
                owner = owners[window]
                window_scores = scores.setdefault(owner, {})
                window_scores[window] = score
                if len(window_scores) == windows_per_pair[owner]:
                    complete.append((owner, combine([window_scores[index] for index in sorted(window_scores)])))
            yield complete

    def _split(self, documents: Sequence[str]) -> list[list[str]]:
        """The windows of each document as text, at least one."""
        limit = 1 if self._windows == "firstp" else None
        return [
            [
                document[start:end]
                for start, end in itertools.islice(window_spans(offsets, self._tokens, self._stride), limit)
            ]
            or [document]
            for document, offsets in zip(documents, token_offsets(self._tokenizer, documents), strict=True)
        ]


def default_tokens(max_length: int) -> int:
    """Default window size in tokens."""
    return max(1, int(max_length * SHARE))
