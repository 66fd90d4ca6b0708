"""MTEB measures a run's system on our collection: the same nDCG@10 as `inpars evaluate`, with no hub asked."""

import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest
from made_run import FLAGS

from inpars import api
from inpars.cli import main as cli
from inpars.errors import ConfigError
from inpars.io.formats import read_run

pytest.importorskip("mteb", reason="the mteb extra is not installed")
import mteb

from inpars.integrations.mteb import InparsModel, retrieval_task


def test_ndcg_is_ours(run_folder, collection, tmp_path):
    given = ["--run", run_folder, "--dataset", collection, "--output", tmp_path / "run.trec", "--device", "cpu"]
    assert cli.main([str(word) for word in ["search", *given, "--dtype", "float32", "--quiet"]]) == 0
    ours = api.evaluate({"run": read_run(tmp_path / "run.trec")}, str(collection), metrics="nDCG@10", quiet=True).means[
        "run"
    ]["nDCG@10"]
    assert 0 < ours < 1
    model, task = InparsModel(run_folder, **FLAGS), retrieval_task(str(collection), name="Small")
    try:
        result = mteb.evaluate(model, task, cache=None, show_progress_bar=False)
        [scores] = result.task_results[0].scores["test"]
    finally:
        model.close()
    assert scores["ndcg_at_10"] == pytest.approx(ours, abs=1e-4)
    assert scores["main_score"] == scores["ndcg_at_10"]
    assert (result.task_results[0].task_name, result.model_name) == ("Small", f"inpars/{run_folder.name}")


def test_what_is_no_task_is_refused(collection, run_folder):
    with pytest.raises(ConfigError, match="index"):
        InparsModel(run_folder).search([], top_k=3)
    with pytest.raises(ConfigError, match="reranking"):
        InparsModel(run_folder).search([], top_k=3, top_ranked={})


@pytest.fixture
def endpoint(collection, tiny):
    """The address of a served bi-encoder."""
    flags = [
        "--dataset",
        collection,
        "--retriever",
        tiny("sentence_transformer"),
        "--no-bm25",
        "--port",
        "0",
        "--device",
    ]
    command = [sys.executable, "-m", "inpars", "serve", *map(str, flags), "cpu", "--dtype", "float32"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        yield next(part for line in process.stdout for part in line.split() if part.startswith("http://"))
    finally:
        os.kill(process.pid, signal.SIGTERM)
        process.communicate(timeout=30)


def test_a_served_encoder_is_measured_through_the_wrapper_of_openais_endpoint(endpoint, collection, tiny, monkeypatch):
    tiktoken = pytest.importorskip("tiktoken")
    openai = pytest.importorskip("openai")
    from mteb.models.model_implementations.openai_models import OpenAIModel

    words = SimpleNamespace(encode=str.split, decode=" ".join)  # the wrapper's own vocabulary is a download
    monkeypatch.setattr(tiktoken, "get_encoding", lambda _: words)
    encoder = str(tiny("sentence_transformer"))
    run = api.search(str(collection), encoder, quiet=True, **FLAGS)
    ours = api.evaluate({"run": run}, str(collection), metrics="nDCG@10", quiet=True).means["run"]["nDCG@10"]
    client = openai.OpenAI(base_url=f"{endpoint.rstrip('/')}/v1", api_key="none")
    width = len(client.embeddings.create(model="dense", input="a").data[0].embedding)
    model = OpenAIModel("dense", 8192, embed_dim=width, client=client)
    task = retrieval_task(str(collection), name="Small")
    result = mteb.evaluate(model, task, cache=None, show_progress_bar=False, encode_kwargs={"batch_size": 32})
    [scores] = result.task_results[0].scores["test"]
    assert scores["ndcg_at_10"] == pytest.approx(ours, abs=1e-4)
