"""Caveats of runs from files alone: manifests of inputs, training queries, examples, BM25."""

import json
from pathlib import Path

import pytest

from inpars.errors import ConfigError, DataFormatError
from inpars.evaluation.presets import PRESETS
from inpars.io.manifest import Manifest, stamp, stamp_text, write_manifest
from inpars.io.topics import Topics
from inpars.stages.caveats import find_caveats, lineage, read_query_texts
from inpars.stages.evaluate import EvaluateOptions, evaluate_files, evaluation_text, evaluation_values, preset_for
from inpars.stages.evaluate_files import run_names

QRELS = {"q1": {"a": 1, "b": 0}, "q2": {"c": 1}}
TEXTS = {"q1": "how do bees dance", "q2": "why is the sky blue"}


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Write a file with a manifest; inputs are paths or names."""
    monkeypatch.chdir(tmp_path)

    def make(name, stage, content="x", arguments=None, results=None, **inputs):
        path = Path(name)
        path.write_text(content, encoding="utf-8")
        stamps = {
            key: stamp(Path(value)) if Path(value).exists() else stamp_text(value, value)
            for key, value in inputs.items()
        }
        write_manifest(Manifest(stage, arguments or {}, stamps, stamp(path), results=results or {}), path)
        return path

    return make


@pytest.fixture
def reranked(made):
    """A run of a tuned reranker over BM25, with all manifests."""
    made("synthetic.jsonl", "generate")
    Path("synthetic.jsonl.example_query_ids.txt").write_text("q2\nq9\n", encoding="utf-8")
    made("triples.tsv", "triples", "how do bees dance?\ta\tb\nwhat else\ta\tb\n", queries="synthetic.jsonl")
    made("model", "train reranker", results={"validated_by": "12 synthetic dev queries"}, triples="triples.tsv")
    made("bm25.trec", "search", arguments={"retriever": ["bm25"], "k1": 0.9, "b": 0.4, "language": "en"})
    return made("reranked.trec", "rerank", "q1 Q0 a 1 2.0 t\n", run="bm25.trec", model="model")


def test_everything_behind_a_run_is_found(reranked):
    result = lineage(reranked)
    assert {manifest.stage for _, manifest in result.steps} == {
        "rerank",
        "search",
        "train reranker",
        "triples",
        "generate",
    }
    assert result.bm25 == ("BM25 flat (title and text in one field), k1 0.9, b 0.4",)
    assert result.triples == (Path("triples.tsv"),)
    assert result.example_ids == (Path("synthetic.jsonl.example_query_ids.txt"),)
    assert result.synthetic_validation == ("12 synthetic dev queries",)


def test_a_file_that_was_made_again_is_not_followed(reranked, made):
    made("bm25.trec", "search", "other", arguments={"retriever": ["bm25"], "k1": 1.2, "b": 0.75})
    assert lineage(reranked).bm25 == ()


def test_a_moved_folder_is_followed(reranked, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert lineage(tmp_path / "reranked.trec").bm25


def test_files_without_manifests_say_nothing(tmp_path):
    assert lineage(tmp_path / "run.trec").steps == ()


def test_what_was_seen_before_is_said(reranked):
    result = find_caveats({"reranked": reranked}, {"reranked": "t"}, QRELS, TEXTS)
    assert result.bm25 == {"reranked": "BM25 flat (title and text in one field), k1 0.9, b 0.4"}
    examples, training = result.overlaps["reranked"]
    assert (examples.same, training.same) == (("q2",), ("q1",))
    assert (
        "reranked: 1 of 2 test queries stand in its prompt's examples (1 word for word, 0 nearly): q2" in result.remarks
    )
    assert "reranked: its weights were chosen by 12 synthetic dev queries, which a model wrote" in result.remarks


def test_runs_of_the_same_bm25_share_a_line(made):
    search = {"retriever": ["bm25"], "k1": 0.9, "b": 0.4, "language": "en"}
    runs = {name: made(f"{name}.trec", "search", arguments=search) for name in ("one", "two")}
    runs["three"] = made("three.trec", "search", arguments=search | {"k1": 1.2})
    result = find_caveats(runs, {}, QRELS, TEXTS).remarks
    assert [line for line in result if "BM25" in line] == [
        "one, two: BM25 flat (title and text in one field), k1 0.9, b 0.4",
        "three: BM25 flat (title and text in one field), k1 1.2, b 0.4",
    ]


def test_what_the_user_names_is_looked_for_too(tmp_path):
    (tmp_path / "train.jsonl").write_text('{"query": "Why is the sky blue", "text": "a document"}\n', encoding="utf-8")
    known = {
        "training": [tmp_path / "train.jsonl"],
        "examples": {"the examples of prompt 'p'": ["how do bees dance"]},
    }
    result = find_caveats({"run": tmp_path / "run.trec"}, {}, QRELS, TEXTS, **known)
    assert [one.same for one in result.overlaps["all runs"]] == [("q2",), ("q1",)]
    (line,) = find_caveats({"run": tmp_path / "run.trec"}, {}, QRELS, {}, **known).remarks
    assert line.startswith("overlaps cannot be found without the texts")


def test_which_bm25_is_asked_for_where_nobody_knows(tmp_path):
    runs, tags = {"run": tmp_path / "run.trec"}, {"run": "Anserini-BM25"}
    assert find_caveats(runs, tags, QRELS, {}).bm25["run"].startswith("BM25 of unknown kind: flat or multifield, k1")
    assert find_caveats(runs, tags, QRELS, {}, bm25="multifield, k1 0.9").bm25 == {"run": "multifield, k1 0.9"}
    assert find_caveats(runs, {"run": "dense"}, QRELS, {}, bm25="multifield").bm25 == {}


def test_queries_of_all_kinds_of_files(tmp_path):
    files = {
        "t.tsv": "first query\tpositive\tnegative\nfirst query\tp\tn\n",
        "q.tsv": "q1\tfirst query\n",
        "v1.jsonl": json.dumps({"question": "first query", "doc_text": "d"}) + "\n",
        "beir.jsonl": json.dumps({"_id": "q", "text": "first query"}) + "\n",
    }
    for name, content in files.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
        assert read_query_texts(tmp_path / name) == {"first query"}, name
    (tmp_path / "one.tsv").write_text("alone\n", encoding="utf-8")
    with pytest.raises(DataFormatError, match=r"one\.tsv:1: 1 columns, queries have 2"):
        read_query_texts(tmp_path / "one.tsv")


@pytest.fixture
def runs(tmp_path):
    """The second run misses q2 and has an unjudged document first."""
    texts = {
        "first": "q1 Q0 a 1 2.0 t\nq1 Q0 b 2 1.0 t\nq2 Q0 c 1 1.0 t\n",
        "second": "q1 Q0 u 1 3.0 t\nq1 Q0 a 2 2.0 t\nq1 Q0 a 3 1.0 t\n",
    }
    for name, text in texts.items():
        (tmp_path / f"{name}.trec").write_text(text, encoding="utf-8")
    return {name: tmp_path / f"{name}.trec" for name in texts}


def judge(runs, **options):
    chosen = EvaluateOptions(metrics="RR@10 P@1", **options)
    texts = {"a": "about bees", "u": "unknown"}
    topics = Topics("test", TEXTS, QRELS)
    return evaluate_files(
        runs, topics, preset_for(chosen, None), chosen, document_text=lambda doc_id: texts.get(doc_id, "")
    )


def test_a_whole_evaluation(runs):
    result = judge(runs, wins=2)
    assert result.results["second"].means == {"RR@10": 0.25, "P@1": 0.0}  # (1/2 + 0) / 2
    assert result.results["second"].missing == 1
    assert result.results["second"].judged_at_10 == 0.5  # of u and a
    gains, losses = result.changes["second"]
    assert gains == []
    assert [(one.change.query_id, one.query) for one in losses] == [("q2", TEXTS["q2"]), ("q1", TEXTS["q1"])]
    assert [one.doc_id for one in losses[1].system_first] == ["u", "a"]
    text = evaluation_text(result)
    assert "second: 1 judged query has no result, which counts as 0" in text
    assert "2 judged queries\n" in text
    assert "note: second: 1 result repeats a document of their query" in text
    assert "second against first, RR@10: -0.7500, not tested" in text
    assert "2 queries are too few for a test" in text
    assert "    second: u (unjudged) unknown" in text
    assert "    first: a (relevance 1) about bees" in text


def test_all_of_it_is_json(runs):
    values = evaluation_values(judge(runs, wins=1))
    assert json.loads(json.dumps(values, allow_nan=False)) == json.loads(json.dumps(values))
    assert values["systems"]["first"]["intervals"]["RR@10"] == {"mean": 1.0, "low": 1.0, "high": 1.0}
    assert values["systems"]["second"]["file"]["twice"] == 1
    assert values["baseline"] == "first"
    assert values["changes"]["second"]["losses"][0]["change"] == {"query_id": "q2", "baseline": 1.0, "system": 0.0}


def test_unjudged_documents_can_be_left_out(runs):
    result = judge(runs, judged_only=True)
    assert result.results["second"].means["RR@10"] == 0.5  # u is gone: (1 + 0) / 2
    assert result.changes == {}


NAMES = {name: name.replace("@", "(judged_only=True)@") for name in ("nDCG@1", "P@2", "R@10")}
NAMES |= {name: f"{name}(judged_only=True)" for name in ("AP", "nDCG", "RR")}


def test_leaving_unjudged_documents_out_is_trec_evals_flag(tmp_path):
    """usnistgov/trec_eval#29: -J leaves grades below 0 out too; AP was 7/12 by our flag, 1 by the measure."""
    qrels = {"Q1": {"D1": -2, "D2": 1, "D4": 2}, "Q2": {"D1": -1}}
    path = tmp_path / "run.trec"
    path.write_text("".join(f"Q1 Q0 D{n} 0 {9 - n} t\n" for n in (1, 2, 3, 4)), encoding="utf-8")

    def means(metrics, judged_only):
        options = EvaluateOptions(metrics=" ".join(metrics), judged_only=judged_only)
        preset = preset_for(options, None)
        return evaluate_files({"run": path}, Topics("test", {}, qrels), preset, options).results["run"].means

    by_flag, by_measure = means(NAMES, judged_only=True), means(NAMES.values(), judged_only=False)
    assert [by_flag[name] for name in NAMES] == pytest.approx([by_measure[NAMES[name]] for name in NAMES])
    assert by_flag["AP"] == 0.5  # 1 for the first query, nothing for the second


def test_a_run_of_other_queries_is_called_no_result_first(tmp_path):
    path = tmp_path / "other.trec"
    path.write_text("1 Q0 a 1 2.0 t\n", encoding="utf-8")
    result = judge({"other": path})
    assert evaluation_text(result).startswith("not a result: other has none of the 2 judged queries")
    assert evaluation_values(result)["problems"] == result.problems != []


def test_another_baseline(runs):
    result = judge(runs, baseline="second")
    assert list(result.differences["RR@10"]) == ["first"]
    assert result.differences["RR@10"]["first"].mean == pytest.approx(0.75)
    with pytest.raises(ConfigError, match="baseline 'third' is none of"):
        judge(runs, baseline="third")


def test_file_order_changes_what_ranks(tmp_path):
    path = tmp_path / "run.trec"
    path.write_text("q1 Q0 a 1 1.0 t\nq1 Q0 b 2 9.0 t\n", encoding="utf-8")
    by_lines, by_score = judge({"run": path}, order="file"), judge({"run": path})
    assert by_lines.results["run"].per_query["P@1"]["q1"] == 1.0
    assert by_score.results["run"].per_query["P@1"]["q1"] == 0.0
    assert [line for line in by_lines.remarks if "ranks contradict scores or the order of lines for 1 of 2" in line]


def test_presets_are_the_collections_unless_something_else_is_named():
    assert preset_for(EvaluateOptions(), "beir/scifact/test") is not None
    assert preset_for(EvaluateOptions(), "msmarco-passage/dev/small").order == "file"
    assert preset_for(EvaluateOptions(order="score"), "msmarco-passage/dev/small").order == "score"
    assert preset_for(EvaluateOptions(preset="dl19"), "beir/scifact/test") == PRESETS["dl19"]
    assert preset_for(EvaluateOptions(metrics="AP P@5"), "beir/scifact/test").metrics == ("AP", "P@5")


def test_the_same_run_twice_is_named():
    with pytest.raises(ConfigError, match=r"--run one/run\.trec is given twice"):
        run_names([Path("one/run.trec"), Path("two/run.trec"), Path("one/run.trec")])
    assert list(run_names([Path("one/run.trec"), Path("two/run.trec")])) == ["one/run.trec", "two/run.trec"]
