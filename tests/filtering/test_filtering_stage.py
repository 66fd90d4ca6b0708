"""The filter stage: files in and out, score files, packed files, the manifest, and faults of other toolkits."""

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inpars.errors import ConfigError, StaleInputError, UnknownNameError
from inpars.filtering import query_table
from inpars.filtering.checks import FilterContext, FilterOptions
from inpars.filtering.filters import filter_queries
from inpars.io.corpus import Corpus
from inpars.io.formats import read_synthetic_queries, write_documents
from inpars.io.storage import read_jsonl, write_jsonl
from inpars.records import Document
from inpars.stages.filter import filter_file

TOY = Path(__file__).parents[1] / "data" / "toy"
OPENINGS = ("what is", "how does", "why do")


def row(number, text=None, log_probs=None, **changes):
    made = {
        "query_id": f"d{number}-q0",
        "doc_id": f"d{number}",
        "query": text or f"{OPENINGS[number % 3]} thing number {number} and its parts",
        "log_probs": [-float(number)] * 3 if log_probs is None else log_probs,
        "text": f"Text of {number}.",
        "mark": number,
    }
    return made | changes


class Stage:
    def __init__(self, folder):
        self.folder, self.output = folder, folder / "kept.jsonl"

    def __call__(self, rows, *, scores=(), name="queries.jsonl", around=None, corpus=None, **settings):
        write_jsonl(self.folder / name, rows)
        files = []
        for number, columns in enumerate(scores):
            files.append(self.folder / f"scores{number}.jsonl")
            write_jsonl(files[-1], columns)
        options = FilterOptions(**settings)
        context = FilterContext(**(around or {}))
        manifest = filter_file(
            self.folder / name, options, output=self.output, scores=files, context=context, corpus=corpus
        )
        return manifest, [record for _, record in read_jsonl(self.output)]


@pytest.fixture
def stage(tmp_path):
    return Stage(tmp_path)


def marks(rows):
    return [record["mark"] for record in rows]


def test_rows_come_out_as_they_were_best_first(stage):
    rows = [row(number) for number in (3, 1, 2)]
    manifest, kept = stage(rows, top_k=2)
    assert kept == [rows[1], rows[2]]
    assert manifest.results == {"read": 3, "ranked_by": "mean_log_probs", "lowest_kept_score": -2.0}
    assert manifest.dropped == {"below_top_k": 1}


@pytest.mark.parametrize("absent", [{"query_id": None}, {"query_id": ""}, {}])
def test_rows_without_an_id_keep_the_one_they_were_read_with(stage, absent):
    """Scores are joined by it: the second query of a document, kept alone, must not become the first."""
    rows = [row(1, log_probs=[-3.0] * 3), row(1, "how does it bake", log_probs=[-0.5] * 3)]
    given = [{name: value for name, value in each.items() if name != "query_id"} | absent for each in rows]
    _, kept = stage(given, top_k=1)
    assert kept == [given[1] | {"query_id": "d1-q1"}]


def test_selections_are_applied_in_order_and_named_in_the_reasons(stage):
    rows = [row(number) for number in range(8)]
    ranks = [{"query_id": f"d{n}-q0", "bm25_rank": rank} for n, rank in enumerate([1, None, 5, 20, 2, 1, 30])]
    margins = [{"query_id": f"d{n}-q0", "reranker": float(n)} for n in range(8)]
    # 7 has no rank, 1 and 6 go by theirs; of 0 2 3 4 5 the reranker's best two are 5 and 4
    manifest, kept = stage(rows, scores=[ranks, margins], select=("bm25_rank:max=20", "reranker:top-k=2"))
    assert marks(kept) == [5, 4]
    assert manifest.dropped == {"bm25_rank": 2, "no_score": 1, "reranker": 3}
    assert manifest.results["ranked_by"] == "reranker"
    # the other way round: of 0 to 6 the reranker takes 6 and 5, and 6 goes by its rank
    manifest, kept = stage(rows, scores=[ranks, margins], select=("reranker:top-k=2", "bm25_rank:max=20"))
    assert marks(kept) == [5]
    assert manifest.dropped == {"bm25_rank": 1, "no_score": 1, "reranker": 5}
    assert manifest.results["ranked_by"] == "bm25_rank"


def test_top_k_and_scoring_function_count_after_the_selections_where_they_are_given(stage):
    rows = [row(number) for number in range(6)]
    ranks = [{"query_id": f"d{n}-q0", "bm25_rank": n} for n in range(6)]
    settings = {"scores": [ranks], "select": ("bm25_rank:min=2",)}
    assert marks(stage(rows, **settings)[1]) == [2, 3, 4, 5]
    assert marks(stage(rows, **settings, scoring_function="sum_log_probs", top_k=1)[1]) == [2]
    manifest, kept = stage(rows, scores=[ranks], scoring_function="bm25_rank", top_k=2)
    assert marks(kept) == [0, 1], "of ranks the lowest is best"
    assert manifest.dropped == {"below_top_k": 4}


def test_of_duplicates_the_best_by_the_ranking_score_stays(stage):
    rows = [row(0, "why does bread rise"), row(1, "Why does bread rise?")]
    margins = [{"query_id": "d0-q0", "reranker": 1}, {"query_id": "d1-q0", "reranker": 2}]
    assert marks(stage(rows)[1]) == [0]
    assert marks(stage(rows, scores=[margins], scoring_function="reranker")[1]) == [1]


def test_a_query_without_the_score_does_not_drop_its_twin(stage):
    rows = [row(0, "why does bread rise"), row(1, "Why does bread rise?")]
    manifest, kept = stage(rows, scores=[[{"query_id": "d1-q0", "reranker": 2}]], scoring_function="reranker")
    assert (marks(kept), manifest.dropped) == ([1], {"no_score": 1})


def test_near_duplicates_excluded_and_own_queries(stage):
    long = "how does the gluten in dough hold the gas that yeast gives off while it rises"
    rows = [row(0, long), row(1, f"and {long}"), row(2), row(3, "is bread good?")]
    assert stage(rows)[0].dropped == {}
    assert stage(rows, drop_near_duplicates=True)[0].dropped == {"near_duplicate": 1}
    around = {"excluded_queries": ["Is bread good", f"{long} much"], "own_queries": [f"{long} much", "x"]}
    manifest, kept = stage(rows, around=around)
    assert (marks(kept), manifest.dropped) == ([2], {"excluded_query": 3})
    assert manifest.results["resembling_the_datasets_queries"] == 2


def test_blocks_of_queries_are_checked_each_in_its_place(stage, monkeypatch):
    monkeypatch.setattr(query_table, "BLOCK", 2)
    rows = [row(n, f"how does the gluten in dough number {n} hold gas") for n in range(4)]
    rows += [row(9, "Is bread good?"), row(4, "and how does the gluten in dough number 0 hold gas")]
    manifest, kept = stage(rows, around={"excluded_queries": ["is bread good"]}, drop_near_duplicates=True)
    assert (marks(kept), manifest.dropped) == ([0, 1, 2, 3], {"excluded_query": 1, "near_duplicate": 1})


def test_an_excluded_query_keeps_its_first_reason(stage):
    rows = [row(0, "is bread good", finish_reason="length"), row(1)]
    assert stage(rows, around={"excluded_queries": ["is bread good"]})[0].dropped == {"no_stop": 1}


@pytest.mark.parametrize(
    ("settings", "dropped"),
    [({"min_words": 3}, {"too_few_words": 1}), ({"max_words": 6}, {"too_many_words": 1})],
)
def test_words_are_counted(stage, settings, dropped):
    rows = [row(0, "what is"), row(1, "what is this and what is that"), row(2, "what is it then")]
    assert stage(rows, **settings)[0].dropped == dropped


def test_foreign_queries_are_left_out(stage):
    pytest.importorskip("py3langid")
    rows = [row(0, "wie wird das Brot gebacken"), row(1, "how is the bread baked"), row(2, "metformin")]
    manifest, kept = stage(rows, languages="en", min_tokens=0)
    assert marks(kept)[0] == 1
    assert manifest.dropped["language"] >= 1
    assert {0} & set(marks(stage(rows, languages="en, de")[1]))
    with pytest.raises(UnknownNameError, match="unknown language 'english'"):
        stage(rows, languages="english")


def test_a_spread_keeps_other_openings(stage):
    rows = [row(n, f"what is thing number {n}") for n in range(5)] + [row(9, "how do things end")]
    assert marks(stage(rows, top_k=2)[1]) == [0, 1]
    assert marks(stage(rows, top_k=2, spread_over="opening")[1]) == [0, 9]
    clusters = [{"query_id": f"d{n}-q0", "cluster": c} for n, c in [(0, 1), (1, 1), (2, 2), (3, 1), (4, 1), (9, 1)]]
    assert marks(stage(rows, scores=[clusters], top_k=2, spread_over="cluster")[1]) == [0, 2]


def test_packed_files_are_read_and_nothing_is_left_lying(stage):
    rows = [row(number, "ä" * number + f" query {number} of all") for number in range(4)]
    _, kept = stage(rows, name="queries.jsonl.gz", top_k=3)
    assert kept == rows[:3]
    assert gzip.decompress((stage.folder / "queries.jsonl.gz").read_bytes()).startswith(b"{")
    assert sorted(path.name for path in stage.folder.iterdir()) == [
        "kept.jsonl",
        "kept.jsonl.manifest.json",
        "queries.jsonl.gz",
    ]


def test_what_cannot_work_is_said_before_the_output_is_touched(stage):
    stage([row(1)])
    with pytest.raises(ConfigError, match="write NAME:RULE=VALUE"):
        stage([row(1)], select=("reranker",))
    assert (stage.folder / "kept.jsonl.manifest.json").exists()
    with pytest.raises(UnknownNameError, match=r"unknown score 'rerank'.*--scores"):
        stage([row(1)], select=("rerank:top-k=3",))
    with pytest.raises(UnknownNameError, match="unknown score 'cluster'"):
        stage([row(1)], spread_over="cluster")
    with pytest.raises(StaleInputError, match="none of these queries"):
        stage([row(1)], scores=[[{"query_id": "x", "y": 1}]])
    with pytest.raises(ConfigError, match=r"no query passes .*\(empty 1\)"):
        stage([row(1, log_probs=[])])
    with pytest.raises(ConfigError, match="no queries to filter"):
        stage([])


def test_scores_make_log_probs_needless(stage):
    rows = [row(number, log_probs=None) | {"log_probs": None} for number in range(2)]
    with pytest.raises(ConfigError, match="no log-probabilities"):
        stage(rows)
    margins = [{"query_id": f"d{n}-q0", "reranker": n} for n in range(2)]
    assert marks(stage(rows, scores=[margins], scoring_function="reranker")[1]) == [1, 0]


TEXTS = st.sampled_from(["", "why does bread rise", "Why does bread rise?", "how is bread baked", "text of", "???"])
ROWS = st.lists(
    st.tuples(TEXTS, st.lists(st.floats(-3, 0).map(lambda v: round(v, 3)), max_size=5), st.none() | st.integers(-2, 2)),
    min_size=1,
    max_size=10,
)


@settings(deadline=None, max_examples=60)
@given(ROWS, st.integers(1, 5), st.sampled_from(["x:top-k=3", "x:min=0", "x:best=0.5", "mean_probs:max=0.5"]))
def test_filtered_is_a_subset_in_order_and_files_agree_with_records(tmp_path_factory, result, k, selection):
    stage = Stage(tmp_path_factory.mktemp("stage"))
    rows = [row(number, log_probs=log_probs) | {"query": text} for number, (text, log_probs, _) in enumerate(result)]
    column = [{"query_id": f"d{number}-q0", "x": value} for number, (_, _, value) in enumerate(result)]
    settings = {"select": (selection,), "top_k": k, "scoring_function": "sum_log_probs", "min_tokens": 1}
    write_jsonl(stage.folder / "queries.jsonl", rows)
    queries = list(read_synthetic_queries(stage.folder / "queries.jsonl"))
    values = [float("nan") if value is None else float(value) for _, _, value in result]
    expected = filter_queries(queries, FilterOptions(**settings), scores={"x": values})
    try:
        manifest, kept = stage(rows, scores=[column], **settings)
    except (ConfigError, StaleInputError):
        assert not expected.kept
        return
    assert all(record in rows for record in kept)
    sums = [sum(record["log_probs"]) for record in kept]
    assert sums == sorted(sums, reverse=True)
    assert [record["query_id"] for record in kept] == [verdict.query.query_id for verdict in expected.kept]
    assert manifest.dropped == dict(expected.dropped)


def test_documents_are_the_corpus_or_the_rows_own(stage):
    rows = [
        row(0, "text of number one and two more words") | {"text": "The text of number one and two more words."},
        row(1),
    ]
    assert stage(rows)[0].dropped == {"copied": 1}
    write_documents(stage.folder / "c.jsonl", [Document(f"d{n}", "Other.") for n in range(2)])
    corpus = Corpus(stage.folder / "c.jsonl", stage.folder / "cache")
    assert not stage(rows, corpus=corpus)[0].dropped


# one test for each fault of the InPars toolkit's filter (reference/existing-toolkits.md, 1.2 and 6.2)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_fault_question_and_doc_text_against_query_and_text(tmp_path, version):
    """Its filter reads `question`/`doc_text` here and `query`/`text` there; KeyError with --skip_questions_copied."""
    source = TOY / f"queries.synthetic.{version}.jsonl"
    rows = [record for _, record in read_jsonl(source)]
    text, query = ("doc_text", "question") if version == "v1" else ("text", "query")
    copied = {**rows[0], "doc_id": "d99", query: rows[0][text]}
    write_jsonl(tmp_path / "q.jsonl", [*rows, copied])
    manifest = filter_file(tmp_path / "q.jsonl", FilterOptions(), output=tmp_path / "kept.jsonl")
    assert manifest.dropped == {"copied": 1}
    kept = [record for _, record in read_jsonl(tmp_path / "kept.jsonl")]
    assert {record[query] for record in kept} == {record[query] for record in rows}
    assert all(record["query_id"] for record in kept), "ids of rows without one must not change with their order"


def test_fault_min_tokens_drops_silently(stage):
    manifest, _ = stage([row(0, log_probs=[-1.0, -1.0]), row(1)])
    assert manifest.dropped == {"too_short": 1}


def test_fault_scores_know_the_mean_only(stage):
    rows = [row(0, log_probs=[-1.0] * 4), row(1, log_probs=[-1.2] * 3)]
    # means -1 and -1.2; sums -4 and -3.6
    assert marks(stage(rows)[1]) == [0, 1]
    assert marks(stage(rows, scoring_function="sum_log_probs")[1]) == [1, 0]


def test_fault_reranker_probabilities_tie_near_one(stage):
    """Probabilities of margins 20 and 21 are both 1 in single precision; the margins themselves differ."""
    margins = [{"query_id": "d0-q0", "reranker": 20.0}, {"query_id": "d1-q0", "reranker": 21.0}]
    manifest, kept = stage([row(0), row(1)], scores=[margins], select=("reranker:top-k=1",))
    assert (marks(kept), manifest.results["lowest_kept_score"]) == ([1], 21.0)


def test_fault_no_duplicates_threshold_or_statistics(stage):
    rows = [row(0, "why does bread rise"), row(1, "why does bread rise?"), row(2), row(3)]
    manifest, kept = stage(rows, select=("mean_log_probs:min=-2",))
    assert marks(kept) == [0, 2]
    assert manifest.dropped == {"duplicate": 1, "mean_log_probs": 1}


def test_surroundings_may_be_empty():
    assert filter_queries([], FilterOptions(), FilterContext()).kept == []


def test_the_manifest_is_json_that_names_the_scores(stage):
    stage([row(0)], scores=[[{"query_id": "d0-q0", "x": 1}]], select=("x:min=0",))
    manifest = json.loads((stage.folder / "kept.jsonl.manifest.json").read_text(encoding="utf-8"))
    assert manifest["inputs"]["scores 1"]["path"].endswith("scores0.jsonl")
    assert manifest["arguments"]["select"] == ["x:min=0"]
