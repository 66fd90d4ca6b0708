"""What a run without judged queries is measured by, and what it says about that."""

import json
from types import SimpleNamespace

import pytest
from tiny_models import sentence

from inpars.documents.datasets import load_dataset
from inpars.io.formats import read_synthetic_queries
from inpars.io.topics import Topics
from inpars.pipeline.commands import Invocation, StageCommands
from inpars.pipeline.held_out import DEV_SPLIT, HeldOut, hold_out_queries, with_statements
from inpars.pipeline.options import PipelineOptions
from inpars.pipeline.steps import Steps
from inpars.pipeline.system_runs import RunContext
from inpars.progress import SILENT
from inpars.prompts.load import load_prompt
from inpars.report.schema import Report, Results


def held_out(folder, monkeypatch, documents, **options):
    monkeypatch.setenv("INPARS_CACHE", str(folder / "cache"))
    corpus = folder / "corpus.jsonl"
    rows = [{"_id": f"d{n}", "text": sentence(n, 60), "metadata": {"source": f"f{n}"}} for n in range(documents)]
    corpus.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    queries = folder / "queries.jsonl"
    written = [{"doc_id": f"d{n}", "query": f"what is {n}", "log_probs": [-1.0]} for n in range(documents)]
    queries.write_text("".join(json.dumps(row) + "\n" for row in written), encoding="utf-8")
    dataset = load_dataset(None, corpus=corpus)
    options = PipelineOptions(**options)
    steps, commands = Steps(SILENT, options), StageCommands(Invocation())
    return hold_out_queries(
        RunContext(dataset, load_prompt("inpars"), options, folder, None, steps, False, commands), queries
    )


def test_queries_are_held_out_and_judged_by_their_own_documents(tmp_path, monkeypatch):
    found = held_out(tmp_path, monkeypatch, 20, dev_share=0.25)
    # a quarter of 20 queries, one a file
    assert len(found.topics.qrels) == 5
    assert all(list(grades.values()) == [1] for grades in found.topics.qrels.values())
    trained_on = {query.query_id for query in read_synthetic_queries(found.train)}
    assert len(trained_on) == 15
    assert trained_on.isdisjoint(found.topics.qrels)
    assert found.statement.startswith(
        "Measured by 5 synthetic queries, held out by file: nothing cut from the same file"
    )
    assert "It does not show how people's own queries fare" in found.statement
    assert "which favours it" in found.statement  # the reranker is the model that wrote the queries


def test_another_reranker_is_not_said_to_be_favoured(tmp_path, monkeypatch):
    assert "favours" not in held_out(tmp_path, monkeypatch, 20, reranker="minilm").statement


def test_too_few_queries_are_all_trained_on(tmp_path, monkeypatch):
    found = held_out(tmp_path, monkeypatch, 1)
    assert (found.train.name, found.topics) == ("queries.jsonl", None)
    assert found.statement.startswith("Nothing was measured: 1 queries of 1 clusters")


@pytest.fixture
def report():
    results = Results(["nDCG@10"], 5, "bm25", "bm25", [], {}, [], [], notes=["small"])
    return Report("T", "Made.", {"judged queries": "5", "documents": "20"}, results)


def test_the_report_says_it_at_its_head_and_beside_its_numbers(report):
    said = with_statements(report, HeldOut(SimpleNamespace(), Topics(DEV_SPLIT, {}, {}), "Held out."))
    assert said.lead == "Made. Held out."
    assert said.facts == {"held-out queries": "5", "documents": "20"}
    assert said.results.notes == ["small", "Held out."]


def test_a_report_of_judged_queries_stays_as_it_is(report):
    assert with_statements(report, HeldOut(SimpleNamespace(), None, "")) is report
