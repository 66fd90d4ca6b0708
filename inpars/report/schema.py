"""What reports hold: plain values; those of a run are written as `report.json` and shown as `report.html`.

Parts that a run does not have are None or empty. Knows nothing of files or of how anything is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from inpars.evaluation.significance import Difference, Interval
from inpars.report.charts import Bins, Series, Step

DEPTHS = (1, 3, 5, 10, 20, 50, 100)  # of the curves of nDCG by depth


@dataclass(frozen=True, slots=True)
class System:
    """One row of the table of results."""

    name: str
    means: Mapping[str, float]
    intervals: Mapping[str, Interval]  # of the means
    missing: int  # judged queries without a result; each scores 0
    judged_at_10: float | None = None  # share of the first ten results that somebody judged


@dataclass(frozen=True, slots=True)
class Movement:
    """How many queries a system answers better and worse than the baseline, and by how much."""

    name: str
    better: int
    worse: int
    same: int
    differences: Sequence[float]  # falling, an even sample where there are many


@dataclass(frozen=True, slots=True)
class Passage:
    """A document that is shown."""

    doc_id: str
    text: str
    relevance: int | None = None  # None where nobody judged it


@dataclass(frozen=True, slots=True)
class Moved:
    """A query that one of two systems answers better; `system` less `baseline` is its difference."""

    query_id: str
    query: str
    baseline: float
    system: float
    relevant: Passage | None
    first_of_baseline: Passage | None
    first_of_system: Passage | None


@dataclass(frozen=True, slots=True)
class Results:
    """What systems are worth."""

    metrics: Sequence[str]
    queries: int
    baseline: str
    best: str
    systems: Sequence[System]
    differences: Mapping[str, Mapping[str, Difference]]  # from the baseline: measure -> system
    movements: Sequence[Movement]  # on the first measure
    depth_curves: Sequence[Series]
    wins: Sequence[Moved] = ()
    losses: Sequence[Moved] = ()
    notes: Sequence[str] = ()

    def mean_of(self, name: str) -> float:
        """The first measure of a system."""
        return next(system.means[self.metrics[0]] for system in self.systems if system.name == name)


@dataclass(frozen=True, slots=True)
class Judged:
    """What systems are worth by the grades of a language model."""

    by: str  # who judged, in words
    results: Results


@dataclass(frozen=True, slots=True)
class Gain:
    """What the system to deploy is worth beside another one."""

    against: str  # its name in the table
    meaning: str  # what it is, for people
    value: float  # its mean
    difference: Difference


@dataclass(frozen=True, slots=True)
class Conclusion:
    """Which system to deploy, and the evidence for it."""

    system: str  # its name in the table
    description: str
    metric: str
    value: float | None  # None where nothing was measured
    queries: int
    gains: Sequence[Gain]
    reranker: Gain | None  # what the reranker adds, where there is one
    seconds_per_query: float | None  # with the loading of the models
    seconds_without_reranker: float | None
    device: str
    weight_bytes: Mapping[str, int]  # size of each model's weights on disk
    steps: Sequence[Step]  # from a query to its results
    peak_bytes: int = 0  # of the process that searched, 0 where nobody knows
    advice: Sequence[str] = ()
    commands: Sequence[str] = ()  # the next ones to type
    caveat: str = ""  # what the measures do not show


@dataclass(frozen=True, slots=True)
class Mix:
    """How the weight of the bi-encoders beside BM25 was chosen, as mean nDCG@10 of the written queries."""

    queries: int
    easy: int  # whose document BM25 finds first
    shares: Series  # the same share for all queries
    offsets: Series  # a gate moved by so much
    offset: float
    chosen: float
    before: float  # of the gate as it was learned on public collections
    equal: float  # of equal weights


@dataclass(frozen=True, slots=True)
class QueryExample:
    """A written query with its document and what became of it."""

    query_id: str
    query: str
    score: float | None
    reason: str | None
    document: Passage


@dataclass(frozen=True, slots=True)
class Written:
    """The queries that a language model wrote."""

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
    """A query between its positive and one of its negatives."""

    query_id: str
    query: str
    positive: Passage
    negative: Passage
    source: str
    rank: int | None
    score: float | None
    positive_score: float | None
    scored_by: str  # who gave the two scores


@dataclass(frozen=True, slots=True)
class Negatives:
    """The hard negatives; `suspects` may be false ones, the likeliest first."""

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
    """How a model's loss fell, and what it was worth on held-out queries meanwhile."""

    name: str
    loss: Series
    validation: Series
    validated_by: str = ""
    warning: str = ""


@dataclass(frozen=True, slots=True)
class FunnelRow:
    """How many of something a run had left, or left out: `count` and `what` read as one, `393 queries kept`."""

    what: str
    count: int
    changed_by: str = ""  # the flag, or why there is none
    left_out: bool = False


@dataclass(frozen=True, slots=True)
class StageFacts:
    """One stage as its manifest has it."""

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
    workers: Sequence[Mapping[str, Any]] = ()  # what each of a cluster did: worker, node, device, items, seconds, rate


@dataclass(frozen=True, slots=True)
class BudgetRow:
    """A part of a run with a budget: the seconds that were planned for it and those that it took."""

    part: str
    work: str
    planned: float
    took: float | None


@dataclass(frozen=True, slots=True)
class Report:
    """What a report shows."""

    title: str
    lead: str
    facts: Mapping[str, str]  # numbers that stand at the top
    results: Results | None
    conclusion: Conclusion | None = None
    mix: Mix | None = None
    pipeline: Sequence[Step] = ()  # from the documents to the measures, as this run did it
    definitions: Mapping[str, str] = field(default_factory=dict)  # of the systems by name
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
        """The same as JSON values; what is infinite is null."""
        found: dict[str, Any] = _finite(asdict(self))
        if self.judged is None:  # most reports have no such part
            del found["judged"]
        return found


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting or an input that is not the same in both runs; None where a run lacks it."""

    output: str
    name: str
    first: Any
    second: Any


@dataclass(frozen=True, slots=True)
class Shift:
    """A query of one system in both runs."""

    query_id: str
    query: str
    first: float
    second: float


@dataclass(frozen=True, slots=True)
class Compared:
    """One system of both runs on one measure."""

    system: str
    metric: str
    first: float
    second: float
    difference: Difference


@dataclass(frozen=True, slots=True)
class Comparison:
    """The first run and the second."""

    runs: tuple[str, str]
    settings: Sequence[Setting]
    measures: Sequence[Compared]
    moved: Mapping[str, tuple[Sequence[Shift], Sequence[Shift]]]  # system -> gains and losses, on the first measure
    records: Mapping[str, tuple[int | None, int | None]]  # by output
    seconds: Mapping[str, tuple[float | None, float | None]]
    notes: Sequence[str]
    problems: Sequence[str] = ()  # why there is nothing to compare, though both runs were measured


def _finite(value: Any) -> Any:  # noqa: ANN401 - JSON values
    if isinstance(value, Mapping):
        return {str(name): _finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, int | str | None) else str(value)
