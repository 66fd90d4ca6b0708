"""Is a difference between two runs more than chance: a paired randomisation test over queries, and an interval.

Smucker, Allan and Carterette, "A comparison of statistical significance tests for information retrieval", CIKM 2007;
Holm's step-down correction where several systems are compared with one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from inpars.errors import ConfigError

PERMUTATIONS = 20_000
BOOTSTRAPS = 10_000
SEED = 20_070_101
BLOCK = 1_000  # permutations held in memory at once


@dataclass(frozen=True, slots=True)
class Difference:
    """Mean of `system - baseline` over queries, its 95% bootstrap interval and the p-value of the two-sided test."""

    mean: float
    low: float
    high: float
    p_value: float
    queries: int
    adjusted_p_value: float

    def is_believed(self, level: float = 0.05) -> bool:
        """Whether chance alone would rarely give a difference this large."""
        return self.adjusted_p_value < level


def compare(baseline: Mapping[str, float], systems: Mapping[str, Mapping[str, float]]) -> dict[str, Difference]:
    """Each system against the baseline, by their values per query (the same queries in all)."""
    differences = {name: _paired(baseline, values, name) for name, values in systems.items()}
    plain = {name: _difference(values) for name, values in differences.items()}
    adjusted = holm([difference.p_value for difference in plain.values()])
    return {
        name: Difference(d.mean, d.low, d.high, d.p_value, d.queries, p)
        for (name, d), p in zip(plain.items(), adjusted, strict=True)
    }


def randomisation_p_value(differences: Sequence[float], permutations: int = PERMUTATIONS) -> float:
    """Two-sided p-value of the mean paired difference under random signs; all zero gives 1."""
    values = np.asarray(differences, dtype=np.float64)
    values = values[values != 0]
    if not len(values):
        return 1.0
    observed = abs(values.sum()) - 1e-12
    generator, extreme = np.random.default_rng(SEED), 0
    for _ in range(0, permutations, BLOCK):
        signs = generator.integers(0, 2, size=(BLOCK, len(values)), dtype=np.int8) * 2 - 1
        extreme += int((np.abs(signs @ values) >= observed).sum())
    return (extreme + 1) / (permutations + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment, in the order given."""
    order = sorted(range(len(p_values)), key=lambda position: p_values[position])
    adjusted, floor = [0.0] * len(p_values), 0.0
    for step, position in enumerate(order):
        floor = max(floor, min(1.0, (len(p_values) - step) * p_values[position]))
        adjusted[position] = floor
    return adjusted


def _difference(values: Sequence[float]) -> Difference:
    array = np.asarray(values, dtype=np.float64)
    generator = np.random.default_rng(SEED)
    means = array[generator.integers(0, len(array), size=(BOOTSTRAPS, len(array)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    p_value = randomisation_p_value(values)
    return Difference(float(array.mean()), float(low), float(high), p_value, len(array), p_value)


def _paired(baseline: Mapping[str, float], values: Mapping[str, float], name: str) -> list[float]:
    if baseline.keys() != values.keys():
        raise ConfigError(f"{name} and the baseline were measured on different queries")
    return [values[query_id] - baseline[query_id] for query_id in baseline]
