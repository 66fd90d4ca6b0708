"""Counters and histograms in Prometheus' text form.

https://prometheus.io/docs/instrumenting/exposition_formats/ (version 0.0.4). One thread writes: the event loop's.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
SIZES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)


class Counter:
    """A number that only grows, one for each combination of labels."""

    def __init__(self, name: str, help_line: str, labels: Sequence[str]) -> None:
        self._name, self._help, self._labels = name, help_line, tuple(labels)
        self._values: dict[tuple[str, ...], float] = {}

    def add(self, *labels: str, amount: float = 1) -> None:
        """Count for these labels."""
        self._values[labels] = self._values.get(labels, 0) + amount

    def lines(self) -> Iterator[str]:
        """As it is exposed."""
        yield from _head(self._name, self._help, "counter")
        for values, number in sorted(self._values.items()):
            yield f"{self._name}{_labels(self._labels, values)} {_number(number)}"


class Histogram:
    """How many observations were at most each bound, with their sum and count."""

    def __init__(self, name: str, help_line: str, labels: Sequence[str], bounds: Sequence[float]) -> None:
        self._name, self._help, self._labels, self._bounds = name, help_line, tuple(labels), tuple(bounds)
        self._counts: dict[tuple[str, ...], list[int]] = {}
        self._sums: dict[tuple[str, ...], float] = {}

    def observe(self, value: float, *labels: str) -> None:
        """Count one observation for these labels."""
        counts = self._counts.setdefault(labels, [0] * (len(self._bounds) + 1))
        counts[bisect.bisect_left(self._bounds, value)] += 1
        self._sums[labels] = self._sums.get(labels, 0.0) + value

    def lines(self) -> Iterator[str]:
        """As it is exposed: cumulative buckets, sum, count."""
        yield from _head(self._name, self._help, "histogram")
        for values, counts in sorted(self._counts.items()):
            total = 0
            for bound, count in zip([*(f"{bound:g}" for bound in self._bounds), "+Inf"], counts, strict=True):
                total += count
                labels = _labels((*self._labels, "le"), (*values, bound))
                yield f"{self._name}_bucket{labels} {total}"
            labels = _labels(self._labels, values)
            yield f"{self._name}_sum{labels} {self._sums[values]:.6f}"
            yield f"{self._name}_count{labels} {total}"


class Gauge:
    """A number that is asked for when it is exposed."""

    def __init__(self, name: str, help_line: str, value: Callable[[], float]) -> None:
        self._name, self._help, self._value = name, help_line, value

    def lines(self) -> Iterator[str]:
        """As it is exposed."""
        yield from _head(self._name, self._help, "gauge")
        yield f"{self._name} {_number(self._value())}"


class _Part(Protocol):
    def lines(self) -> Iterator[str]: ...


class Metrics:
    """All that the service measures."""

    def __init__(self) -> None:
        self.in_flight = 0
        self.requests = Counter("inpars_requests_total", "Requests by path and status.", ("path", "status"))
        self.seconds = Histogram("inpars_request_seconds", "Time to the whole response.", ("path",), SECONDS)
        self.refused = Counter("inpars_refused_total", "Requests refused before any work, by reason.", ("reason",))
        self.batches = Histogram("inpars_batch_items", "Items of one pass through a model.", ("batcher",), SIZES)
        self.votes = Counter("inpars_votes_total", "Judgements left on the page, by relevance.", ("relevance",))
        self._gauges = [Gauge("inpars_in_flight", "Requests being answered now.", lambda: self.in_flight)]

    def gauge(self, name: str, help_line: str, value: Callable[[], float]) -> None:
        """Expose one more number."""
        self._gauges.append(Gauge(name, help_line, value))

    def observe_batch(self, name: str, items: int) -> None:
        """One pass of a batcher."""
        self.batches.observe(items, name)

    def text(self) -> str:
        """All of it."""
        parts: list[_Part] = [self.requests, self.seconds, self.refused, self.batches, self.votes, *self._gauges]
        return "\n".join(line for part in parts for line in part.lines()) + "\n"


def _head(name: str, help_line: str, kind: str) -> Iterator[str]:
    yield f"# HELP {name} {help_line}"
    yield f"# TYPE {name} {kind}"


def _number(value: float) -> str:
    """Every digit of a whole number."""
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def _labels(names: Sequence[str], values: Sequence[str]) -> str:
    pairs = ",".join(f'{name}="{_escaped(value)}"' for name, value in zip(names, values, strict=True))
    return f"{{{pairs}}}" if pairs else ""


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
