"""Is a difference between two runs more than chance: paired tests over queries, intervals, effect size and power.

Smucker, Allan and Carterette, "A comparison of statistical significance tests for information retrieval", CIKM 2007,
for the randomisation test and the t-test; Holm's step-down correction where several systems are compared with one (for
each measure and test by itself); bootstrap intervals with expanded percentiles, so that they hold what they promise for
few queries too: Hesterberg, "What teachers should know about the bootstrap", The American Statistician 69, 2015.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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
BLOCK_NUMBERS = 4_000_000  # random numbers held in memory at once
ROUNDING = 1e-12  # differences of means below this come from the order of additions

Values: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over queries and its 95% bootstrap interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Difference:
    """Mean of `system - baseline` over queries, its 95% bootstrap interval and the p-values of two-sided tests.

    `effect_size` is the mean in standard deviations of the differences (Cohen's d for pairs), None where they do not
    vary. `detectable` is the least true difference that this many queries of this spread show with 80% chance, None
    for a single query.
    """

    mean: float
    low: float
    high: float
    p_value: float
    queries: int
    adjusted_p_value: float
    t_p_value: float = 1.0
    adjusted_t_p_value: float = 1.0
    effect_size: float | None = None
    detectable: float | None = None
    better: int = 0  # queries above the baseline
    worse: int = 0

    def is_believed(self, level: float = LEVEL) -> bool:
        """Whether chance alone would rarely give a difference this large, by the randomisation test."""
        return self.adjusted_p_value < level

    @property
    def tests_disagree(self) -> bool:
        """Whether the t-test decides otherwise than the randomisation test."""
        return self.is_believed() != (self.adjusted_t_p_value < LEVEL)


def compare(
    baseline: Mapping[str, float],
    systems: Mapping[str, Mapping[str, float]],
    *,
    permutations: int = PERMUTATIONS,
    bootstraps: int = BOOTSTRAPS,
) -> dict[str, Difference]:
    """Each system against the baseline, by their values per query (the same queries in all)."""
    differences = {name: _paired(baseline, values, name) for name, values in systems.items()}
    plain = {name: _difference(values, permutations, bootstraps) for name, values in differences.items()}
    adjusted = holm([difference.p_value for difference in plain.values()])
    adjusted_t = holm([difference.t_p_value for difference in plain.values()])
    return {
        name: replace(difference, adjusted_p_value=p, adjusted_t_p_value=t)
        for (name, difference), p, t in zip(plain.items(), adjusted, adjusted_t, strict=True)
    }


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


def randomisation_p_value(differences: Sequence[float], permutations: int = PERMUTATIONS) -> float:
    """Two-sided p-value of the mean paired difference under random signs; all zero gives 1."""
    values = np.asarray(differences, dtype=np.float64)
    values = values[values != 0]
    if not len(values):
        return 1.0
    total = values.sum()
    generator, extreme, rows = np.random.default_rng(SEED), 0, max(1, BLOCK_NUMBERS // len(values))
    for start in range(0, permutations, rows):
        flipped = _random_bits(generator, min(rows, permutations - start), len(values)) @ values
        extreme += int((np.abs(total - 2 * flipped) >= abs(total) - ROUNDING * np.abs(values).sum()).sum())
    return (extreme + 1) / (permutations + 1)


def t_test_p_value(differences: Sequence[float]) -> float:
    """Two-sided p-value of Student's t-test of paired differences; without spread 1 for none, 0 for a constant one."""
    values = np.asarray(differences, dtype=np.float64)
    if len(values) < 2 or not values.any():
        return 1.0
    deviation = values.std(ddof=1)
    if deviation <= ROUNDING * abs(values.mean()):
        return 0.0
    from scipy import special  # takes a third of a second to load, and scipy.stats a whole one

    return float(2 * special.stdtr(len(values) - 1, -abs(values.mean()) / (deviation / math.sqrt(len(values)))))


def detectable_difference(differences: Sequence[float]) -> float | None:
    """The least true difference that as many queries of this spread show, at 5%, with 80% chance."""
    count = len(differences)
    if count < 2:
        return None
    reach = _student(count, 1 - LEVEL / 2) + _student(count, POWER)
    return reach * float(np.std(differences, ddof=1)) / math.sqrt(count)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment, in the order given."""
    order = sorted(range(len(p_values)), key=lambda position: p_values[position])
    adjusted, floor = [0.0] * len(p_values), 0.0
    for step, position in enumerate(order):
        floor = max(floor, min(1.0, (len(p_values) - step) * p_values[position]))
        adjusted[position] = floor
    return adjusted


def _difference(values: Sequence[float], permutations: int, bootstraps: int) -> Difference:
    interval = bootstrap_interval(values, bootstraps)
    p_value, t_p_value = randomisation_p_value(values, permutations), t_test_p_value(values)
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return Difference(
        mean=interval.mean,
        low=interval.low,
        high=interval.high,
        p_value=p_value,
        queries=len(values),
        adjusted_p_value=p_value,
        t_p_value=t_p_value,
        adjusted_t_p_value=t_p_value,
        effect_size=interval.mean / deviation if deviation > ROUNDING else None,
        detectable=detectable_difference(values),
        better=sum(value > 0 for value in values),
        worse=sum(value < 0 for value in values),
    )


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
