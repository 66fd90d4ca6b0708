"""Scores recomputed by their models: equal in an unchanged folder, different where a number was edited."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from inpars.contrib.verify.run import VerifyFindings, check_folder
from inpars.contrib.verify.scores import VerifyOptions, recompute
from inpars.documents.datasets import load_dataset
from inpars.io.formats import read_run, write_run
from inpars.io.manifest import read_manifest, stamp, write_manifest
from inpars.io.runs import cut, fuse_z_scores
from inpars.pipeline.folder import read_run_folder
from inpars.pipeline.measurement import judge
from inpars.progress import SILENT
from inpars.prompts.load import ExampleOptions, load_prompt, named_prompt
from inpars.stages.generate import BY_PROMPT, GenerateOptions, generate_queries, load_generator
from inpars.stages.rerank import RerankOptions, load_run_scorer, rerank_file
from inpars.stages.search import SearchOptions, search_dataset
from inpars.stages.stage import Outcome, Stage

TOY = Path(__file__).parents[1] / "data" / "toy" / "beir"
FLOAT32 = {"dtype": "float32", "device": "cpu", "threads": 1}
SHORT = {"max_doc_tokens": 24, "max_new_tokens": 8, "canary": False}
OPTIONS = VerifyOptions(sample=3, **FLOAT32)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INPARS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield load_dataset(str(TOY))


@pytest.fixture(scope="module")
def made(dataset, tiny, tmp_path_factory):
    """Queries of a tiny language model, runs of a tiny bi-encoder, fused and reranked by a tiny cross-encoder."""
    folder = tmp_path_factory.mktemp("runs") / "toy"
    runs, topics, prompt = folder / "runs", dataset.topics("test"), load_prompt(str(_prompt(folder)))
    written = GenerateOptions(model=tiny("llama"), max_documents=5, **SHORT, **FLOAT32)
    generate_queries(
        *(dataset.corpus, prompt, written),
        output=folder / "queries.synthetic.jsonl",
        make_generator=lambda: load_generator(written, prompt),
    )
    search = SearchOptions(retriever=(tiny("sentence_transformer"),), k=10, **FLOAT32)
    search_dataset(dataset, topics, search, output=runs / "dense.trec")
    fused = runs / "fusion.trec"

    def fuse():
        recomputed = [cut(read_run(runs / "dense.trec"), 10)] * 2
        return Outcome(write_run(fused, fuse_z_scores(recomputed, 10), "fusion"))

    inputs = {name: stamp(runs / "dense.trec") for name in ("one", "other")}
    Stage("fuse", {"depth": 10, "k": 10}, fused, inputs).run(fuse)
    rerank = RerankOptions(model=tiny("bert_classifier"), depth=4, fuse=True, **FLOAT32)
    rerank_file(
        *(fused, dataset, topics, rerank),
        output=runs / "fusion.reranked.trec",
        make_scorer=lambda: load_run_scorer(rerank),
    )
    paths = {"fusion": fused, "reranked": runs / "fusion.reranked.trec"}
    judge(folder, topics, paths, ["nDCG@10", "RR@10"], progress=SILENT)
    return folder


def _prompt(folder):
    """A prompt that fits a tiny model, and the folder's mark that names it."""
    path = folder.with_name("short.txt")
    path.write_text("Document: {document}\nRelevant Query: {query}")
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps({"dataset": "toy", "prompt": str(path)}))
    return path


@pytest.fixture
def copy(made, tmp_path):
    return Path(shutil.copytree(made, tmp_path / "copy"))


def findings(folder, dataset, options=OPTIONS):
    run = read_run_folder(folder)
    result = check_folder(run)
    recompute(run, options, dataset, result)
    return result


def restamp(path):
    manifest = read_manifest(path)
    write_manifest(replace(manifest, output=stamp(path, manifest.output.records)), path)


def test_an_honest_folder_comes_out_the_same(made, dataset):
    result = findings(made, dataset)
    assert (result.problems, result.unchecked) == ([], [])
    counts = {name.removesuffix(" recomputed"): count for name, count in result.checked.items() if "recomputed" in name}
    queries = len(dataset.topics("test").qrels)
    assert counts == {
        "measures": 4 * queries,  # two systems, two measures
        "log-probs": 3,
        "similarities": 3,
        "fused scores": 3,
        "reranked scores": 3,
    }
    assert all(difference <= 1e-4 for difference in result.largest.values())


def test_the_same_sample_is_drawn_each_time(made, dataset):
    assert findings(made, dataset).largest == findings(made, dataset).largest


def test_a_changed_log_prob_is_found(copy, dataset):
    path = copy / "queries.synthetic.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        row["log_probs"] = [value + 0.01 for value in row["log_probs"]]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    restamp(path)
    (problem,) = findings(copy, dataset).problems
    assert problem.startswith("queries.synthetic.jsonl: log-probs of 3 of 3 queries come out differently")
    assert "by 0.01 " in problem


@pytest.mark.parametrize(
    ("name", "what"),
    [("dense", "similarities"), ("fusion", "fused scores"), ("fusion.reranked", "reranked scores")],
)
def test_a_changed_score_of_a_run_is_found(copy, dataset, name, what):
    path = copy / "runs" / f"{name}.trec"
    lines = [line.split() for line in path.read_text().splitlines()]
    for fields in lines:
        fields[4] = f"{float(fields[4]) + (0.5 if fields[3] == '1' else 0.0):.6f}"
    path.write_text("".join(" ".join(fields) + "\n" for fields in lines))
    restamp(path)
    problems = findings(copy, dataset).problems
    assert any(line.startswith(f"runs/{name}.trec: {what} of 3 of 3 queries come out differently") for line in problems)


def test_a_model_that_was_exchanged_is_found(copy, dataset, tiny):
    """The run was made by another model than the manifest now names."""
    path = copy / "runs" / "fusion.reranked.trec"
    manifest = read_manifest(path)
    other = tiny("bert_classifier", labels=2)
    write_manifest(replace(manifest, inputs={**manifest.inputs, "model": stamp(Path(other))}), path)
    assert any("reranked scores" in problem for problem in findings(copy, dataset).problems)


def test_without_the_documents_what_needs_them_is_named(made):
    result = findings(made, None)
    assert result.problems == []
    assert [line.split(":")[0] for line in result.unchecked] == ["runs/dense.trec", "runs/fusion.reranked.trec"]
    assert "log-probs recomputed" in result.checked, "their documents stand beside the queries"


def test_another_prompt_than_the_one_that_was_used_is_named(copy, dataset):
    path = copy / "queries.synthetic.jsonl"
    manifest = read_manifest(path)
    prompt = replace(manifest.inputs["prompt"], sha256="0" * 64)
    write_manifest(replace(manifest, inputs={**manifest.inputs, "prompt": prompt}), path)
    result = findings(copy, dataset)
    assert any(
        line.startswith("queries.synthetic.jsonl: the prompt is not the one it was") for line in result.unchecked
    )
    assert "log-probs recomputed" not in result.checked


def test_a_mixture_is_recomputed(copy, dataset, tiny):
    other, short = copy.with_name("other.txt"), copy.with_name("short.txt")
    other.write_text("{document}\nQuery: {query}")
    short.write_text("Document: {document}\nRelevant Query: {query}")
    mixture = f"{short}:0.5,{other}:0.5"
    prompt = named_prompt(mixture, ExampleOptions(), seed=5)
    written = GenerateOptions(model=tiny("llama"), max_documents=5, seed=5, **SHORT, **FLOAT32)
    manifest = generate_queries(
        *(dataset.corpus, prompt, written),
        output=copy / "queries.synthetic.jsonl",
        make_generator=lambda: load_generator(written, prompt),
    )
    assert len(manifest.results[BY_PROMPT]) == 2
    (copy / "run.json").write_text(json.dumps({"dataset": "toy", "prompt": mixture}))
    result = findings(copy, dataset)
    assert (result.problems, result.unchecked) == ([], [])
    assert result.largest["log-probs"] <= 1e-4


def test_without_a_sample_no_model_is_loaded(made, dataset):
    result = findings(made, dataset, VerifyOptions(sample=0))
    assert result.problems == []
    assert {name for name in result.checked if "recomputed" in name} == {"measures recomputed"}


def test_findings_count():
    result = VerifyFindings()
    result.count("a")
    result.count("a", 2)
    assert result.checked == {"a": 3}
