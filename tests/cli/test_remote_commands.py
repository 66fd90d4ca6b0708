"""The commands over s3:// addresses, on a server that fails one request in twenty: nothing is lost, the same bytes."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import urllib.request

import pytest
from tiny_models import sentence

from inpars.cli.main import main
from inpars.contrib.remote.mirror import Mirror
from inpars.errors import StorageError
from inpars.io.formats import write_documents, write_qrels, write_run
from inpars.io.storage import write_jsonl
from inpars.records import Document

NEEDED = ("obstore", "fsspec", "moto", "flask", "flask_cors")
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)} (about 40 MB)")

DOCUMENTS = [Document(f"d{number}", sentence(number, 2 + number % 6 * 4)) for number in range(13)]


@pytest.fixture(scope="module")
def server():
    from failing_s3 import s3_server

    with s3_server() as (address, faults):
        urllib.request.urlopen(urllib.request.Request(f"{address}/bucket", method="PUT")).close()
        yield address, faults


@pytest.fixture
def faults(server, monkeypatch):
    address, faults = server
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "made-up")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "made-up")
    faults.every, faults.requests, faults.failed = 20, 0, 0
    return faults


def commands(place, tiny, machine, shards):
    """Generate in shards, merge, and evaluate a run, over paths or addresses below `place`."""
    common = ["--corpus", f"{place}/corpus.jsonl", "--dtype", "float32", "--quiet"]
    prompt = ["--prompt", str(machine.path / "prompt.txt"), "--max-new-tokens", "6"]
    generate = ["generate", *common, "--model", f"{place}/model", *prompt, "--output", f"{place}/q.jsonl"]
    for number in range(1, shards + 1):
        machine(f"machine-{number}")
        assert main([*generate, "--shard", f"{number}/{shards}"]) == 0
    machine("last")
    assert main(["merge", "--output", f"{place}/q.jsonl", "--quiet"]) == 0
    judged = [
        "--corpus",
        f"{place}/corpus.jsonl",
        "--queries",
        f"{place}/topics.jsonl",
        "--qrels",
        f"{place}/qrels.tsv",
    ]
    written = ["--output", f"{place}/metrics.json", "--quiet"]
    assert main(["evaluate", *judged, "--run", f"{place}/run.trec", *written]) == 0


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Each machine has a separate cache."""

    def use(name):
        monkeypatch.setenv("INPARS_CACHE", str(tmp_path / "caches" / name))

    use.path = tmp_path
    (tmp_path / "prompt.txt").write_text("A lake is water: what is a lake?\n\n{document}\nRelevant Query:")
    return use


def write_inputs(folder, model):
    folder.mkdir()
    write_documents(folder / "corpus.jsonl", DOCUMENTS)
    write_jsonl(folder / "topics.jsonl", ({"_id": f"q{n}", "text": sentence(n, 3)} for n in range(3)))
    write_qrels(folder / "qrels.tsv", {f"q{n}": {f"d{n}": 1} for n in range(3)})
    write_run(folder / "run.trec", {f"q{n}": {f"d{m}": 9.0 - m for m in range(5)} for n in range(3)}, "made")
    (folder / "model").symlink_to(model)


def test_nothing_is_lost_on_a_server_that_fails(tiny, tmp_path, machine, faults, capsys):
    here = tmp_path / "here"
    write_inputs(here, tiny("llama"))
    mirror = Mirror(tmp_path / "uploading")
    uploaded = [path for path in here.rglob("*") if path.is_file()] + list((here / "model").resolve().rglob("*.*"))
    for path in uploaded:
        inside = path.is_relative_to(here)
        relative = path.relative_to(here) if inside else "model" / path.relative_to((here / "model").resolve())
        copy = mirror.path(f"s3://bucket/there/{relative}")
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
        mirror.store(copy)

    commands("s3://bucket/there", tiny, machine, shards=2)
    commands(str(here), tiny, machine, shards=1)

    machine("reader")
    mirror = Mirror()
    for name in ("q.jsonl", "metrics.json"):
        there = mirror.fetch(f"s3://bucket/there/{name}").read_text(encoding="utf-8")
        # a query's row names the model and a table the run, by what it was called
        assert there.replace("s3://bucket/there", str(here)) == (here / name).read_text(encoding="utf-8")
    names = set(mirror.listed(mirror.path("s3://bucket/there")))
    assert {"q.jsonl.manifest.json", "q.shard-01-of-02.jsonl", "q.shard-02-of-02.jsonl.manifest.json"} <= names
    assert not [name for name in names if "partial" in name]
    merged = json.loads(mirror.fetch("s3://bucket/there/q.jsonl.manifest.json").read_text())
    assert [shard["shard"] for shard in merged["results"]["shards"]] == ["1/2", "2/2"]
    assert faults.failed >= 2
    assert faults.failed == faults.requests // 20


def test_an_absent_bucket_is_an_error_of_one_line(machine, faults, capsys):
    machine("one")
    given = ["--corpus", "s3://nowhere/corpus.jsonl", "--output", str(machine.path / "q.jsonl"), "--quiet"]
    assert main(["generate", *given]) == 1
    error = capsys.readouterr().err
    assert re.fullmatch(r"inpars: s3://nowhere/corpus\.jsonl: no such object; .*AWS_ENDPOINT_URL\n", error)
    mirror = Mirror(machine.path)
    shard = mirror.path("s3://nowhere/q.jsonl")
    shard.parent.mkdir(parents=True)
    shard.write_text("")
    with pytest.raises(StorageError, match=r"s3://nowhere/q\.jsonl: .*no such bucket"):
        mirror.store(shard)
