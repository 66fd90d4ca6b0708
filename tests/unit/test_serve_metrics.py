"""Prometheus' text form, worked out by hand."""

from inpars.serve.metrics import Counter, Histogram, Metrics


def test_a_counter_has_a_line_for_each_combination_of_labels():
    counter = Counter("hits_total", "Hits.", ("path",))
    counter.add("/b")
    counter.add("/a", amount=2)
    counter.add("/b")
    assert list(counter.lines()) == [
        "# HELP hits_total Hits.",
        "# TYPE hits_total counter",
        'hits_total{path="/a"} 2',
        'hits_total{path="/b"} 2',
    ]


def test_buckets_are_cumulative_and_a_bound_belongs_to_its_bucket():
    histogram = Histogram("size", "Sizes.", (), (1, 2))
    for value in (0.5, 1, 1.5, 9):
        histogram.observe(value)
    # at most 1: 0.5 and 1; at most 2: 1.5 too; 12 in all
    assert list(histogram.lines())[2:] == [
        'size_bucket{le="1"} 2',
        'size_bucket{le="2"} 3',
        'size_bucket{le="+Inf"} 4',
        "size_sum 12.000000",
        "size_count 4",
    ]


def test_labels_are_escaped():
    counter = Counter("odd", "Odd.", ("name",))
    counter.add('a"b\\c\nd')
    assert list(counter.lines())[-1] == r'odd{name="a\"b\\c\nd"} 1'


def test_large_counts_are_whole():
    counter = Counter("many_total", "Many.", ())
    counter.add(amount=12_345_678)
    assert list(counter.lines())[-1] == "many_total 12345678"


def test_the_text_ends_with_a_newline_and_has_the_gauge():
    metrics = Metrics()
    metrics.in_flight = 3
    assert metrics.text().endswith("inpars_in_flight 3\n")
