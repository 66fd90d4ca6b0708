"""How much of a query a text holds: the share of the query's inverse document frequency whose terms stand in it.

Terms are those that BM25 searches for, by its analyser and its index.
"""

from __future__ import annotations

import math
from threading import Lock
from typing import Any

from inpars.retrieval.java import java_class
from inpars.retrieval.lucene import CONTENTS

KNOWN = 100_000  # terms whose frequency is kept


class TermCoverage:
    """Looks terms up in one index; threads take turns."""

    def __init__(self, reader: Any, analyzer: Any) -> None:  # noqa: ANN401 - Java objects
        self._reader, self._analyzer = reader, analyzer
        self._analyze = java_class("io.anserini.analysis.AnalyzerUtils").analyze
        self._term = java_class("org.apache.lucene.index.Term")
        self._documents = int(reader.numDocs())
        self._weights: dict[str, float] = {}
        self._lock = Lock()

    def __call__(self, query: str, text: str) -> float:
        """Between 0 and 1; 0 for a query without a term."""
        with self._lock:
            terms, present = self._terms(query), self._terms(text)
            total = math.fsum(map(self._weight, terms))
            return math.fsum(map(self._weight, terms & present)) / total if total else 0.0

    def _terms(self, text: str) -> set[str]:
        written = self._analyze(self._analyzer, text).toString()  # [one, another]: one call, whatever their number
        return set(written[1:-1].split(", ")) - {""}

    def _weight(self, term: str) -> float:
        """BM25's inverse document frequency."""
        if term not in self._weights:
            if len(self._weights) >= KNOWN:
                self._weights.clear()
            count = int(self._reader.docFreq(self._term(CONTENTS, term)))
            self._weights[term] = math.log(1 + (self._documents - count + 0.5) / (count + 0.5))
        return self._weights[term]
