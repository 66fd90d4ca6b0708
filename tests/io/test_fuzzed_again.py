"""Faults that thirty minutes of `scripts/fuzz.py` found once and could not shrink to a small file."""

import json

import pytest

from inpars.contrib.verify.run import _kept_queries
from inpars.errors import DataFormatError
from inpars.io.manifest import manifest_path, read_manifest
from inpars.io.tables import QUERIES, table_of
from inpars.pipeline.folder import RunFolder

STAMP = {"path": "q.jsonl", "sha256": "0", "size": 1, "records": 1}


def manifest_of(output, **fields):
    values = {"stage": "filter", "arguments": {}, "inputs": {}, "output": STAMP, **fields}
    manifest_path(output).write_text(json.dumps(values))
    return read_manifest(output)


@pytest.mark.parametrize("seconds", [float("inf"), float("nan"), -1, 1e300])
def test_a_stage_took_a_time(tmp_path, seconds):
    with pytest.raises(DataFormatError, match=r"q\.jsonl\.manifest\.json: .*seconds"):
        manifest_of(tmp_path / "q.jsonl", seconds=seconds)


def test_kept_queries_of_nothing_are_said(tmp_path):
    manifest = manifest_of(tmp_path / "q.jsonl")
    run = RunFolder(tmp_path, {}, {"q.jsonl": manifest}, ())
    (problem,) = _kept_queries(run, "q.jsonl")
    assert problem.startswith("q.jsonl: ")


def test_a_carriage_return_alone_in_a_header_of_csv(tmp_path):
    path = tmp_path / "q.csv"
    path.write_bytes(b"id,te\rxt\n1,a\n")
    with pytest.raises(DataFormatError, match=r"q\.csv:1: "):
        table_of(path, QUERIES)
