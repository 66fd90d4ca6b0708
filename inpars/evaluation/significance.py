"""Significance of differences between runs: paired tests over queries, intervals, effect size and power.

Randomisation test and t-test: Smucker, Allan and Carterette, "A comparison of statistical significance tests for
information retrieval", CIKM 2007. With several systems, p-values are adjusted by Holm's step-down correction, per
measure and test. The interval of a difference inverts the randomisation test: it holds every true difference that the
test does not reject at the Holm-adjusted level, so it holds 0 exactly if the difference may be chance. Fewer than ten
queries are not tested: at least 2 of their at most 512 sign patterns are as extreme as possible.

Intervals of a single system's mean use the bootstrap with expanded percentiles, for correct coverage with few queries:
Hesterberg, "What teachers should know about the bootstrap", The American Statistician 69, 2015.
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
LEVEL = 0.05  # significance level; intervals have 1 - LEVEL confidence
POWER = 0.8  # probability of detecting a detectable difference
FEWEST_QUERIES = 10  # for a test
WORTHWHILE = 0.05  # true difference that `queries_needed` refers to
MAX_QUERIES = 1_000_000  # largest number of queries to recommend
BLOCK_NUMBERS = 4_000_000  # random numbers in memory at once
ROUNDING = 1e-12  # smaller differences of means are rounding errors
COUNT_ROUNDING = 1e-6  # the same for numbers of permutations

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

    The interval has 95% confidence, or more if Holm's correction asks for it: it excludes 0 exactly if the adjusted
    p-value is below 0.05. Interval and p-values are None for fewer than ten queries. `effect_size` is the mean in
    standard deviations of the differences (Cohen's d for pairs), None if they do not vary. `detectable` is the smallest
    true difference that this many queries of this spread show with 80% power, None if it is above 1, which no measure
    reaches. `queries_needed` is the number of queries that show a true difference of 0.05, None for a single query.
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
        """Whether there were enough queries for a test."""
        return self.adjusted_p_value is not None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Both ends, None if nothing was tested."""
        return None if self.low is None or self.high is None else (self.low, self.high)

    def is_believed(self) -> bool:
        """Whether the randomisation test finds the difference significant."""
        return self.adjusted_p_value is not None and self.adjusted_p_value < LEVEL

    @property
    def tests_disagree(self) -> bool:
        """Whether the t-test contradicts the randomisation test."""
        return self.adjusted_t_p_value is not None and self.is_believed() != (self.adjusted_t_p_value < LEVEL)


def compare(
    baseline: Mapping[str, float], systems: Mapping[str, Mapping[str, float]], *, permutations: int = PERMUTATIONS
) -> dict[str, Difference]:
    """Compare each system with the baseline by their values per query; all must have the same queries."""
    return compare_pairs({name: (baseline, values) for name, values in systems.items()}, permutations=permutations)


def compare_pairs(
    pairs: Mapping[str, tuple[Mapping[str, float], Mapping[str, float]]], *, permutations: int = PERMUTATIONS
) -> dict[str, Difference]:
    """Like `compare`, with a separate baseline per system; p-values are adjusted for the number of pairs."""
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
    """The mean with its 95% interval, which has no width for a single value or equal ones."""
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
    """The sign-flip distribution of paired differences.

    Flipping the signs of a group of queries does not reject a hypothetical true difference that lies between the mean
    of this group and the mean of the other queries: after subtracting it, the two groups pull in opposite directions.
    So the group means decide for all hypothetical differences at once.
    """

    def __init__(self, values: Values, permutations: int) -> None:
        self._values, self._tolerance = values, ROUNDING * float(np.abs(values).sum())
        means = [self._group_means(*block) for block in self._blocks(permutations)]
        self._lower = np.sort(np.concatenate([np.minimum(*pair) for pair in means]))
        self._upper = np.sort(np.concatenate([np.maximum(*pair) for pair in means]))

    @property
    def p_value(self) -> float:
        """The p-value of the hypothesis that there is no true difference."""
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
        """The bound; an infinite one, from too few queries, is replaced to include all values and 0."""
        if math.isfinite(bound):
            return bound
        return float(min(0.0, self._values.min()) if bound < 0 else max(0.0, self._values.max()))

    def _blocks(self, permutations: int) -> Iterator[tuple[Values, Values]]:
        """For each sign pattern: the sum of the flipped differences, and their number."""
        nonzero = self._values[self._values != 0]  # for zeros only the number of flips matters
        generator, zero_generator = np.random.default_rng(SEED), np.random.default_rng([SEED, 1])
        rows = max(1, BLOCK_NUMBERS // max(1, len(nonzero)))
        columns = np.stack([nonzero, np.ones_like(nonzero)], axis=1)
        for start in range(0, permutations, rows):
            count = min(rows, permutations - start)
            sums, sizes = (_random_bits(generator, count, len(nonzero)) @ columns).T
            yield sums, sizes + zero_generator.binomial(len(self._values) - len(nonzero), 0.5, size=count)

    def _group_means(self, sums: Values, sizes: Values) -> tuple[Values, Values]:
        """Means of the flipped queries and of the others; the mean of an empty group is infinite."""
        total, count = float(self._values.sum()), len(self._values)
        rest = np.where(np.abs(total - sums) <= self._tolerance, 0.0, total - sums)
        sums = np.where(np.abs(sums) <= self._tolerance, 0.0, sums)
        flipped, others = sums / np.maximum(sizes, 1), rest / np.maximum(count - sizes, 1)
        has_empty_group = (sizes == 0) | (sizes == count)
        return np.where(has_empty_group, -np.inf, flipped), np.where(has_empty_group, np.inf, others)


def t_test_p_value(differences: Sequence[float] | Values) -> float:
    """Two-sided p-value of the paired t-test; without variance it is 1 if all are zero, else 0."""
    values = np.asarray(differences, dtype=np.float64)
    if len(values) < 2 or not values.any():
        return 1.0
    deviation = values.std(ddof=1)
    if deviation <= ROUNDING * abs(values.mean()):
        return 0.0
    from scipy import special  # loads in a third of the time of scipy.stats

    return float(2 * special.stdtr(len(values) - 1, -abs(values.mean()) / (deviation / math.sqrt(len(values)))))


def detectable_difference(differences: Sequence[float] | Values) -> float | None:
    """The smallest true difference that these queries can detect (5% level, 80% power); None above 1."""
    count = len(differences)
    if count < FEWEST_QUERIES:
        return None
    smallest = _reach(count) * float(np.std(differences, ddof=1)) / math.sqrt(count)
    return smallest if smallest <= 1 else None


def queries_needed(differences: Sequence[float] | Values, difference: float = WORTHWHILE) -> int | None:
    """How many queries of this spread detect such a true difference (5% level, 80% power); None if unknown."""
    if len(differences) < 2:
        return None
    deviation, too_few, enough_queries = float(np.std(differences, ddof=1)), FEWEST_QUERIES - 1, MAX_QUERIES
    while enough_queries - too_few > 1:
        count = (too_few + enough_queries) // 2
        enough = _reach(count) * deviation / math.sqrt(count) <= difference
        too_few, enough_queries = (too_few, count) if enough else (count, enough_queries)
    return enough_queries if enough_queries < MAX_QUERIES else None


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values with Holm's step-down adjustment, in the same order."""
    order = sorted(range(len(p_values)), key=lambda position: p_values[position])
    adjusted, floor = [0.0] * len(p_values), 0.0
    for step, position in enumerate(order):
        floor = max(floor, min(1.0, (len(p_values) - step) * p_values[position]))
        adjusted[position] = floor
    return adjusted


def _untested(values: Values) -> Difference:
    """The difference with everything that needs no test."""
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
    """The detectable difference in standard errors."""
    return _student(count, 1 - LEVEL / 2) + _student(count, POWER)


def _expanded_tails(count: int) -> tuple[float, float]:
    """The quantiles of resampled means that give a 95% interval from `count` values."""
    reach = math.sqrt(count / (count - 1)) * _student(count, 1 - LEVEL / 2)
    from scipy import special

    tail = float(special.ndtr(-reach))
    return tail, 1 - tail


def _student(count: int, probability: float) -> float:
    """The quantile of Student's t with `count - 1` degrees of freedom."""
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
