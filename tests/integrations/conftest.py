"""Makes this folder importable; fixtures with a run and its system for the adapters."""

import os
import sys
from pathlib import Path

import pytest

import inpars
from inpars.io.formats import write_documents
from inpars.io.judgements import write_qrels

os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"
sys.path.insert(0, str(Path(__file__).parent))
from made_run import FLAGS, QUERIES, documents, make_run


@pytest.fixture(scope="session")
def run_folder(tiny, tmp_path_factory):
    home = tmp_path_factory.mktemp("run")
    return make_run(home / "run", tiny("sentence_transformer"), tiny("bert_classifier"))


@pytest.fixture(scope="session")
def without_reranker(tiny, tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("run") / "run", tiny("sentence_transformer"))


@pytest.fixture(scope="session")
def system(run_folder):
    with inpars.System.load(run_folder, **FLAGS) as opened:
        yield opened


@pytest.fixture
def expected(system):
    """The Python API's (doc_id, score) per query, which the adapters must reproduce."""
    return {
        query_id: [(hit.document.doc_id, hit.score) for hit in system.search(text, 5)]
        for query_id, text in QUERIES.items()
    }


@pytest.fixture(scope="session")
def collection(tmp_path_factory):
    """A BEIR folder with the run's documents, and queries and judgements."""
    folder = tmp_path_factory.mktemp("collection") / "small"
    (folder / "qrels").mkdir(parents=True)
    write_documents(folder / "corpus.jsonl", documents())
    rows = "".join(f'{{"_id": "{name}", "text": "{text}"}}\n' for name, text in QUERIES.items())
    Path(folder, "queries.jsonl").write_text(rows, encoding="utf-8")
    grades = {f"q{number}": {f"d{place}": 1 + place % 2 for place in range(number, 30, 5)} for number in range(4)}
    write_qrels(folder / "qrels" / "test.tsv", grades)
    return folder
