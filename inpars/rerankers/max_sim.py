"""Reranks with a late-interaction retriever: encodes each document once and scores it by MaxSim.

Scores equal those of sentence-transformers in float32. Reads no index.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Unpack

import numpy as np

from inpars.batches import slices
from inpars.protocols import ScoredPart, score_all
from inpars.retrieval.library_encoder import EncoderSettings
from inpars.retrieval.multi_vector import Encoder, Vectors

DOCUMENTS_AT_ONCE = 32


class MaxSimScorer:
    """A `PartScorer` over a multi-vector encoder."""

    reads_documents_once = True  # so a document's pairs should be adjacent

    def __init__(self, model: str, *, of_encoder: bool = False, **settings: Unpack[EncoderSettings]) -> None:
        """`of_encoder` uses a bi-encoder, which was not trained for MaxSim."""
        self.name, self._encoder = model, Encoder(model, of_encoder=of_encoder, **settings)
        self._queries: dict[str, Vectors] = {}  # cached, because many documents are compared with each

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        return score_all(self, pairs)

    def score_in_parts(self, pairs: Sequence[tuple[str, str]], positions: Collection[int]) -> Iterator[ScoredPart]:
        """Yield positions and scores for a few documents at a time; skip those without any of `positions`."""
        self._encode_queries(dict.fromkeys(query for query, _ in pairs))
        positions_of: dict[str, list[int]] = {}
        for position, (_, document) in enumerate(pairs):
            positions_of.setdefault(document, []).append(position)
        for documents in slices(sorted(positions_of, key=lambda text: (-len(text), text)), DOCUMENTS_AT_ONCE):
            if any(position in positions for document in documents for position in positions_of[document]):
                yield self._score_documents(pairs, [positions_of[document] for document in documents], documents)

    def _score_documents(
        self, pairs: Sequence[tuple[str, str]], positions: Sequence[Sequence[int]], documents: Sequence[str]
    ) -> ScoredPart:
        scored: list[tuple[int, float]] = []
        for document_positions, vectors in zip(positions, self._encoder.encode_documents(documents), strict=True):
            queries = [self._queries[pairs[position][0]] for position in document_positions]
            scores = self._encoder.max_sim(queries, vectors, np.array([len(vectors)]))
            scored += zip(document_positions, scores[:, 0].tolist(), strict=True)
        return scored

    def _encode_queries(self, queries: Collection[str]) -> None:
        new = [query for query in queries if query not in self._queries]
        self._queries |= zip(new, self._encoder.encode_queries(new), strict=True)
