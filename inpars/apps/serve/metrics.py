"""Prometheus metrics of the service, in a separate registry: services in one process (tests) share no numbers."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """The service's counters and histograms."""

    def __init__(self) -> None:
        self.in_flight = 0
        self._registry = registry = CollectorRegistry()
        self.requests = Counter(
            "inpars_requests", "Requests by path and status.", ["path", "status"], registry=registry
        )
        self.seconds = Histogram(
            "inpars_request_seconds", "Time to the whole response.", ["path"], buckets=SECONDS, registry=registry
        )
        self.refused = Counter(
            "inpars_refused", "Requests refused before any work, by reason.", ["reason"], registry=registry
        )
        self.batches = Histogram(
            "inpars_batch_items", "Items of one pass through a model.", ["batcher"], buckets=SIZES, registry=registry
        )
        self.votes = Counter(
            "inpars_votes", "Judgements left on the page, by relevance.", ["relevance"], registry=registry
        )
        gauge = Gauge("inpars_in_flight", "Requests being answered now.", registry=registry)
        gauge.set_function(lambda: self.in_flight)

    def text(self) -> str:
        """Prometheus' text format, version 0.0.4."""
        return generate_latest(self._registry).decode()
