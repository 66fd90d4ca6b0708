"""Long documents in overlapping windows: each is scored as a document of its own, and the scores become one.

The first window alone, the best one (Dai and Callan, arXiv 1905.09217: FirstP and MaxP), or the mean of all. Or only
the one that a bi-encoder finds nearest to the query is scored.
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

SHARE = 0.75  # of what the model reads; the rest is for query and cue
COMBINE: dict[str, Callable[[Sequence[float]], float]] = {
    "maxp": max,
    "firstp": lambda scores: scores[0],
    "mean": lambda scores: math.fsum(scores) / len(scores),
}


class NearestWindowScorer:
    """A `PairScorer` that shows another one of each document only the window that is nearest to the query."""

    reads_documents_once = True  # a document's windows are embedded once for the pairs that come together

    def __init__(self, scorer: PairScorer, encoder: Encoder) -> None:
        self.name, self._scorer, self._encoder = scorer.name, scorer, encoder

    def score(self, pairs: Sequence[Pair]) -> list[float]:
        return score_all(self, pairs)

    def score_in_parts(self, pairs: Sequence[Pair], positions: Collection[int]) -> Iterator[ScoredPart]:
        yield from score_in_parts(self._scorer, self._nearest(pairs), positions)

    def _nearest(self, pairs: Sequence[Pair]) -> list[Pair]:
        documents, queries = (list(dict.fromkeys(pair[side] for pair in pairs)) for side in (1, 0))
        whole = [text.parts() if isinstance(text, FullText) else Document("", text) for text in documents]
        parts = dict(zip(documents, self._encoder.windows_of(whole), strict=True))
        texts = [text for part in parts.values() if len(part) > 1 for text in part]
        vectors = dict(zip(texts, self._encoder.encode_documents(texts), strict=True))
        query_vectors = dict(zip(queries, self._encoder.encode_queries(queries), strict=True)) if texts else {}

        def nearest(query: str, document: str) -> str:
            part = parts[document]
            return max(part, key=lambda text: float(vectors[text] @ query_vectors[query])) if len(part) > 1 else part[0]

        return [(query, nearest(query, document)) for query, document in pairs]


class WindowedScorer:
    """A `PairScorer` that shows another one windows of `tokens` tokens, each beginning `stride` after the last."""

    def __init__(
        self, scorer: PairScorer, tokenizer: Any, windows: Windows, *, tokens: int, stride: int | None = None
    ) -> None:
        """`stride` is half a window where it is not given. Raises ConfigError where windows would leave gaps."""
        self.name, self._scorer, self._tokenizer = scorer.name, scorer, tokenizer
        self._windows, self._tokens, self._stride = windows, tokens, max(1, tokens // 2) if stride is None else stride
        if self._stride > tokens:
            raise ConfigError(f"windows of {tokens} tokens every {stride} tokens leave gaps; lower --window-stride")
        require_offsets(tokenizer, scorer.name)

    def score(self, pairs: Sequence[Pair]) -> list[float]:
        return score_all(self, pairs)

    def score_in_parts(self, pairs: Sequence[Pair], positions: Collection[int]) -> Iterator[ScoredPart]:
        documents = list(dict.fromkeys(document for _, document in pairs))
        parts = dict(zip(documents, self._split(documents), strict=True))
        window_pairs = [(query, part) for query, document in pairs for part in parts[document]]
        owners = [position for position, (_, document) in enumerate(pairs) for _ in parts[document]]
        windows_per_pair, scores = Counter(owners), dict[int, dict[int, float]]()
        combine = COMBINE[self._windows]
        windows = {window for window, owner in enumerate(owners) if owner in positions}
        for part in score_in_parts(self._scorer, window_pairs, windows):
            whole: list[tuple[int, float]] = []
            for window, score in part:
                owner = owners[window]
                window_scores = scores.setdefault(owner, {})
                window_scores[window] = score
                if len(window_scores) == windows_per_pair[owner]:
                    whole.append((owner, combine([window_scores[index] for index in sorted(window_scores)])))
            yield whole

    def _split(self, documents: Sequence[str]) -> list[list[str]]:
        """The windows of each document as text; one at least."""
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
    """Tokens of a window where none are given."""
    return max(1, int(max_length * SHARE))
