"""Is a difference between two runs more than chance: paired tests over queries, intervals, effect size and power.

Smucker, Allan and Carterette, "A comparison of statistical significance tests for information retrieval", CIKM 2007,
for the randomisation test and the t-test; Holm's step-down correction where several systems are compared with one (for
each measure and test by itself). A difference's interval is the randomisation test turned round: it holds all those
true differences that the test, as strict as Holm's correction makes it, does not refuse. So it holds 0 exactly where
the difference may be chance. Fewer than ten queries are not tested: 2 of their 512 sign patterns or more are as extreme
as can be.

Intervals of a single system's mean are bootstrapped with expanded percentiles, so that they hold what they promise for
few queries too: Hesterberg, "What teachers should know about the bootstrap", The American Statistician 69, 2015.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from inpars.errors import ConfigError

PERMUTATIONS = 20_000
BOOTSTRAPS = 10_000
SEED = 20_070_101
LEVEL = 0.05  # of tests; intervals hold the rest
POWER = 0.8  # chance to see a difference of the size that is called detectable
FEWEST_QUERIES = 10  # for a test
WORTHWHILE = 0.05  # the true difference for which the number of queries is named
MAX_QUERIES = 1_000_000  # that anybody is told to judge
BLOCK_NUMBERS = 4_000_000  # random numbers held in memory at once
ROUNDING = 1e-12  # differences of means below this come from the order of additions
COUNT_ROUNDING = 1e-6  # the same of numbers of permutations

Values: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over queries and its 95% bootstrap interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Difference:
    """Mean of `system - baseline` over queries, its interval and the p-values of two-sided tests.

    The interval is of 95%, or of more where Holm's correction asks for more: 0 is outside exactly where the adjusted
    p-value is below 0.05. Interval, p-values and what follows from them are None for fewer than ten queries.
    `effect_size` is the mean in standard deviations of the differences (Cohen's d for pairs), None where they do not
    vary. `detectable` is the least true difference that this many queries of this spread show with 80% chance, None
    above 1 too, where no measure can differ that much. `queries_needed` is how many show one of 0.05, None where one
    query cannot say.
    """

    mean: float
    low: float | None
    high: float | None
    p_value: float | None
    queries: int
    adjusted_p_value: float | None
    t_p_value: float | None = None
    adjusted_t_p_value: float | None = None
    effect_size: float | None = None
    detectable: float | None = None
    better: int = 0  # queries above the baseline
    worse: int = 0
    queries_needed: int | None = None

    @property
    def is_tested(self) -> bool:
        """Whether there were queries enough for a test."""
        return self.adjusted_p_value is not None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Both ends, None where nothing was tested."""
        return None if self.low is None or self.high is None else (self.low, self.high)

    def is_believed(self) -> bool:
        """Whether chance alone would rarely give a difference this large, by the randomisation test."""
        return self.adjusted_p_value is not None and self.adjusted_p_value < LEVEL

    @property
    def tests_disagree(self) -> bool:
        """Whether the t-test decides otherwise than the randomisation test."""
        return self.adjusted_t_p_value is not None and self.is_believed() != (self.adjusted_t_p_value < LEVEL)


def compare(
    baseline: Mapping[str, float], systems: Mapping[str, Mapping[str, float]], *, permutations: int = PERMUTATIONS
) -> dict[str, Difference]:
    """Each system against the baseline, by their values per query (the same queries in all)."""
    return compare_pairs({name: (baseline, values) for name, values in systems.items()}, permutations=permutations)


def compare_pairs(
    pairs: Mapping[str, tuple[Mapping[str, float], Mapping[str, float]]], *, permutations: int = PERMUTATIONS
) -> dict[str, Difference]:
    """As `compare`, each system against a baseline of its own; the tests are adjusted for their number."""
    differences = {name: np.asarray(_paired(*pair, name), dtype=np.float64) for name, pair in pairs.items()}
    tested = {name: values for name, values in differences.items() if len(values) >= FEWEST_QUERIES}
    signed = {name: _RandomSigns(values, permutations) for name, values in tested.items()}
    adjusted = dict(zip(tested, holm([one.p_value for one in signed.values()]), strict=True))
    students = {name: t_test_p_value(values) for name, values in tested.items()}
    adjusted_t = dict(zip(tested, holm(list(students.values())), strict=True))
    results = {name: _untested(values) for name, values in differences.items()}
    for name, signs in signed.items():
        low, high = signs.interval(LEVEL * signs.p_value / adjusted[name])
        results[name] = replace(
            results[name],
            low=low,
            high=high,
            p_value=signs.p_value,
            adjusted_p_value=adjusted[name],
            t_p_value=students[name],
            adjusted_t_p_value=adjusted_t[name],
            detectable=detectable_difference(tested[name]),
        )
    return results


def bootstrap_interval(values: Sequence[float], resamples: int = BOOTSTRAPS) -> Interval:
    """The mean with its 95% interval; a single value is all there is to know."""
    array = np.asarray(values, dtype=np.float64)
    if not len(array):
        raise ConfigError("there are no values to give an interval for")
    mean = math.fsum(array) / len(array)
    if len(array) == 1 or not np.ptp(array):
        return Interval(mean, mean, mean)
    generator, rows = np.random.default_rng(SEED), max(1, BLOCK_NUMBERS // len(array))
    means = np.concatenate(
        [
            array[
                generator.integers(0, len(array), size=(min(rows, resamples - start), len(array)), dtype=np.int32)
            ].mean(axis=1)
            for start in range(0, resamples, rows)
        ]
    )
    low, high = np.quantile(means, _expanded_tails(len(array)))
    return Interval(mean, float(low), float(high))


def randomisation_p_value(differences: Sequence[float] | Values, permutations: int = PERMUTATIONS) -> float:
    """Two-sided p-value of the mean paired difference under random signs; all zero gives 1."""
    return _RandomSigns(np.asarray(differences, dtype=np.float64), permutations).p_value


class _RandomSigns:
    """Differences under random signs.

    A true difference is not refused by signs that turn round a group of queries if it lies between the mean of these
    and the mean of the others: less what is true, the two groups pull in opposite directions. So the means of the
    groups say all about any true difference at once.
    """

    def __init__(self, values: Values, permutations: int) -> None:
        self._values, self._tolerance = values, ROUNDING * float(np.abs(values).sum())
        means = [self._group_means(*block) for block in self._blocks(permutations)]
        self._lower = np.sort(np.concatenate([np.minimum(*pair) for pair in means]))
        self._upper = np.sort(np.concatenate([np.maximum(*pair) for pair in means]))

    @property
    def p_value(self) -> float:
        """Of no true difference."""
        if abs(self._values.sum()) <= self._tolerance:
            return 1.0
        above = self._values.sum() > 0
        extreme = (self._lower <= 0).sum() if above else (self._upper >= 0).sum()
        return (int(extreme) + 1) / (len(self._lower) + 1)

    def interval(self, level: float) -> tuple[float, float]:
        """The true differences whose p-value is not below `level`."""
        rank = max(1, math.ceil(level * (len(self._lower) + 1) - 1 - COUNT_ROUNDING))
        return self._within(float(self._lower[rank - 1])), self._within(float(self._upper[-rank]))

    def _within(self, bound: float) -> float:
        """The bound; where the queries are too few for one, what they have and no difference at all lie within."""
        if math.isfinite(bound):
            return bound
        return float(min(0.0, self._values.min()) if bound < 0 else max(0.0, self._values.max()))

    def _blocks(self, permutations: int) -> Iterator[tuple[Values, Values]]:
        """For each of the signs: the sum of the queries that are turned round, and their number."""
        moved = self._values[self._values != 0]  # the others have no sign, and a random share of them is turned round
        generator, others = np.random.default_rng(SEED), np.random.default_rng([SEED, 1])
        rows = max(1, BLOCK_NUMBERS // max(1, len(moved)))
        columns = np.stack([moved, np.ones_like(moved)], axis=1)
        for start in range(0, permutations, rows):
            count = min(rows, permutations - start)
            sums, sizes = (_random_bits(generator, count, len(moved)) @ columns).T
            yield sums, sizes + others.binomial(len(self._values) - len(moved), 0.5, size=count)

    def _group_means(self, sums: Values, sizes: Values) -> tuple[Values, Values]:
        """Means of the queries that are turned round and of the others; an empty group is as far away as can be."""
        total, count = float(self._values.sum()), len(self._values)
        rest = np.where(np.abs(total - sums) <= self._tolerance, 0.0, total - sums)
        sums = np.where(np.abs(sums) <= self._tolerance, 0.0, sums)
        turned, others = sums / np.maximum(sizes, 1), rest / np.maximum(count - sizes, 1)
        alone = (sizes == 0) | (sizes == count)
        return np.where(alone, -np.inf, turned), np.where(alone, np.inf, others)


def t_test_p_value(differences: Sequence[float] | Values) -> float:
    """Two-sided p-value of Student's t-test of paired differences; without spread 1 for none, 0 for a constant one."""
    values = np.asarray(differences, dtype=np.float64)
    if len(values) < 2 or not values.any():
        return 1.0
    deviation = values.std(ddof=1)
    if deviation <= ROUNDING * abs(values.mean()):
        return 0.0
    from scipy import special  # takes a third of a second to load, and scipy.stats a whole one

    return float(2 * special.stdtr(len(values) - 1, -abs(values.mean()) / (deviation / math.sqrt(len(values)))))


def detectable_difference(differences: Sequence[float] | Values) -> float | None:
    """The smallest true difference that these queries can show (5% level, 80% power); None above 1."""
    count = len(differences)
    if count < FEWEST_QUERIES:
        return None
    smallest = _reach(count) * float(np.std(differences, ddof=1)) / math.sqrt(count)
    return smallest if smallest <= 1 else None


def queries_needed(differences: Sequence[float] | Values, difference: float = WORTHWHILE) -> int | None:
    """How many queries of this spread show such a true difference (5% level, 80% power); None if unknown."""
    if len(differences) < 2:
        return None
    deviation, too_few, enough_queries = float(np.std(differences, ddof=1)), FEWEST_QUERIES - 1, MAX_QUERIES
    while enough_queries - too_few > 1:
        count = (too_few + enough_queries) // 2
        enough = _reach(count) * deviation / math.sqrt(count) <= difference
        too_few, enough_queries = (too_few, count) if enough else (count, enough_queries)
    return enough_queries if enough_queries < MAX_QUERIES else None


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment, in the order given."""
    order = sorted(range(len(p_values)), key=lambda position: p_values[position])
    adjusted, floor = [0.0] * len(p_values), 0.0
    for step, position in enumerate(order):
        floor = max(floor, min(1.0, (len(p_values) - step) * p_values[position]))
        adjusted[position] = floor
    return adjusted


def _untested(values: Values) -> Difference:
    """All that can be said without a test."""
    mean = math.fsum(values) / len(values)
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return Difference(
        mean=mean,
        low=None,
        high=None,
        p_value=None,
        queries=len(values),
        adjusted_p_value=None,
        effect_size=mean / deviation if deviation > ROUNDING else None,
        better=int((values > 0).sum()),
        worse=int((values < 0).sum()),
        queries_needed=queries_needed(values),
    )


def _reach(count: int) -> float:
    """How many standard errors a true difference must have to be seen."""
    return _student(count, 1 - LEVEL / 2) + _student(count, POWER)


def _expanded_tails(count: int) -> tuple[float, float]:
    """The quantiles of resampled means that make an interval of 95% from `count` values."""
    reach = math.sqrt(count / (count - 1)) * _student(count, 1 - LEVEL / 2)
    from scipy import special

    tail = float(special.ndtr(-reach))
    return tail, 1 - tail


def _student(count: int, probability: float) -> float:
    """The quantile of Student's t of the mean of `count` values."""
    from scipy import special

    return float(special.stdtrit(count - 1, probability))


def _random_bits(generator: np.random.Generator, rows: int, columns: int) -> Values:
    """Zeros and ones, (rows, columns)."""
    drawn = np.frombuffer(generator.bytes(rows * ((columns + 7) // 8)), dtype=np.uint8).reshape(rows, -1)
    return np.unpackbits(drawn, axis=1, count=columns).astype(np.float64)


def _paired(baseline: Mapping[str, float], values: Mapping[str, float], name: str) -> list[float]:
    if baseline.keys() != values.keys():
        raise ConfigError(f"{name} and the baseline were measured on different queries")
    return [values[query_id] - baseline[query_id] for query_id in baseline]
