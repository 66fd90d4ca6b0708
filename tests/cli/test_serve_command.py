"""`inpars serve` as it is typed, with tiny models, asked by the clients that people have."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="the serve extra is not installed")
pytest.importorskip("uvicorn", reason="the serve extra is not installed")
sys.path.insert(0, str(Path(__file__).parents[1] / "apps" / "serve"))

from processes import started

DOCUMENTS = [
    ("1", "amber anchor", "Amber apple autumn basket.", {"source": "a.md"}),
    ("2", "river", "River valley willow winter.", {"source": "b.md"}),
    ("3", "", "Copper desert <script>alert(1)</script> dolphin.", {"source": "b.md"}),
]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("serve")
    rows = [{"_id": i, "title": title, "text": text, "metadata": data} for i, title, text, data in DOCUMENTS]
    corpus = folder / "corpus.jsonl"
    corpus.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def server(files, tiny):
    retriever, reranker = tiny("sentence_transformer"), tiny("bert_classifier")
    command = [sys.executable, "-m", "inpars", "serve", "--corpus", str(files / "corpus.jsonl"), "--port", "0"]
    command += ["--retriever", retriever, "--base-retriever", retriever, "--reranker", reranker, "--no-bm25"]
    command += ["--threads", "1", "--feedback", str(files / "feedback.jsonl")]
    with started(command, stream="stderr", INPARS_CACHE=str(files / "cache")) as running:
        running.retriever, running.reranker = retriever, reranker
        yield running


def test_search_over_all_systems(server):
    names = [system["name"] for system in server.get("/v1/collection")[2]["systems"]]
    assert names == ["hybrid", "dense", "base"]
    for name in names:
        status, _, body = server.post("/search", {"query": "river valley", "system": name})
        assert (status, len(body["hits"])) == (200, 3)
    assert server.get("/v1/collection")[2]["fields"] == {"source": {"b.md": 2, "a.md": 1}}
    filtered = server.post("/search", {"query": "river", "filters": {"source": "a.md"}})[2]["hits"]
    assert [hit["doc_id"] for hit in filtered] == ["1"]


def test_embeddings_are_the_models_own(server):
    import numpy as np

    from inpars.retrieval.dense import Encoder

    texts = ["amber apple", "river valley willow"]
    body = server.post("/v1/embeddings", {"input": texts, "input_type": "query"})[2]
    expected = Encoder(server.retriever, device="cpu").encode_queries(texts)
    vectors = np.array([row["embedding"] for row in body["data"]], dtype=np.float32)
    np.testing.assert_allclose(vectors, expected, atol=2e-2)  # bfloat16 where the processor is fast with it
    # [CLS], two words, [SEP]; [CLS], three words, [SEP]
    assert body["usage"]["prompt_tokens"] == 4 + 5


def test_the_openai_client_gets_its_embeddings(server):
    openai = pytest.importorskip("openai", reason="the api extra is not installed")
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
    answer = client.embeddings.create(model=server.retriever, input=["amber", "river"])  # asks for base64
    plain = client.embeddings.create(model=server.retriever, input=["amber", "river"], encoding_format="float")
    assert [len(row.embedding) for row in answer.data] == [32, 32]
    assert answer.data[1].embedding == pytest.approx(plain.data[1].embedding, abs=1e-6)
    with pytest.raises(openai.NotFoundError, match="unknown model 'text-embedding-3-small'"):
        client.embeddings.create(model="text-embedding-3-small", input="amber")
    client.close()


def test_rerank_orders_as_the_scorer_does(server):
    from inpars.rerankers import load_scorer

    texts = [text for _, _, text, _ in DOCUMENTS]
    body = server.post("/v1/rerank", {"query": "river", "documents": texts})[2]
    scores = load_scorer(server.reranker, device="cpu").score([("river", text) for text in texts])
    expected = sorted(range(3), key=lambda n: -scores[n])
    assert [row["index"] for row in body["results"]] == expected
    assert [row["score"] for row in body["results"]] == pytest.approx([scores[n] for n in expected], abs=1e-4)


def test_ask_answers_from_what_was_found(server):
    status, _, body = server.post("/ask", {"question": "where is the river valley"})
    assert status == 200
    assert body["kind"] == "extractive"
    assert {hit["doc_id"] for hit in body["sources"]} == {"1", "2", "3"}
    if body["answered"]:
        source = body["sources"][body["cited"][0] - 1]
        assert source["text"][body["span"]["start"] : body["span"]["end"]] == body["text"]
    assert server.post("/ask", {"question": "river", "kind": "generated"})[0] == 400  # no language model was asked for


def refused(*flags, **environment):
    done = subprocess.run(
        [sys.executable, "-m", "inpars", "serve", *flags],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.stderr.count("\n") == 1
    return done.returncode, done.stderr


def test_a_port_that_is_taken_is_said_before_models_load(files):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        code, message = refused("--corpus", str(files / "corpus.jsonl"), "--port", port)
    assert code == 1
    assert message.startswith(f"inpars: cannot listen on 127.0.0.1 port {port}: ")
    assert "--port" in message


def test_a_measured_run_is_served(files, tiny):
    from inpars.documents.datasets import load_dataset
    from inpars.fusion.system import FirstStage, SearchSystem, write_system
    from inpars.pipeline.commands import Invocation
    from inpars.pipeline.mark import write_mark

    folder, corpus, encoder = files / "measured", files / "corpus.jsonl", tiny("sentence_transformer")
    folder.mkdir()
    write_mark(folder, load_dataset(None, corpus=corpus), Invocation(source={"corpus": str(corpus)}))
    stages = (
        FirstStage(name="whole", retriever=encoder, weight=0.3),
        FirstStage(name="windows", retriever=encoder, window_tokens=8, weight=0.7),
    )
    write_system(SearchSystem(stages=stages, k1=0.9, b=0.4, language="en"), folder)
    command = [sys.executable, "-m", "inpars", "serve", "--run", str(folder), "--port", "0", "--threads", "1"]
    with started(command, stream="stderr", INPARS_CACHE=str(files / "cache")) as running:
        systems = running.get("/v1/collection")[2]["systems"]
        assert [system["name"] for system in systems] == ["measured", "whole", "windows"]
        hits = running.post("/search", {"query": "river valley"})[2]["hits"]
        assert [set(hit["scores"]) for hit in hits] == [{"whole", "windows"}] * 3
        assert len(running.post("/v1/embeddings", {"input": "x", "model": "windows"})[2]["data"]) == 1


def test_no_documents_named_is_said():
    assert refused("--port", "0") == (
        1,
        "inpars: no documents named: give --dataset NAME, --corpus FILE, --index FOLDER or --run FOLDER\n",
    )


def test_settings_that_cannot_be_are_said():
    code, message = refused("--corpus", "x.jsonl", "--max-batch", "0", "--max-concurrent", "-1")
    assert code == 1
    assert "--max-concurrent is -1; it must be at least 1; --max-batch is 0; it must be at least 1" in message


def test_without_fastapi_the_pip_line_is_given(files):
    program = (
        "import sys; sys.modules['fastapi'] = None; from inpars.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "serve", "--corpus", str(files / "corpus.jsonl")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("inpars: fastapi is needed for")
    assert "pip install" in done.stderr
