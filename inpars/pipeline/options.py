"""The settings of a whole run."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from inpars.filtering.checks import FilterOptions
from inpars.filtering.filters import ScoringFunction
from inpars.fusion.system import BM25
from inpars.mining.triples import rank_problems
from inpars.options import POSITIVE, SEED, Bounds, option
from inpars.scoring.kinds import ScorerKind
from inpars.stages.engine_options import ClusterOptions
from inpars.stages.search import LEAST_WINDOW

BUDGET = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")
NAMED_BUDGETS = {"night": 8 * 3600.0}
HOUR, MINUTE = 3600, 60  # seconds
DEFAULT_TOP_K = 400
KEPT_SHARE = 0.8  # of the written queries, as the default's 400 of 500


def budget_seconds(text: str) -> float:
    """Seconds of `90s`, `8m`, `1h30m` or `night`; NaN for anything else."""
    found = BUDGET.fullmatch(text)
    if text in NAMED_BUDGETS or found is None:
        return NAMED_BUDGETS.get(text, math.nan)
    hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return float(hours * HOUR + minutes * MINUTE + seconds) or math.nan


def budget_problems(text: str) -> Iterator[str]:
    """What is wrong with a budget."""
    if math.isnan(budget_seconds(text)):
        yield f"--budget is {text!r}; give a time above 0 as 90s, 8m, 1h, 1h30m or night"


def as_budget(seconds: float) -> str:
    """The shortest budget in whole minutes, below two minutes in seconds, that is no less: `8m`, `1h30m`."""
    if seconds < 2 * MINUTE:
        return f"{math.ceil(seconds)}s"
    hours, minutes = divmod(math.ceil(seconds / MINUTE), 60)
    return (f"{hours}h" if hours else "") + (f"{minutes}m" if minutes or not hours else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineOptions(ClusterOptions):
    """The settings of a whole run; each stage's own command has more."""

    budget: str | None = option(
        None,
        help="time that the run may take: 90s, 8m, 1h30m, or night for 8 hours; a trial of this machine decides what "
        "is done, and flags that are given count (default: no limit, and the numbers below)",
        metavar="TIME",
    )
    model: str = option("smollm2-135m", help="language model that writes the queries")
    max_documents: int | None = option(500, help="documents that queries are written for", minimum=1)
    max_doc_tokens: int = option(160, help="tokens of a document that the language model is shown", minimum=1)
    max_new_tokens: int = option(32, help="maximum number of tokens per query", minimum=1)
    scoring_function: ScoringFunction = option("mean_log_probs", help="how a query's token log-probs become its score")
    top_k: int = option(
        DEFAULT_TOP_K,
        help="how many of the best queries to keep (default: four fifths of --max-documents, at least 400)",
        minimum=1,
    )
    positive_within: int | None = option(
        20,
        help="leave out queries whose own document BM25 does not find among its first N; 0: keep them all",
        minimum=0,
    )
    per_query: int = option(1, help="negatives per query", minimum=1)
    ranks: str = option("1-100", help="BM25 ranks that negatives are drawn from", metavar="FIRST-LAST")
    training: Literal["auto", "always", "never"] = option(
        "auto", help="train the bi-encoder and the reranker; auto: each where it has something to learn"
    )
    learning_curve: bool = option(
        False,
        help="where the bi-encoder is trained, train it on a quarter and a half of the triples too, and say what each "
        "is worth in the mix",
    )
    retriever: str = option("minilm", help="bi-encoder to start from; bm25: none")
    view: tuple[str, ...] = option(
        (),
        help="a further retriever of any kind, a folder of `inpars train retriever --kind sparse` for instance, which "
        "the mix takes where it gains by it; may be given several times",
        changes_result="unless default",
    )
    retriever_epochs: float = option(1.0, help="passes over the triples for the bi-encoder", bounds=POSITIVE)
    reranker: str = option("smollm2-135m", help="model the reranker starts from")
    reranker_kind: ScorerKind | Literal["auto"] = option(
        "auto", help="what the reranker becomes; auto: of a decoder a query likelihood with the prompt's examples"
    )
    reranker_epochs: float = option(
        1.0, help="passes over the triples for the reranker; 0: it stays as it is", minimum=0
    )
    reranker_steps: int | None = option(
        None,
        help="at most so many steps of them, of 8 queries each (default: no limit)",
        minimum=1,
    )
    reranker_max_length: int = option(160, help="tokens of query and document that the reranker reads", minimum=1)
    rerank_depth: int = option(20, help="documents per query that are reranked; 0: none", minimum=0)
    window_tokens: int | None = option(
        96,
        help="bi-encoders read longer documents in overlapping windows of so many tokens, and the reranker the window "
        "that is nearest to the query; 0: they read a document's beginning",
        minimum=0,
    )
    k: int = option(1000, help="documents that BM25 and each bi-encoder retrieve per query", minimum=1)
    limit: int | None = option(None, help="only the first N test queries, to try things out", minimum=1)
    dev_share: float = option(
        0.1,
        help="without judged queries: the share of the written queries that is held out by source file to measure by; "
        "0 measures nothing",
        bounds=Bounds(minimum=0, below=1),
    )
    seed: int = option(0, help="seed of all samples", bounds=SEED)

    def problems(self) -> Iterator[str]:
        """What a stage would refuse once its turn comes."""
        yield from rank_problems(self.ranks, self.per_query)
        if self.budget is not None:
            yield from budget_problems(self.budget)
            if self.engine != "local":
                yield f"--budget plans for this machine alone; leave --engine {self.engine} or the budget out"
            if self.view:
                yield "--budget does not plan for further retrievers; leave --view or the budget out"
        if self.view and self.retriever == BM25:
            yield "--view is for a mix of BM25 and a bi-encoder; give --retriever one"
        if self.window_tokens and self.window_tokens < LEAST_WINDOW:
            yield f"--window-tokens is {self.window_tokens}; it must be 0 or at least {LEAST_WINDOW}"

    def with_default_top_k(self, named: Collection[str]) -> PipelineOptions:
        """Unless `top_k` is among the settings that were named, the share of the queries that the default keeps."""
        if "top_k" in named or self.max_documents is None:
            return self
        return replace(self, top_k=max(DEFAULT_TOP_K, int(KEPT_SHARE * self.max_documents)))

    @property
    def filtering(self) -> FilterOptions:
        """Which queries stay."""
        return FilterOptions(scoring_function=self.scoring_function, top_k=self.top_k)
