"""`search`, `ask` and `serve` with --run FOLDER: the very order that the runs of the folder's stages give by hand."""

import importlib.util
import io
import json
import os
import random
import shutil
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_models

from inpars.apps.qa.build_engine import EngineOptions
from inpars.apps.qa.measured import open_measured
from inpars.cli import main as cli
from inpars.documents.datasets import load_dataset
from inpars.fusion.system import FirstStage, Reranking, SearchSystem, read_system, write_system
from inpars.io.formats import read_run, write_documents, write_run
from inpars.io.manifest import read_manifest
from inpars.io.runs import completed, fuse_z_scores, rank
from inpars.pipeline.commands import Invocation
from inpars.pipeline.mark import write_mark
from inpars.prompts.load import load_prompt
from inpars.records import Document
from inpars.rerankers.rerank import fuse_with_first_stage
from inpars.retrieval import java
from inpars.retrieval.java import find_jar, find_java
from inpars.retrieval.vector_index import VectorIndex

HAS_BM25 = bool(find_java() and find_jar() and importlib.util.find_spec("jnius"))
needs_bm25 = pytest.mark.skipif(not HAS_BM25, reason="pyserini, pyjnius or Java is missing")
QUERIES = {f"q{number}": tiny_models.sentence(900 + number, 3).rstrip(".") for number in range(6)}
MANY = {f"m{number}": tiny_models.sentence(700 + number, 3).rstrip(".") for number in range(24)}
COMPUTING = ("--device", "cpu", "--dtype", "float32", "--quiet")
DEPTH, RERANKED = 20, 7


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INPARS_CACHE", str(tmp_path / "cache"))
    words = random.Random(1)
    documents = [
        Document(
            f"d{number}",
            " ".join(tiny_models.sentence(number * 10 + part, words.randint(4, 12)) for part in range(4)),
            tiny_models.sentence(500 + number, 2),
            {"source": f"{number % 2}.md"},
        )
        for number in range(40)
    ]
    write_documents(Path("c.jsonl"), documents)
    Path("q.tsv").write_text("".join(f"{name}\t{text}\n" for name, text in QUERIES.items()), encoding="utf-8")


@pytest.fixture
def run(capsys):
    def call(*arguments, code=0):
        capsys.readouterr()
        assert cli.main([str(argument) for argument in arguments]) == code
        return capsys.readouterr()

    return call


@pytest.fixture
def dense(tiny):
    """A system of whole documents and windows, without BM25."""
    encoder = tiny("sentence_transformer")
    stages = (
        FirstStage(name="whole", retriever=encoder, weight=0.7),
        FirstStage(name="windows", retriever=encoder, window_tokens=12, weight=1.6),
    )
    return SearchSystem(stages=stages, fusion_depth=DEPTH, k1=0.9, b=0.4, language="en")


def saved(system, folder="measured"):
    """A run's folder with this system and the run.json of its documents."""
    folder = Path(folder)
    folder.mkdir(exist_ok=True)
    write_mark(
        folder, load_dataset(None, corpus=Path("c.jsonl")), Invocation(source={"corpus": "c.jsonl", "split": "test"})
    )
    write_system(system, folder)
    return folder


def with_bm25(system):
    bm25 = FirstStage(name="bm25", retriever="bm25", weight=0.45)
    return replace(system, stages=(bm25, *system.stages), k1=1.4, b=0.2)


def with_reranker(system, tiny, model="bert_classifier", **settings):
    settings |= {"window_retriever": tiny("sentence_transformer"), "window_tokens": 12, "max_length": 64}
    return replace(system, reranking=Reranking(model=tiny(model), depth=RERANKED, weight=0.3, **settings))


def by_hand(run, system):
    """The system's ranking from single commands: a run per stage, their fusion, and the scores of its top documents."""
    paths = []
    for stage in system.stages:
        paths.append(Path(f"{stage.name}.trec"))
        window = ["--window-tokens", stage.window_tokens] if stage.window_tokens else []
        given = ["--retriever", stage.retriever, *window, "--k1", system.k1, "--b", system.b, "--k", DEPTH]
        run("search", "--corpus", "c.jsonl", "--queries", "q.tsv", *given, "--output", paths[-1], *COMPUTING)
    lexical = [stage.retriever == "bm25" for stage in system.stages]
    fused = fuse_z_scores(completed([read_run(path) for path in paths], lexical, DEPTH), 1000, system.weights)
    if system.reranking is None:
        return ordered(fused)
    write_run(Path("fused.trec"), fused, "fused")
    own = system.reranking
    given = ["--windows", "nearest", "--window-retriever", own.window_retriever, "--window-tokens", own.window_tokens]
    given += ["--model", own.model, "--depth", own.depth, "--max-length", own.max_length]
    given += ["--kind", own.kind, *COMPUTING]
    given += [] if own.prompt is None else ["--prompt", own.prompt.name]
    run("rerank", "--corpus", "c.jsonl", "--queries", "q.tsv", "--run", "fused.trec", *given, "--output", "scored.trec")
    scores = read_run(Path("scored.trec"))
    weights = (1 - own.weight, own.weight)
    return ordered(fuse_with_first_stage(read_run(Path("fused.trec")), scores, depth=own.depth, weights=weights))


def ordered(run):
    return {query_id: [doc_id for doc_id, _ in rank(scores)] for query_id, scores in run.items()}


def typed(measured, k, **settings):
    dataset = load_dataset(None, corpus=Path("c.jsonl"))
    options = EngineOptions(device="cpu", dtype="float32")
    with open_measured(measured, options, corpus=dataset.corpus) as engine:
        results = engine.search(list(QUERIES.values()), k, **settings)
    return dict(zip(QUERIES, results, strict=True))


def ids(results):
    return {query_id: [hit.document.doc_id for hit in hits] for query_id, hits in results.items()}


@pytest.mark.parametrize("reranked", [False, True])
@pytest.mark.parametrize("lexical", [False, pytest.param(True, marks=needs_bm25)])
def test_typed_and_batch_search_have_the_order_of_the_runs(run, dense, tiny, lexical, reranked):
    system = with_bm25(dense) if lexical else dense
    system = with_reranker(system, tiny) if reranked else system
    folder, expected = saved(system), by_hand(run, system)
    run("search", "--run", folder, "--queries", "q.tsv", "--output", "x.trec", *COMPUTING)
    assert ordered(read_run(Path("x.trec"))) == expected
    results = typed(system, 3)  # fewer than the reranker reads
    assert ids(results) == {query_id: order[:3] for query_id, order in expected.items()}
    assert ids(typed(system, DEPTH)) == {query_id: order[:DEPTH] for query_id, order in expected.items()}
    names = {stage.name for stage in system.stages} | ({"reranker"} if reranked else set())
    assert set().union(*(hit.scores for hits in results.values() for hit in hits)) == names


@needs_bm25
def test_documents_of_one_text_have_the_order_of_the_runs(run, dense):
    corpus = Path("c.jsonl")
    rows = [json.loads(line) for line in corpus.read_text(encoding="utf-8").splitlines()]
    copies = [row | {"_id": f"{'a' if number % 2 else 'z'}{row['_id']}"} for number, row in enumerate(rows)]
    corpus.write_text("".join(json.dumps(row) + "\n" for row in rows + copies), encoding="utf-8")
    system = with_bm25(dense)
    saved(system)
    assert ids(typed(system, DEPTH)) == {name: order[:DEPTH] for name, order in by_hand(run, system).items()}


def test_one_stage_is_searched_as_deep_as_is_asked(run, dense, tiny):
    system = with_reranker(replace(dense, stages=dense.stages[1:], fusion_depth=2), tiny)
    folder, expected = saved(system), by_hand(run, system)
    run("search", "--run", folder, "--queries", "q.tsv", "--k", DEPTH, "--output", "x.trec", *COMPUTING)
    assert ordered(read_run(Path("x.trec"))) == expected
    assert ids(typed(system, 9)) == {query_id: order[:9] for query_id, order in expected.items()}


def test_a_likelihood_is_shown_the_prompt(run, dense, tiny):
    system = with_reranker(dense, tiny, "llama", kind="query-likelihood", prompt=load_prompt("inpars"))
    folder, expected = saved(system), by_hand(run, system)
    run("search", "--run", folder, "--queries", "q.tsv", "--output", "x.trec", *COMPUTING)
    assert ordered(read_run(Path("x.trec"))) == expected
    assert ids(typed(system, 3)) == {query_id: order[:3] for query_id, order in expected.items()}
    without = replace(system, reranking=replace(system.reranking, prompt=None))
    assert ids(typed(without, RERANKED)) != ids(typed(system, RERANKED))


@pytest.fixture
def measured_run(run, dense, tiny):
    """The folder of a run that trained its reranker, and its ranking for 24 queries from its TREC run."""

    def make(system):
        folder = saved(system)
        shutil.copytree(tiny("bert_classifier"), folder / "models" / "reranker")
        own = with_reranker(system, tiny)
        write_system(replace(own, reranking=replace(own.reranking, model=str(folder / "models" / "reranker"))), folder)
        Path("m.tsv").write_text("".join(f"{name}\t{text}\n" for name, text in MANY.items()), encoding="utf-8")
        run("search", "--run", folder, "--queries", "m.tsv", "--k", 9, "--output", "m.trec", *COMPUTING)
        return folder, ordered(read_run(Path("m.trec")))

    return make


def found_in(index):
    """The order of the measured system of an index."""
    options = EngineOptions(device="cpu", dtype="float32")
    with open_measured(read_system(index), options, corpus=VectorIndex(index)) as engine:
        networks = {id(encoder._model) for encoder in engine.encoders.values()}
        assert len(networks) == 1, "views of one model share its network"
        return ids(dict(zip(MANY, engine.search(list(MANY.values()), 9), strict=True)))


@pytest.mark.parametrize("lexical", [False, pytest.param(True, marks=needs_bm25)])
def test_an_index_of_a_run_has_the_order_of_the_runs_file(run, dense, measured_run, lexical):
    folder, expected = measured_run(with_bm25(dense) if lexical else dense)
    index, first = Path("i"), next(iter(MANY))
    run("index", "build", "--run", folder, "--index", index, *COMPUTING)
    assert len(expected) == len(MANY) == 24
    assert found_in(index) == expected
    hits = json.loads(run("search", "--index", index, MANY[first], "--k", 9, "--json", *COMPUTING).out)["hits"]
    assert [hit["doc_id"] for hit in hits] == expected[first]
    # a changed index is one of the documents that it has then, and the same documents give the same order
    run("index", "delete", "--index", index, "--ids", *(f"d{n}" for n in range(20)), "--quiet")
    assert found_in(index) != expected
    run("index", "add", "--index", index, "--corpus", "c.jsonl", *COMPUTING)
    assert found_in(index) == expected


def test_an_index_of_a_run_refuses_what_its_system_settles(run, dense):
    folder, retriever = saved(dense), dense.stages[0].retriever
    for flags in (("--retriever", "x"), ("--max-length", "9"), ("--engine", "ray")):
        assert flags[0] in run("index", "build", "--run", folder, "--index", "i", *flags, "--quiet", code=1).err
    run("index", "build", "--run", folder, "--index", "i", *COMPUTING)
    for flags in (("--reranker", "x", "words"), ("--queries", "q.tsv", "--output", "x.trec")):
        err = run("search", "--index", "i", *flags, "--quiet", code=1).err
        assert err.count("\n") == 1
        assert "--index i" in err or "--run" in err
    write_system(replace(dense, stages=dense.stages[:1]), Path("i"))
    assert "build it again" in run("search", "--index", "i", "words", *COMPUTING, code=1).err
    run("index", "build", "--corpus", "c.jsonl", "--index", "i", "--overwrite", "--retriever", retriever, *COMPUTING)
    assert not Path("i", "system.json").exists()


def test_an_index_keeps_its_system_if_building_it_again_is_interrupted(run, dense, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    run("index", "build", "--run", saved(dense), "--index", "i", *COMPUTING)
    monkeypatch.setattr("inpars.cli.index.build_index", interrupted)
    rebuild = ("index", "build", "--corpus", "c.jsonl", "--index", "i", "--overwrite", *COMPUTING)
    run(*rebuild, "--retriever", dense.stages[0].retriever, code=130)
    assert read_system(Path("i")).stages == dense.stages


def test_a_deployed_folder_has_the_order_of_the_run_without_it(run, dense, measured_run):
    folder, expected = measured_run(dense)
    values = json.loads(run("deploy", "folder", "--run", folder, "--output", "carried", "--json", "--quiet").out)
    assert values["models"] == ["reranker"]
    shutil.rmtree(folder)
    Path("c.jsonl").unlink()
    moved = Path("carried").rename("elsewhere")
    run("search", "--run", moved, "--queries", "m.tsv", "--k", 9, "--output", "y.trec", *COMPUTING)
    assert ordered(read_run(Path("y.trec"))) == expected


HANDLER = """
import json, sys
sys.path.insert(0, "code")  # as the container does
import inference
engine = inference.model_fn(".")
assert "unpacked/code/inpars" in sys.modules["inpars"].__file__
for line in sys.stdin:
    try:
        found = inference.predict_fn(inference.input_fn(line), engine)
        print(json.dumps([hit["doc_id"] for hit in found["hits"]]))
    except ValueError as error:
        print(json.dumps(str(error)))
"""


@pytest.mark.parametrize("lexical", [False, pytest.param(True, marks=needs_bm25)])
def test_a_deployed_archive_has_the_order_of_the_run_without_it(run, dense, measured_run, tmp_path, lexical):
    folder, expected = measured_run(with_bm25(dense) if lexical else dense)
    values = json.loads(run("deploy", "archive", "--run", folder, "--output", "a.tar.gz", "--json", "--quiet").out)
    assert values["models"] == sorted(["reranker", Path(dense.stages[0].retriever).name])
    shutil.rmtree(folder)
    Path("c.jsonl").unlink()
    with tarfile.open("a.tar.gz") as packed:
        packed.extractall("unpacked", filter="data")
    assert ("pyserini" in Path("unpacked/code/requirements.txt").read_text()) == lexical
    for stage in json.loads(Path("unpacked/system.json").read_text())["stages"]:
        assert stage["retriever"] == "bm25" or Path("unpacked", stage["retriever"]).is_dir()
    requests = [*({"query": text, "k": 9} for text in MANY.values()), {"query": "amber", "k": 0}, {"query": ""}]
    done = subprocess.run(
        [sys.executable, "-c", HANDLER],
        input="".join(json.dumps(one) + "\n" for one in requests),
        capture_output=True,
        text=True,
        check=False,
        cwd="unpacked",
        env={**os.environ, "INPARS_DTYPE": "float32", "INPARS_CACHE": str(tmp_path / "other"), "PYTHONPATH": ""},
    )
    assert done.returncode == 0, done.stderr
    *results, no_hits, no_query = map(json.loads, done.stdout.splitlines())
    assert dict(zip(MANY, results, strict=True)) == {name: list(order) for name, order in expected.items()}
    assert ("k must be" in no_hits, "query must be" in no_query) == (True, True)


def test_an_archive_of_another_name_is_refused_before_anything_is_read(run, dense):
    assert "end in .tar.gz" in run("deploy", "archive", "--run", "nowhere", "--output", "a.zip", code=1).err


def test_filters_hold_and_each_stage_is_a_system(dense, tiny):
    system = with_reranker(dense, tiny)
    results = typed(system, 40, filters={"source": "1.md"})
    assert {hit.document.doc_id for hit in results["q0"]} == {f"d{number}" for number in range(1, 40, 2)}
    for name in ("whole", "windows"):
        assert all(hit.scores == {name: hit.score} for hits in typed(system, 5, system=name).values() for hit in hits)


def test_the_manifest_names_what_the_run_was_made_from(run, dense, tiny):
    folder = saved(with_reranker(dense, tiny))
    given = ("search", "--run", folder, "--queries", "q.tsv", "--output", "x.trec", *COMPUTING)
    assert run(*given).out.startswith("x.trec: ")
    made = read_manifest(Path("x.trec"))
    models = {"retriever whole", "retriever windows", "reranker", "window retriever"}
    assert set(made.inputs) == {"system", "corpus", "queries"} | models
    run(*given)
    assert read_manifest(Path("x.trec")) == made
    first, second = dense.stages
    write_system(replace(dense, stages=(replace(first, weight=2.0), second)), folder)
    run(*given)
    assert read_manifest(Path("x.trec")).inputs["system"] != made.inputs["system"]


def test_typed_queries_are_shown_with_the_scores_of_the_stages(run, dense, monkeypatch):
    folder = saved(dense)
    hits = json.loads(run("search", "--run", folder, QUERIES["q0"], "--k", "2", "--json", *COMPUTING).out)["hits"]
    assert [hit["doc_id"] for hit in hits] == ids(typed(dense, 2))["q0"]
    assert set().union(*(hit["scores"] for hit in hits)) == {"whole", "windows"}
    monkeypatch.setattr("sys.stdin", io.StringIO(f":system windows\n{QUERIES['q0']}\n"))
    out, err = run("search", "--run", folder, "--interactive", *COMPUTING)
    assert "systems: measured, whole, windows" in err
    assert "(rank: windows 1)" in out
    values = json.loads(run("ask", "--run", folder, QUERIES["q0"], "--threshold", "-1", "--json", *COMPUTING).out)
    assert values["system"] == "measured"
    assert [source["doc_id"] for source in values["sources"]] == ids(typed(dense, 5))["q0"]


def test_relative_documents_are_those_of_where_the_run_began(run, dense, monkeypatch):
    given = ("search", QUERIES["q0"], "--run", saved(dense).resolve(), "--json", *COMPUTING)
    before = run(*given).out
    monkeypatch.chdir("measured")
    assert run(*given).out == before


def test_a_moved_folder_of_documents_is_searched(run, dense, tiny):
    folder = Path("first")
    (folder / "documents").mkdir(parents=True)
    (folder / "models").mkdir()
    Path("c.jsonl").rename(folder / "documents" / "corpus.jsonl")
    retriever = shutil.copytree(tiny("sentence_transformer"), folder / "models" / "retriever")
    dataset = load_dataset(str(folder / "documents"))
    write_mark(folder, dataset, Invocation(source={"dataset": dataset.name}, documents="my/files"))
    write_system(replace(dense, stages=(replace(dense.stages[1], retriever=str(retriever)),)), folder)
    given = ("search", QUERIES["q0"], "--json", *COMPUTING)
    before = json.loads(run(*given, "--run", folder).out)
    moved = folder.rename("moved")
    assert json.loads(run(*given, "--run", moved).out) == before
    (moved / "documents").rename("elsewhere")
    assert "documents/ with the passages" in run(*given, "--run", moved, code=1).err


def test_changed_documents_are_refused_unless_they_are_named(run, dense):
    folder = saved(dense)
    write_documents(Path("c.jsonl"), [Document("d1", "Amber lantern."), Document("d2", "Copper kettle.")])
    given = ("search", "--run", folder, "amber lantern", "--device", "cpu")
    err = run(*given, code=1).err
    assert err.count("\n") == 1
    assert "c.jsonl" in err
    assert "--corpus" in err
    out, err = run(*given, "--corpus", "c.jsonl")
    assert " 1. d1\n" in out
    assert "c.jsonl: not the documents" in err
    Path("c.jsonl").unlink()
    err = run(*given, code=1).err
    assert err.count("\n") == 1
    assert "--dataset or --corpus" in err


@pytest.mark.parametrize(
    "flags",
    [
        ("--retriever", "bm25"),
        ("--index", "index"),
        ("--reranker", "x"),
        ("--base-retriever", "x"),
        ("--k1", "0.9"),
        ("--b=0.4",),
        ("--depth", "50"),
        ("--language", "en"),
        ("--window-tokens", "64"),
        ("--fusion-depth", "100"),
        ("--max-length", "64"),
        ("--engine", "local"),
    ],
)
def test_flags_that_the_system_settles_are_refused(run, dense, flags):
    folder = saved(dense)
    for rest in (["x"], ["--output", "x.trec"]):
        err = run("search", "--run", folder, *flags, *rest, "--quiet", code=1).err
        assert err.count("\n") == 1
        assert flags[0].partition("=")[0] in err
        assert "system.json" in err


@pytest.mark.parametrize("command", [("ask", "what"), ("serve", "--port", "0")])
def test_other_commands_refuse_the_same(run, dense, command):
    folder = saved(dense)
    for flags in (("--no-bm25",), ("--reranker", "x"), ("--index", "i"), ("--k1", "1")):
        err = run(*command, "--run", folder, *flags, "--quiet", code=1).err
        assert err.count("\n") == 1
        assert flags[0] in err
    Path("empty").mkdir()
    for missing in ("empty", "absent"):
        assert missing in run(*command, "--run", missing, "--quiet", code=1).err


def test_what_run_takes_is_said(run, dense):
    folder = saved(dense)
    for name in ("a.trec", "b.trec"):
        Path(name).write_text("q0 Q0 d1 1 1.0 x\n", encoding="utf-8")
    for given in (
        ("x", "--run", "a.trec"),
        ("--run", "a.trec", "--run", "b.trec", "--limit", "1", "--output", "y.trec"),
        ("--run", "a.trec", "--output", "y.trec"),
        ("--run", folder, "--run", "a.trec", "--output", "y.trec"),
        ("x", "--run", folder, "--system", "hybrid"),
        ("x", "--corpus", "c.jsonl", "--system", "measured"),
        ("x", "--run", folder, "--leave-out", "a.trec"),
        ("--run", folder, "--output", "y.trec"),  # no queries
    ):
        assert run("search", *given, "--quiet", code=1).err.count("\n") == 1


def test_without_java_a_system_with_bm25_is_refused(run, dense, monkeypatch):
    monkeypatch.setattr(java, "find_java", lambda: None)
    java._start.cache_clear()
    folder = saved(with_bm25(dense))
    for given in (["x"], ["--queries", "q.tsv", "--output", "x.trec"]):
        err = run("search", "--run", folder, *given, *COMPUTING, code=1).err
        assert err.count("\n") == 1
        assert "Java" in err
    java._start.cache_clear()
