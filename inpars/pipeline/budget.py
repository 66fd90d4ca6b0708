"""Plan a run within a time budget, from measured rates.

The plan is a function of rates, sizes, the budget and the flags given; `inpars.pipeline.trial` measures the rates,
`inpars.pipeline.plan` stores the plan in the run's folder. The most valuable work comes first: the mix of BM25 and the
bi-encoder with a few synthetic queries, ten reranked documents per query, windows, more queries and depth, training.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

from inpars.fusion.system import BM25
from inpars.pipeline.options import PipelineOptions, as_budget
from inpars.report.formatting import duration
from inpars.training.options import RetrieverOptions
from inpars.training.signal import MIN_STEPS

# the settings that a plan decides
PLANNED = (
    *("retriever", "window_tokens", "max_documents", "top_k", "late_interaction_depth", "rerank_depth", "training"),
)
SPENT = 0.9  # share of the budget to plan; the rest allows for a machine that slows down after the trial
MIN_DOCUMENTS, MIN_DEPTH = 32, 10
MINED = 0.4  # least share of documents whose query becomes a triple
TRAINING_COST = 8  # cost of a training step per text, in embeddings; assumed
QUERY_COST = 0.3  # cost of embedding a query, in document embeddings; assumed
CLOSING_SECONDS = 5.0  # measures and report; assumed
SEARCHES = 4  # times a bi-encoder is loaded: choice, its run, mix, reranked mix
CHOSEN_BY = 300  # maximum number of queries to choose the mix by
LATE_DEPTH = 50  # documents per query that MaxSim reorders if time allows
DEEPEST = 50  # largest planned rerank depth
CURVE = (0.25, 0.5)  # shares of the triples that a learning curve also trains on
NOTHING = "-"

Part: TypeAlias = Literal[
    "prepare", "write queries", "embed documents", "embed windows", "train", "rerank", "search and measure"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Seconds on this machine, per document or pair and to start each model."""

    write: float
    embed: float
    embed_windows: float
    rerank: float
    start_writer: float
    start_encoder: float
    start_reranker: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """The sizes of a run; `queries` are the test queries, None if they will be held out of the generated ones."""

    documents: int
    queries: int | None
    embedded: tuple[str, ...] = ()  # parts whose embeddings are cached
    written: int = 0  # documents with queries from the prompt trial
    judged: int | None = None  # judged dev queries, which replace generated ones for choosing mix and reranking
    pairs: int = 0  # additional training queries written by people


@dataclass(frozen=True, slots=True)
class Share:
    """One part of a run with its estimated seconds."""

    part: Part
    work: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The planned settings by name, and the estimate per part."""

    settings: Mapping[str, Any]
    shares: Sequence[Share]
    notes: Sequence[str] = field(default_factory=tuple)

    @property
    def seconds(self) -> float:
        return math.fsum(share.seconds for share in self.shares)

    def applied(self, options: PipelineOptions) -> PipelineOptions:
        return replace(options, **self.settings)


def table(shares: Sequence[Share], facts: Mapping[Part, float] | None = None) -> list[str]:
    """Format the plan as lines of part, work, estimate and, if known, actual time."""
    rows: list[tuple[str, str, str, str]] = [
        (share.part, share.work, duration(share.seconds), _fact(share, facts)) for share in shares
    ]
    total = math.fsum(share.seconds for share in shares)
    whole = "" if facts is None else duration(math.fsum(facts.values()))
    rows = [("part", "work", "estimate", "" if facts is None else "fact"), *rows, ("total", "", duration(total), whole)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        f"{part:{widths[0]}}  {work:{widths[1]}}  {planned:>{widths[2]}}  {took:>{widths[3]}}".rstrip()
        for part, work, planned, took in rows
    ]


def _fact(share: Share, facts: Mapping[Part, float] | None) -> str:
    if facts is None or share.part == "prepare":  # done before the plan, so its estimate is the fact
        return ""
    return duration(facts[share.part]) if share.part in facts else NOTHING


def plan_run(
    rates: Rates, work: Work, options: PipelineOptions, named: frozenset[str], *, budget: float, spent: float
) -> Plan:
    """Plan for `budget` seconds, of which `spent` have passed; the `named` settings are kept.

    The estimate stays within `SPENT` of the budget; if not even the minimum fits, a note says so.
    """
    planner = _Planner(rates, work, named, SPENT * budget, spent)
    forms = list(_forms(options, named))
    least = {form.embedding: planner.least(form) for form in forms}
    best = next((minimum for minimum in least.values() if planner.fits(minimum)), None)
    chosen = [*least.values()][-1] if best is None else planner.filled(best)  # the last is the cheapest
    settings = {name: getattr(chosen, name) for name in PLANNED}
    return Plan(settings=settings, shares=planner.shares(chosen), notes=list(_notes(planner, forms, chosen, budget)))


@dataclass(frozen=True, slots=True)
class _Form:
    """A way to embed documents, and the options for it."""

    embedding: Literal["windows", "whole", "none"]
    options: PipelineOptions


def _forms(options: PipelineOptions, named: frozenset[str]) -> Iterator[_Form]:
    """The forms that the named flags allow, from the best to the cheapest."""
    if options.retriever != BM25:
        if options.window_tokens:
            yield _Form("windows", options)
        if not options.window_tokens or "window_tokens" not in named:
            yield _Form("whole", replace(options, window_tokens=0))
    if options.retriever == BM25 or not named & {"retriever", "window_tokens"}:
        yield _Form("none", replace(options, retriever=BM25, window_tokens=0))


@dataclass(frozen=True, slots=True)
class _Planner:
    rates: Rates
    work: Work
    named: frozenset[str]
    available: float
    spent: float

    def seconds(self, options: PipelineOptions) -> float:
        return math.fsum(share.seconds for share in self.shares(options))

    def fits(self, options: PipelineOptions) -> bool:
        return self.seconds(options) <= self.available

    def least(self, form: _Form) -> PipelineOptions:
        """The minimum settings with a form: reranking precedes windows in value, but not the mix."""
        depth = MIN_DEPTH if form.embedding == "windows" else 0
        minimum: dict[str, Any] = {
            "max_documents": max(MIN_DOCUMENTS, self.work.written),  # those of the trial cost nothing
            "rerank_depth": depth,
            "training": "never",
            "late_interaction_depth": 0,
        }
        changed = {name: value for name, value in minimum.items() if name not in self.named}
        return replace(form.options, **changed).with_default_top_k(self.named)

    def filled(self, options: PipelineOptions) -> PipelineOptions:
        """Raise the settings step by step until one does not fit in full."""
        for name, target in self._steps(options):
            if name == "training":
                larger = replace(options, training="auto", max_documents=target).with_default_top_k(self.named)
                if not self.fits(larger):
                    return options
                options = larger
            else:
                options = self.raised(options, name, target)
                if name not in self.named and getattr(options, name) < target:
                    return options
        return options

    def raised(self, options: PipelineOptions, name: str, target: int) -> PipelineOptions:
        low = getattr(options, name)
        if name in self.named or low >= target:
            return options

        def at(value: int) -> PipelineOptions:
            values: dict[str, Any] = {name: value}
            return replace(options, **values).with_default_top_k(self.named)

        high = target
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.fits(at(middle)) else (low, middle - 1)
        if name == "rerank_depth" and low == 1:  # reranking one document changes nothing
            low = 0
        written = self.work.written
        few = low < target and 0 < (low - written) * self.rates.write < self.rates.start_writer
        if name == "max_documents" and written >= getattr(options, name) and few:
            low = written  # writing for so few takes less than loading the model for them
        return at(low)

    def _steps(self, options: PipelineOptions) -> list[tuple[str, int]]:
        """Settings to raise, and their targets, in order."""
        documents = self.work.documents
        if options.retriever == BM25 and self.work.queries is not None:  # synthetic queries would have no use
            return [("rerank_depth", DEEPEST)]
        steps = [("late_interaction_depth", LATE_DEPTH)] if options.retriever != BM25 else []
        steps += [("rerank_depth", MIN_DEPTH), ("max_documents", 200), ("rerank_depth", 20), ("max_documents", 500)]
        steps = [(name, min(target, documents) if name == "max_documents" else target) for name, target in steps]
        steps.append(("rerank_depth", DEEPEST))
        trained = math.ceil(MIN_STEPS * RetrieverOptions(model="").batch_size / MINED)
        free = not self.named & {"training", "max_documents"}
        if options.retriever != BM25 and free and documents >= trained:
            steps += [("training", trained)]
        return [*steps, ("max_documents", documents)]

    def shares(self, options: PipelineOptions) -> list[Share]:
        rates, work = self.rates, self.work
        documents = min(options.max_documents or work.documents, work.documents)
        queries = work.queries if work.queries is not None else math.ceil(options.dev_share * documents)
        shares = [Share("prepare", "reading, BM25's index, trials: done", self.spent), self._writing(documents)]
        encoders = 0
        if options.retriever != BM25:
            views: list[tuple[Part, float]] = [("embed documents", rates.embed)]
            views += [("embed windows", rates.embed_windows)] if options.window_tokens else []
            encoders = len(views)
            for part, each in views:
                remaining = 0 if part in work.embedded else work.documents
                shares.append(Share(part, f"{remaining:,} documents", rates.start_encoder + remaining * each))
        if options.training != "never":
            shares.append(self._training(options, documents))
        judged = 0 if options.retriever == BM25 else work.judged or 0
        if (options.rerank_depth or _late_depth(options)) and queries + judged:
            shares.append(self._reranking(options, queries, judged))
        query_embeddings = ((judged or min(CHOSEN_BY, documents)) + (SEARCHES - 1) * queries) * encoders
        closing = (
            CLOSING_SECONDS
            + (SEARCHES - 1) * encoders * rates.start_encoder
            + query_embeddings * QUERY_COST * rates.embed
        )
        return [*shares, Share("search and measure", f"{queries:,} queries", closing)]

    def _writing(self, documents: int) -> Share:
        remaining = max(0, documents - self.work.written)
        known = f", {documents - remaining:,} of them in the trial" if remaining < documents else ""
        seconds = self.rates.start_writer + remaining * self.rates.write if remaining else 0.0
        return Share("write queries", f"{documents:,} documents{known}", seconds)

    def _reranking(self, options: PipelineOptions, queries: int, judged: int) -> Share:
        """Reranking for the test queries and, before that, for the dev queries that choose weight and depth.

        MaxSim encodes each document once for all queries, in the time of an embedding.
        """
        depth, starts = options.rerank_depth, bool(queries) + bool(judged)
        depths = [f"depth {depth}"] if depth else []
        depths += [f"MaxSim to {late}"] if (late := _late_depth(options)) else []
        work = f"{queries:,} queries{f' and {judged:,} dev queries' if judged else ''}, {', '.join(depths)}"
        seconds = (queries + judged) * depth * self.rates.rerank
        seconds += starts * self.rates.start_reranker if depth else 0.0
        if late:
            documents = sum(min(count * late, self.work.documents) for count in (queries, judged))
            seconds += starts * self.rates.start_encoder + documents * self.rates.embed
        return Share("rerank", work, seconds)

    def _training(self, options: PipelineOptions, documents: int) -> Share:
        """Training the bi-encoder, embedding with it, and training a reranker unless it wrote the queries."""
        rates, triples = self.rates, (min(options.top_k, documents) + self.work.pairs) * options.per_query
        each = rates.embed_windows if options.window_tokens else rates.embed
        seconds = 2 * rates.start_encoder
        if options.retriever != BM25:
            passes, models = (1 + sum(CURVE), 1 + len(CURVE)) if options.learning_curve else (1, 1)
            seconds += passes * options.retriever_epochs * triples * 2 * TRAINING_COST * rates.embed
            seconds += models * (SEARCHES * rates.start_encoder + self.work.documents * each)
        if options.trains_reranker and (options.training == "always" or options.reranker != options.model):
            seconds += options.reranker_epochs * triples * 2 * TRAINING_COST * rates.rerank
        curve = " and a learning curve" * options.learning_curve
        return Share("train", f"at most {triples:,} triples{curve}", seconds)


def _late_depth(options: PipelineOptions) -> int:
    """The depth of late interaction, 0 for BM25 alone."""
    return options.late_interaction_depth if options.retriever != BM25 else 0


def _notes(planner: _Planner, forms: Sequence[_Form], chosen: PipelineOptions, budget: float) -> Iterator[str]:
    """What was left out, and the budget it would need."""
    left_out = {"windows": "embedding the documents in windows", "whole": "embedding the documents"}
    for form in forms:
        if form.options.retriever == chosen.retriever and form.options.window_tokens == chosen.window_tokens:
            break
        needed = as_budget(planner.seconds(planner.least(form)) / SPENT)
        yield f"{left_out[form.embedding]} is left out: with it a run needs --budget {needed} here"
    if not planner.fits(chosen):
        needed = as_budget(planner.seconds(chosen) / SPENT)
        yield f"the least that a run can do needs --budget {needed} here; {as_budget(budget)} will be exceeded"
