"""Queries of the embedded model, scored by `inpars score`, against the numbers stored at generation."""

import json

import pytest

from inpars.cli.main import main
from inpars.models.folders import EMBEDDED

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not EMBEDDED["smollm2-135m"].installed, reason="needs the embedded model"),
]


def rows(path):
    return {row["query_id"]: row for row in map(json.loads, path.read_text(encoding="utf-8").splitlines())}


def test_one_hundred_queries_match_what_generation_stored(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    common = ["--dataset", "python-docs", "--max-doc-tokens", "96", "--dtype", "float32", "--device", "cpu", "--quiet"]
    written = ["--max-documents", "100", "--max-new-tokens", "24", "--output", "queries.jsonl"]
    assert main(["generate", *common, *written]) == 0
    assert main(["score", *common, "--input", "queries.jsonl", "--output", "scored.jsonl"]) == 0
    stored, scored = rows(tmp_path / "queries.jsonl"), rows(tmp_path / "scored.jsonl")
    assert list(stored) == list(scored)
    assert len(stored) == 100
    for query_id, row in stored.items():
        assert scored[query_id]["log_probs"] == pytest.approx(row["log_probs"], abs=1e-3)
        if row["finish_reason"] == "stop":
            assert scored[query_id]["stop_log_prob"] == pytest.approx(row["stop_log_prob"], abs=1e-3)
