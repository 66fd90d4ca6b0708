"""The filter laboratory: what each filter keeps alone, how far they agree, the page with its numbers."""

import json

import pytest

from inpars.contrib.comparison.filters import CompareOptions, compare_file, slugs, table_lines
from inpars.errors import ConfigError, UnknownNameError
from inpars.filtering.checks import FilterContext, FilterOptions
from inpars.filtering.filter_comparison import parse_filter_spec
from inpars.io.storage import read_jsonl, write_jsonl

ROWS = [
    {
        "query_id": f"d{number}-q0",
        "doc_id": f"d{number}",
        "query": f"{'what is' if number < 4 else 'how does'} thing number {number} <b>",
        "log_probs": [-float(number)] * 3,
        "text": f"Text <i>of</i> {number}.",
    }
    for number in range(6)
]
TWIN = {**ROWS[0], "query_id": "twin", "log_probs": [-9.0] * 3}
RANKS = [{"query_id": f"d{n}-q0", "bm25_rank": r, "reranker": n} for n, r in enumerate([None, 3, 1, 1, 2, 50])]


class Laboratory:
    def __init__(self, folder):
        self.folder, self.output = folder, folder / "lab.html"

    def __call__(self, *, k=2, seed=0, rows=(*ROWS, TWIN), scores=RANKS, kept=True, **settings):
        write_jsonl(self.folder / "queries.jsonl", rows)
        write_jsonl(self.folder / "scores.jsonl", scores)
        self.manifest = compare_file(
            self.folder / "queries.jsonl",
            FilterOptions(**settings),
            CompareOptions(compare_top_k=k, seed=seed),
            output=self.output,
            scores=[self.folder / "scores.jsonl"],
            context=FilterContext(),
            write_kept=self.folder / "kept" if kept else None,
        )
        return json.loads((self.folder / "lab.json").read_text(encoding="utf-8"))

    def ids(self, name):
        return [record["doc_id"] for _, record in read_jsonl(self.folder / "kept" / f"{name}.jsonl")]


@pytest.fixture
def laboratory(tmp_path):
    return Laboratory(tmp_path)


def test_each_filter_alone_keeps_its_best(laboratory):
    found = laboratory()
    assert found["pool"]["queries"] == 6
    assert found["dropped"] == {"duplicate": 1}
    names = ["sum_log_probs", "mean_log_probs", "mean_probs", "bm25_rank", "reranker", "random", "spread:opening"]
    assert list(found["filters"]) == names
    assert laboratory.ids("mean_log_probs") == ["d0", "d1"]
    assert laboratory.ids("reranker") == ["d5", "d4"]
    assert laboratory.ids("bm25_rank") == ["d2", "d3"]
    assert laboratory.ids("spread-opening") == ["d0", "d4"]
    assert len(laboratory.ids("random")) == 2


def test_measures_and_overlap_by_hand(laboratory):
    found = laboratory(k=3)
    own = found["filters"]["mean_log_probs"]  # d0 d1 d2, of which BM25 finds the last two
    # "what is thing number 0 b" has six words
    assert (own["queries"], own["mean_words"], own["openings"], own["bm25_finds"]) == (3, 6.0, 1, pytest.approx(2 / 3))
    assert own["threshold"] == -2.0
    # the reranker keeps d5 d4 d3: nothing shared; BM25 d2 d3 d4: one of five shared, and two of four
    overlap = found["overlap"]
    assert overlap["mean_log_probs"] == {**overlap["mean_log_probs"], "mean_log_probs": 1.0, "reranker": 0.0}
    assert overlap["bm25_rank"]["mean_log_probs"] == pytest.approx(1 / 5)
    assert overlap["reranker"]["bm25_rank"] == overlap["bm25_rank"]["reranker"] == pytest.approx(2 / 4)
    assert own["curve"] == {"ranks": [1, 2, 3, 4, 5, 6], "scores": [0, -1, -2, -3, -4, -5]}
    assert [sample["doc_id"] for sample in own["above"]] == ["d0", "d1", "d2"]
    assert [sample["doc_id"] for sample in own["below"]] == ["d3", "d4", "d5"]


def test_filters_may_be_named_and_stacked(laboratory):
    found = laboratory(select=("bm25_rank:max=3+mean_log_probs", "reranker:min=1", "random", "spread:bm25_rank"))
    assert list(found["filters"]) == ["bm25_rank:max=3+mean_log_probs", "reranker:min=1", "random", "spread:bm25_rank"]
    assert laboratory.ids("bm25_rank-max=3-mean_log_probs") == ["d1", "d2"]
    assert laboratory.ids("reranker-min=1") == ["d5", "d4"]


def test_chance_depends_on_the_seed_and_not_on_the_order(laboratory):
    laboratory(k=3)
    first = laboratory.ids("random")
    laboratory(k=3, rows=(*ROWS[::-1], TWIN))
    assert laboratory.ids("random") == first
    others = set()
    for seed in range(1, 9):
        laboratory(k=3, seed=seed)
        others.add(tuple(laboratory.ids("random")))
    assert len(others) > 1


def test_the_page_escapes_and_the_table_says_all(laboratory):
    laboratory()
    page = laboratory.output.read_text(encoding="utf-8")
    assert "<b>" not in page
    assert "what is thing number 0 &lt;b&gt;" in page
    assert "Text &lt;i&gt;of&lt;/i&gt; 1." in page
    assert page.count("<svg") == 7
    assert 'class="cut"' in page
    lines = table_lines(laboratory.manifest.results)
    assert lines[0].split() == ["filter", "queries", "mean", "words", "openings", "BM25", "finds", "lowest", "score"]
    assert any(line.split() == ["reranker", "2", "6.0", "1", "100.0%", "4"] for line in lines)


def test_a_second_run_is_skipped_unless_something_is_gone(laboratory):
    laboratory()
    (laboratory.folder / "lab.json").write_text("{}", encoding="utf-8")
    assert laboratory() == {}, "nothing is written again"
    (laboratory.folder / "kept" / "random.jsonl").unlink()
    laboratory()
    assert len(laboratory.ids("random")) == 2


def test_queries_without_log_probs_are_compared_by_what_they_have(laboratory):
    rows = [{name: value for name, value in row.items() if name != "log_probs"} for row in ROWS]
    found = laboratory(rows=rows, scoring_function="reranker")
    assert list(found["filters"]) == ["bm25_rank", "reranker", "random", "spread:opening"]
    with pytest.raises(ConfigError, match="no log-probabilities"):
        laboratory(rows=rows)


def test_clusters_are_spread_over_and_not_ranked_by(laboratory):
    clusters = [{"query_id": f"d{n}-q0", "cluster": n % 3} for n in range(6)]
    assert list(laboratory(scores=clusters)["filters"])[-3:] == ["random", "spread:opening", "spread:cluster"]
    assert laboratory(scores=clusters, k=3, kept=True)["filters"]["spread:cluster"]["queries"] == 3
    assert laboratory.ids("spread-cluster") == ["d0", "d1", "d2"]


def test_names_that_cannot_be_read(laboratory):
    with pytest.raises(UnknownNameError, match="unknown score 'perplexity'"):
        laboratory(select=("perplexity",))
    with pytest.raises(ConfigError, match="write NAME:RULE=VALUE"):
        parse_filter_spec("a:b+mean_log_probs", "x")


def test_file_names_are_plain_and_different():
    assert slugs(["a:b", "a+b", "../x", "é"]) == {"a:b": "a-b", "a+b": "a-b-2", "../x": "x", "é": "é"}
