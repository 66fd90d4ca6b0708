"""`inpars run --generated`: queries that a paid server wrote before, in place of the run's own."""

import json

import pytest
import small_run
from fake_api import KEY, PRICES, FakeApi

from inpars.cli.main import main
from inpars.io.formats import read_synthetic_queries
from inpars.io.storage import read_jsonl, write_jsonl
from inpars.retrieval.java import find_jar, find_java

pytestmark = pytest.mark.skipif(not (find_jar() and find_java()), reason="needs pyserini with a Java")
SMALL = ["--positive-within", "0", "--rerank-depth", "3", "--k", "10", "--window-tokens", "0", "--threads", "1"]


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INPARS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    (tmp_path / "prices.yaml").write_text(PRICES, encoding="utf-8")
    texts = (f"{small_run.text(n)} document number {n}" for n in range(12))
    write_jsonl(tmp_path / "corpus.jsonl", ({"_id": f"d{n}", "text": text} for n, text in enumerate(texts)))
    return tmp_path


@pytest.fixture
def call(capsys):
    def call(*words, code=0):
        capsys.readouterr()
        assert main(list(map(str, words))) == code
        return capsys.readouterr()

    return call


@pytest.fixture
def paid(place, call):
    with FakeApi() as api:
        server = ["--backend", "chat", "--base-url", api.url, "--model", "fake", "--price-file", "prices.yaml"]
        call("generate", "--corpus", "corpus.jsonl", *server, "--output", "paid.jsonl")
    return place / "paid.jsonl"


@pytest.fixture
def command(tiny, place):
    models = small_run.models(tiny, place)
    named = models[models.index("--reranker") :]
    return ["run", "--corpus", "corpus.jsonl", *named, *SMALL, "--training", "never", "--dev-share", "0.4"]


def test_a_run_of_what_a_server_wrote(place, call, paid, command):
    out, err = call(*command, "--generated", paid, "--output", "run")
    assert "as fake writes them" in out
    assert "starts from the model" not in out, "the reranker is another"
    assert "12 queries of fake" in err
    queries = [query.text for query in read_synthetic_queries(place / "run" / "queries.synthetic.jsonl")]
    assert sorted(queries) == sorted(f"which text is n{n}" for n in range(12))
    report = json.loads((place / "run" / "report.json").read_text())
    assert "by fake with the prompt 'inpars'" in report["lead"]
    assert report["facts"]["queries written"] == "12"
    call("verify", "run", "--sample", "2")
    assert "stages up to date" in call(*command, "--generated", paid, "--output", "run")[1]
    write_jsonl(paid, [record for _, record in read_jsonl(paid)][:-1])
    assert "--generated was" in call(*command, "--generated", paid, "--output", "run", code=1)[1], "another file"
    call(*command, "--generated", paid, "--output", "run", "--overwrite")
    assert len(list(read_synthetic_queries(place / "run" / "queries.synthetic.jsonl"))) == 11
    call("verify", "run", "--sample", "0")


@pytest.mark.parametrize(
    ("change", "more", "said"),
    [
        ({}, ["--max-documents", "5"], "--max-documents"),
        ({}, ["--budget", "1h"], "--budget"),
        ({}, ["--prompt", "claim"], "--prompt"),
        ({"model": "people"}, [], "--pairs"),
        ({"log_prob_kind": "absent", "log_probs": []}, [], "inpars score"),
        ({"doc_id": "elsewhere"}, [], "'elsewhere'"),
    ],
)
def test_what_cannot_be_used_is_one_line(call, paid, command, change, more, said):
    write_jsonl(paid, [{**record, **change} for _, record in read_jsonl(paid)])
    err = call(*command, "--generated", paid, "--output", "run", *more, code=1)[1]
    assert said in next(line for line in err.splitlines() if line.startswith("inpars: "))


def test_pairs_name_the_flag_for_queries_of_a_model(call, paid, command):
    assert "--generated" in call(*command, "--pairs", paid, "--output", "run", code=1)[1]
