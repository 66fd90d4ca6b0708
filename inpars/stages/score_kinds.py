"""The kinds of scores that `inpars score` writes into a file, a number or more per query. Loads no torch.

A kind is an entry of `SCORES` and a function that gets the source of the queries, the options and the progress, and
returns a `ColumnScorer`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from inpars.records import SyntheticQuery

if TYPE_CHECKING:
    from inpars.progress import Progress

Row: TypeAlias = tuple[SyntheticQuery, dict[str, Any]]
"""A query and its JSON object."""


class ColumnScorer(Protocol):
    """Gives each query one or several named numbers; None if it has none."""

    name: str  # of the first number
    block: int  # number of queries scored and saved together

    def score(self, rows: Sequence[Row]) -> Sequence[Mapping[str, float | None]]:
        """Numbers by name, in the order of the rows."""
        ...


@dataclass(frozen=True, slots=True)
class QueryScoreKind:
    """The properties of a kind that are known without importing its module."""

    loader: str  # MODULE:FUNCTION
    meaning: str  # for --help
    reads_model: bool = True
    model: str | None = None  # the default; without one --model is required

    def load(self, source: Any, options: Any, progress: Progress) -> ColumnScorer:  # noqa: ANN401
        """The scorer for a `Source` and `ScoreOptions` (`score.py`). May load torch or the JVM."""
        scorer: ColumnScorer = resolve_name(self.loader)(source, options, progress)
        return scorer


SCORES: Mapping[str, QueryScoreKind] = {
    "reranker": QueryScoreKind(
        "inpars.stages.query_scorers:load_reranker", "relevance of its document", model="smollm2-135m"
    ),
    "bm25-rank": QueryScoreKind(
        "inpars.stages.query_scorers:load_bm25_rank",
        "rank of its document by BM25, null below --depth",
        reads_model=False,
    ),
    "dense-rank": QueryScoreKind(
        "inpars.stages.query_scorers:load_dense_rank", "the same by a bi-encoder, and its score", model="minilm"
    ),
    "answerability": QueryScoreKind(
        "inpars.stages.query_scorers:load_answerability", "margin of its best answer by a SQuAD reader"
    ),
}
LOG_PROBS, CLUSTER = "log-probs", "cluster"
DEFAULT_MODELS: Mapping[str, str | None] = {
    LOG_PROBS: "smollm2-135m",
    CLUSTER: "minilm",
    **{name: kind.model for name, kind in SCORES.items()},
}

if TYPE_CHECKING:
    ScoreKind: TypeAlias = str
else:
    ScoreKind = Literal[LOG_PROBS, *SCORES, CLUSTER]  # the choices of a flag


def kind_help() -> str:
    """Help text of the flag for the kind."""
    kinds = ", ".join(f"{name} ({kind.meaning})" for name, kind in SCORES.items())
    return (
        f"log-probs: the queries with new token log-probs of a language model. The others write a score per query_id: "
        f"{kinds}, cluster (its group of similar queries)"
    )


def model_help() -> str:
    """Help text of the flag for the model."""
    defaults = ", ".join(f"{model} for {name}" for name, model in DEFAULT_MODELS.items() if model)
    required = ", ".join(name for name, kind in SCORES.items() if kind.reads_model and kind.model is None)
    return f"model of that kind: embedded name, folder or hub id (default: {defaults}; required for {required})"
