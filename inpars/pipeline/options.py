"""The settings of a whole run."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from inpars.filtering.checks import FilterOptions
from inpars.filtering.query_table import ScoringFunction
from inpars.fusion.system import BM25
from inpars.negatives.miner import rank_problems
from inpars.options import POSITIVE, SEED, Bounds, option
from inpars.rerankers.kinds import ScorerKind
from inpars.retrieval.bm25 import DEFAULT_B, DEFAULT_K1, DEFAULT_LANGUAGE
from inpars.stages.search import MIN_WINDOW
from inpars.stages.workers import ClusterOptions

DEFAULT_PROMPT = "inpars"
TRIAL_DOCUMENTS = 48  # documents per prompt in a trial; a multiple of the generator's batch size
EXTRAS = ("train", "bm25")  # required extras
BUDGET = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")
NAMED_BUDGETS = {"night": 8 * 3600.0}
HOUR, MINUTE = 3600, 60  # seconds
DEFAULT_TOP_K = 400
KEPT_SHARE = 0.8  # share of synthetic queries to keep: 400 of 500 by default


def budget_seconds(text: str) -> float:
    """Seconds of `90s`, `8m`, `1h30m` or `night`; NaN for anything else."""
    match = BUDGET.fullmatch(text)
    if text in NAMED_BUDGETS or match is None:
        return NAMED_BUDGETS.get(text, math.nan)
    hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return float(hours * HOUR + minutes * MINUTE + seconds) or math.nan


def budget_problems(text: str) -> Iterator[str]:
    """Problems of a `--budget` value."""
    if math.isnan(budget_seconds(text)):
        yield f"--budget is {text!r}; give a time above 0 as 90s, 8m, 1h, 1h30m or night"


def as_budget(seconds: float) -> str:
    """Round up to a budget in whole minutes, below two minutes in whole seconds: `8m`, `1h30m`."""
    if seconds < 2 * MINUTE:
        return f"{math.ceil(seconds)}s"
    hours, minutes = divmod(math.ceil(seconds / MINUTE), 60)
    return (f"{hours}h" if hours else "") + (f"{minutes}m" if minutes or not hours else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineOptions(ClusterOptions):
    """The settings of a whole run; each stage's own command has more."""

    budget: str | None = option(
        None,
        help="time limit: 90s, 8m, 1h30m, or night for 8 hours; a trial of this machine sets what the flags leave open "
        "(default: none)",
        metavar="TIME",
    )
    model: str = option("smollm2-135m", help="language model that writes the queries")
    max_documents: int | None = option(500, help="number of documents to write queries for", minimum=1)
    max_doc_tokens: int = option(160, help="maximum tokens of a document in the prompt", minimum=1, advanced=True)
    max_new_tokens: int = option(32, help="maximum tokens per query", minimum=1, advanced=True)
    scoring_function: ScoringFunction = option(
        "mean_log_probs", help="score of a query, from its token log-probs", advanced=True
    )
    top_k: int = option(
        DEFAULT_TOP_K,
        help="number of queries to keep, best first (default: four fifths of --max-documents, at least 400)",
        minimum=1,
    )
    positive_within: int | None = option(
        20,
        help="drop queries whose own document BM25 does not rank in its top N; 0: keep all",
        minimum=0,
        advanced=True,
    )
    per_query: int = option(1, help="negatives per query", minimum=1, advanced=True)
    ranks: str = option("1-100", help="BM25 ranks that negatives are drawn from", metavar="FIRST-LAST", advanced=True)
    training: Literal["auto", "always", "never"] = option(
        "auto", help="train the bi-encoder and the reranker; auto: each only if the triples can teach it something"
    )
    learning_curve: bool = option(
        False,
        help="also train the bi-encoder on a quarter and a half of the triples and report what each gains",
        advanced=True,
    )
    retriever: str = option("minilm", help="bi-encoder to start from; bm25: none")
    view: tuple[str, ...] = option(
        (),
        help="another retriever of any kind for the mix, such as a folder of `inpars train retriever --kind sparse`; "
        "used if it improves the mix; repeatable",
        changes_result="unless default",
        advanced=True,
    )
    retriever_epochs: float = option(1.0, help="training epochs of the bi-encoder", bounds=POSITIVE, advanced=True)
    reranker: str = option("smollm2-135m", help="reranker to start from")
    reranker_kind: ScorerKind | Literal["auto"] = option(
        "auto",
        help="kind of reranker; auto: a decoder becomes a query likelihood with the prompt's examples",
        advanced=True,
    )
    reranker_epochs: float = option(1.0, help="training epochs of the reranker; 0: untrained", minimum=0, advanced=True)
    reranker_steps: int | None = option(
        None,
        help="maximum training steps of the reranker, of 8 queries each (default: no limit)",
        minimum=1,
        advanced=True,
    )
    reranker_max_length: int = option(
        160, help="maximum input length of the reranker in tokens", minimum=1, advanced=True
    )
    late_interaction_depth: int = option(
        50,
        help="documents per query to reorder by MaxSim over a bi-encoder's token states, before the reranker; 0: none, "
        "as for a bi-encoder that does not average these states",
        minimum=0,
        advanced=True,
    )
    rerank_depth: int = option(20, help="documents per query to rerank; 0: no reranking", minimum=0)
    window_tokens: int | None = option(
        96,
        help="split longer documents into overlapping windows of this many tokens: bi-encoders use the best, "
        "the reranker the nearest to the query; 0: truncate documents",
        minimum=0,
        advanced=True,
    )
    k: int = option(
        1000, help="documents per query to retrieve from BM25 and each bi-encoder", minimum=1, advanced=True
    )
    limit: int | None = option(None, help="use only the first N test queries, for a quick try", minimum=1)
    dev_share: float = option(
        0.1,
        help="without judged queries: share of the synthetic queries held out, by source file, for "
        "evaluation; 0: no evaluation",
        bounds=Bounds(minimum=0, below=1),
        advanced=True,
    )
    language: str = option(
        DEFAULT_LANGUAGE, help="language of BM25's analyser", changes_result="unless default", advanced=True
    )
    seed: int = option(0, help="random seed", bounds=SEED, advanced=True)

    def problems(self) -> Iterator[str]:
        """Problems that a stage would otherwise raise later."""
        yield from rank_problems(self.ranks, self.per_query)
        if self.budget is not None:
            yield from budget_problems(self.budget)
            if self.engine != "local":
                yield f"--budget plans for this machine alone; leave --engine {self.engine} or the budget out"
            if self.view:
                yield "--budget does not plan for further retrievers; leave --view or the budget out"
        if self.view and self.retriever == BM25:
            yield "--view is for a mix of BM25 and a bi-encoder; give --retriever one"
        if self.window_tokens and self.window_tokens < MIN_WINDOW:
            yield f"--window-tokens is {self.window_tokens}; it must be 0 or at least {MIN_WINDOW}"

    def with_default_top_k(self, named: Collection[str]) -> PipelineOptions:
        """Scale `top_k` with `max_documents` unless it was given explicitly."""
        if "top_k" in named or self.max_documents is None:
            return self
        return replace(self, top_k=max(DEFAULT_TOP_K, int(KEPT_SHARE * self.max_documents)))

    @property
    def bm25(self) -> dict[str, Any]:
        return {"k1": DEFAULT_K1, "b": DEFAULT_B, "language": self.language}

    @property
    def trains_reranker(self) -> bool:
        """Whether a reranker may be trained: one that nothing reranks with would be trained in vain."""
        return self.reranker_epochs > 0 and self.rerank_depth > 0

    @property
    def models(self) -> tuple[str, ...]:
        return self.model, self.retriever, self.reranker

    @property
    def filtering(self) -> FilterOptions:
        return FilterOptions(scoring_function=self.scoring_function, top_k=self.top_k)
