"""The engine's first stages over real indexes, with locks for models that are not thread-safe.

An index on disk searches only the rows that match a filter; other stages search deeper and deeper until enough hits
match. Importing this module loads neither torch nor Java.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from fnmatch import fnmatchcase
from itertools import islice
from threading import Lock
from typing import Any

from inpars.apps.qa.engine import Filters
from inpars.fusion.gate import Coverage
from inpars.io.corpus import Documents
from inpars.io.runs import rank
from inpars.protocols import PairScorer, TextEncoder
from inpars.records import Document, Query, Run
from inpars.retrieval.vector_index import VectorIndex

DEEPER = 8  # factor by which the depth grows until enough hits match a filter


class Stage:
    """A first stage that calls `search` for the k best documents; `exclusive` allows one thread at a time.

    BM25 also has a `coverage`, which says how much of a query a text contains.
    """

    def __init__(
        self,
        name: str,
        documents: Documents,
        search: Callable[[Sequence[Query], int], Run],
        *,
        exclusive: bool = False,
        coverage: Coverage | None = None,
    ) -> None:
        self.name, self._documents, self._call, self.coverage = name, documents, search, coverage
        self._lock: AbstractContextManager[Any] = Lock() if exclusive else nullcontext()

    def search(self, queries: Sequence[Query], k: int, filters: Filters) -> Run:
        if not filters:
            return self._search(queries, k)
        depth, matching = k, Run()
        remaining = list(queries)
        while remaining:
            depth = min(depth * DEEPER, len(self._documents))
            run = self._search(remaining, depth)
            for query in remaining:
                matching[query.query_id] = self._matching(run.get(query.query_id, {}), k, filters)
            if depth == len(self._documents):
                break
            remaining = [  # too few hits match, and there are more
                query
                for query in remaining
                if len(matching[query.query_id]) < k and len(run.get(query.query_id, {})) >= depth
            ]
        return matching

    def _search(self, queries: Sequence[Query], k: int) -> Run:
        with self._lock:
            return self._call(queries, k)

    def _matching(self, scores: Mapping[str, float], k: int, filters: Filters) -> dict[str, float]:
        matching = (pair for pair in rank(scores) if matches(self._documents[pair[0]], filters))
        return dict(islice(matching, k))


class StoredStage:
    """A first stage over an index on disk or one of its views; searches only the rows that match the filters."""

    def __init__(self, name: str, index: VectorIndex, encoder: TextEncoder, view: str | None = None) -> None:
        self.name, self._index, self._encoder, self._view = name, index, encoder, view

    def search(self, queries: Sequence[Query], k: int, filters: Filters) -> Run:
        allowed = None
        if filters:
            key = repr(sorted(filters.items()))
            allowed = self._index.matching(key, lambda document: matches(document, filters))
        vectors = self._encoder.encode_queries([query.text for query in queries])
        results = self._index.search(vectors, k, allowed=allowed, view=self._view)
        return {query.query_id: scores for query, scores in zip(queries, results, strict=True)}


class LockedScorer:
    """A thread-safe scorer: callers take turns."""

    def __init__(self, scorer: PairScorer) -> None:
        self.name, self._scorer, self._lock = scorer.name, scorer, Lock()

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        with self._lock:
            return self._scorer.score(pairs)


def matches(document: Document, filters: Filters) -> bool:
    """Whether a document's metadata has all these values; `*` matches any text, and one item of a list is enough.

    Booleans are written as in JSON; an empty value matches a document without the field.
    """
    return all(_fits(document.metadata.get(name), pattern) for name, pattern in filters.items())


def _fits(value: Any, pattern: str) -> bool:  # noqa: ANN401 - a JSON value
    if isinstance(value, list):
        return any(_fits(item, pattern) for item in value)
    if value is None:
        return not pattern
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return text == pattern or ("*" in pattern and fnmatchcase(text, pattern.replace("[", "[[]")))
