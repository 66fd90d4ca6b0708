"""PyTerrier: a retriever and a reranker as transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pyterrier as pt

from inpars.api import System
from inpars.integrations import reranked


class InparsRetriever(pt.Transformer):
    """Retrieves the k best documents per query with the measured system: docno, title, text, score and rank."""

    def __init__(self, system: System, k: int = 1000) -> None:
        super().__init__()
        self.system, self.k = system, k

    @classmethod
    def from_run(cls, folder: str | Path, *, k: int = 1000, **flags: Any) -> InparsRetriever:
        """Open a run's folder; flags as in `System.load`."""
        return cls(System.load(folder, **flags), k)

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """One row per retrieved document; keeps further columns of the queries."""
        pt.validate.query_frame(inp, extra_columns=["query"])
        queries = inp.drop(columns=["docno", "title", "text", "score", "rank"], errors="ignore")
        results = self.system.search_batch(list(queries["query"]), self.k)
        rows = [
            {"docno": hit.document.doc_id, "title": hit.document.title, "text": hit.document.text, "score": hit.score}
            | {"rank": rank, **query}
            for query, hits in zip(queries.to_dict("records"), results, strict=True)
            for rank, hit in enumerate(hits)
        ]
        return pd.DataFrame(rows, columns=[*queries.columns, "docno", "title", "text", "score", "rank"])


class InparsReranker(pt.Transformer):
    """Reranks the rows of each query with the system's reranker, which reads `text` and, if present, `title`."""

    def __init__(self, system: System) -> None:
        super().__init__()
        self.system = system

    @classmethod
    def from_run(cls, folder: str | Path, **flags: Any) -> InparsReranker:
        """Open a run's folder; flags as in `System.load`."""
        return cls(System.load(folder, **flags))

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """The same rows with new scores and ranks. Raises ConfigError for a system without a reranker."""
        pt.validate.result_frame(inp, extra_columns=["query", "text"])
        ranked = [inp.iloc[:0].assign(score=pd.Series(dtype=float), rank=pd.Series(dtype=int))]
        for _, group in inp.groupby("qid", sort=False):
            pairs = [(row["text"], row) for row in group.to_dict("records")]
            order, scores = zip(*reranked(self.system, group["query"].iloc[0], pairs), strict=True)
            ranked.append(group.iloc[list(order)].assign(score=scores, rank=range(len(group))))
        return pd.concat(ranked[1:] or ranked, ignore_index=True)
