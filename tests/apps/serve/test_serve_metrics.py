"""The service's metrics under the names that dashboards use."""

from inpars.apps.serve.metrics import Metrics


def test_names_and_numbers_as_they_are_exposed():
    metrics = Metrics()
    metrics.in_flight = 3
    metrics.requests.labels("/search", "200").inc()
    metrics.seconds.labels("/search").observe(0.25)
    metrics.refused.labels("size").inc()
    metrics.votes.labels("none").inc()
    for items in (1, 3, 999):
        metrics.batches.labels("search").observe(items)
    # a bound belongs to its bucket, buckets are cumulative: 1 is at most 1, 3 at most 4, 999 in none but the last
    assert {
        'inpars_requests_total{path="/search",status="200"} 1.0',
        'inpars_request_seconds_bucket{le="0.25",path="/search"} 1.0',
        'inpars_request_seconds_sum{path="/search"} 0.25',
        'inpars_refused_total{reason="size"} 1.0',
        'inpars_votes_total{relevance="none"} 1.0',
        'inpars_batch_items_bucket{batcher="search",le="1.0"} 1.0',
        'inpars_batch_items_bucket{batcher="search",le="4.0"} 2.0',
        'inpars_batch_items_bucket{batcher="search",le="+Inf"} 3.0',
        'inpars_batch_items_count{batcher="search"} 3.0',
        "inpars_in_flight 3.0",
    } <= set(metrics.text().splitlines())


def test_two_services_in_one_process_count_apart():
    first, second = Metrics(), Metrics()
    first.requests.labels("/search", "200").inc()
    assert "inpars_requests_total{" not in second.text()
