"""The values of a report, which `report.json` stores and `report.html` shows.

Sections that a run does not have are None or empty.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from inpars.evaluation.significance import Difference, Interval
from inpars.report.charts import Bins, Series, Step

DEPTHS = (1, 3, 5, 10, 20, 50, 100)  # cutoffs of the nDCG curves


@dataclass(frozen=True, slots=True)
class System:
    """One row of the table of results."""

    name: str
    means: Mapping[str, float]
    intervals: Mapping[str, Interval]  # of the means
    missing: int  # judged queries without results; each scores 0
    judged_at_10: float | None = None  # share of the first ten results that are judged


@dataclass(frozen=True, slots=True)
class Movement:
    """How many queries a system improves and worsens over the baseline, and by how much."""

    name: str
    better: int
    worse: int
    same: int
    differences: Sequence[float]  # descending; an even sample if there are many


@dataclass(frozen=True, slots=True)
class Passage:
    """A document with the beginning of its text."""

    doc_id: str
    text: str
    relevance: int | None = None  # None if unjudged


@dataclass(frozen=True, slots=True)
class Moved:
    """A query whose value differs between the baseline and a system."""

    query_id: str
    query: str
    baseline: float
    system: float
    relevant: Passage | None
    first_of_baseline: Passage | None
    first_of_system: Passage | None


@dataclass(frozen=True, slots=True)
class Results:
    """The measures of all systems."""

    metrics: Sequence[str]
    queries: int
    baseline: str
    best: str
    systems: Sequence[System]
    differences: Mapping[str, Mapping[str, Difference]]  # measure -> system -> difference from the baseline
    movements: Sequence[Movement]  # by the first measure
    depth_curves: Sequence[Series]
    wins: Sequence[Moved] = ()
    losses: Sequence[Moved] = ()
    notes: Sequence[str] = ()

    def mean_of(self, name: str) -> float:
        """The mean of the first measure for a system."""
        return next(system.means[self.metrics[0]] for system in self.systems if system.name == name)


@dataclass(frozen=True, slots=True)
class Judged:
    """The measures of all systems by a language model's grades."""

    by: str  # description of the judge
    results: Results


@dataclass(frozen=True, slots=True)
class Gain:
    """What the system to deploy gains over another system."""

    against: str  # the other system's name in the table
    meaning: str  # its description
    value: float  # its mean
    difference: Difference


@dataclass(frozen=True, slots=True)
class Conclusion:
    """Which system to deploy, and the evidence for it."""

    system: str  # its name in the table
    description: str
    metric: str
    value: float | None  # None if nothing was measured
    queries: int
    gains: Sequence[Gain]
    reranker: Gain | None  # gain from the reranker, if there is one
    seconds_per_query: float | None  # including model loading
    seconds_without_reranker: float | None
    device: str
    weight_bytes: Mapping[str, int]  # model -> size of its weights on disk
    steps: Sequence[Step]  # from a query to its results
    peak_bytes: int = 0  # peak memory of the search process, 0 if unknown
    advice: Sequence[str] = ()
    commands: Sequence[str] = ()  # suggested next commands
    caveat: str = ""  # what the measures do not show


@dataclass(frozen=True, slots=True)
class Mix:
    """How the bi-encoders' weight relative to BM25 was chosen; values are mean nDCG@10 of the queries that chose it."""

    queries: int
    easy: int  # queries whose document BM25 ranks first
    shares: Series  # nDCG@10 by one share for all queries
    offsets: Series  # nDCG@10 by the gate's offset
    offset: float
    chosen: float
    before: float  # with the gate as learned on public collections
    equal: float  # with equal weights
    by: str  # the kind of these queries: synthetic, or judged dev
    weighing: str  # alike, matched (to real queries), or easy ones a quarter


@dataclass(frozen=True, slots=True)
class QueryExample:
    """A synthetic query with its document and the filter's verdict."""

    query_id: str
    query: str
    score: float | None
    reason: str | None
    document: Passage


@dataclass(frozen=True, slots=True)
class Written:
    """The synthetic queries."""

    score_name: str
    count: int
    kept: int
    lowest_kept: float | None
    bins: Bins | None
    keep_curve: Series
    dropped: Mapping[str, int]
    kept_examples: Sequence[QueryExample]
    dropped_examples: Sequence[QueryExample]


@dataclass(frozen=True, slots=True)
class NegativeExample:
    """A query with its positive and one of its negatives."""

    query_id: str
    query: str
    positive: Passage
    negative: Passage
    source: str
    rank: int | None
    score: float | None
    positive_score: float | None
    scored_by: str  # source of the two scores


@dataclass(frozen=True, slots=True)
class Negatives:
    """The hard negatives; `suspects` may be false negatives, the likeliest first."""

    count: int
    queries: int
    ranks: Bins | None
    shares: Bins | None  # a negative's score as a share of its positive's
    at_least_positive: int
    examples: Sequence[NegativeExample]
    suspects: Sequence[NegativeExample]
    suspects_from: str


@dataclass(frozen=True, slots=True)
class Training:
    """A model's training loss and its quality on held-out queries."""

    name: str
    loss: Series
    validation: Series
    validated_by: str = ""
    warning: str = ""


@dataclass(frozen=True, slots=True)
class FunnelRow:
    """How many items a run kept or left out, read as `count what`: `393 queries kept`."""

    what: str
    count: int
    changed_by: str = ""  # the flag that changes it, or the reason for the count
    left_out: bool = False


@dataclass(frozen=True, slots=True)
class StageFacts:
    """One stage according to its manifest."""

    stage: str
    output: str  # relative to the run's folder
    records: int | None
    seconds: float
    usd: float | None
    device: str
    sha256: str
    inputs: Mapping[str, str]  # name -> sha256
    arguments: Mapping[str, Any]
    dropped: Mapping[str, int]
    started: str = ""
    git_commit: str | None = None
    workers: Sequence[Mapping[str, Any]] = ()  # per worker: worker, node, device, items, seconds, rate


@dataclass(frozen=True, slots=True)
class BudgetRow:
    """Planned and actual seconds of one part of a run with a budget."""

    part: str
    work: str
    planned: float
    took: float | None


@dataclass(frozen=True, slots=True)
class Report:
    """All values of a report."""

    title: str
    lead: str
    facts: Mapping[str, str]  # numbers at the top
    results: Results | None
    conclusion: Conclusion | None = None
    mix: Mix | None = None
    pipeline: Sequence[Step] = ()  # from the documents to the measures
    definitions: Mapping[str, str] = field(default_factory=dict)  # system name -> description
    funnel: Sequence[FunnelRow] = ()
    written: Written | None = None
    negatives: Negatives | None = None
    trainings: Sequence[Training] = ()
    stages: Sequence[StageFacts] = ()
    budget: Sequence[BudgetRow] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    commands: Sequence[str] = ()
    judged: Judged | None = None

    def values(self) -> dict[str, Any]:
        """The report as JSON values; numbers that are not finite become null."""
        values: dict[str, Any] = _finite(asdict(self))
        if self.judged is None:  # as in most reports
            del values["judged"]
        return values


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting or an input that differs between two runs; None if a run does not have it."""

    output: str
    name: str
    first: Any
    second: Any


@dataclass(frozen=True, slots=True)
class Shift:
    """The values of one query and system in both runs."""

    query_id: str
    query: str
    first: float
    second: float


@dataclass(frozen=True, slots=True)
class Compared:
    """One system and measure in both runs."""

    system: str
    metric: str
    first: float
    second: float
    difference: Difference


@dataclass(frozen=True, slots=True)
class Comparison:
    """The comparison of two runs."""

    runs: tuple[str, str]
    settings: Sequence[Setting]
    measures: Sequence[Compared]
    moved: Mapping[str, tuple[Sequence[Shift], Sequence[Shift]]]  # system -> gains and losses, on the first measure
    records: Mapping[str, tuple[int | None, int | None]]  # output -> records in both runs
    seconds: Mapping[str, tuple[float | None, float | None]]
    notes: Sequence[str]
    problems: Sequence[str] = ()  # why two measured runs cannot be compared


def _finite(value: Any) -> Any:  # noqa: ANN401 - JSON values
    if isinstance(value, Mapping):
        return {str(name): _finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, int | str | None) else str(value)
