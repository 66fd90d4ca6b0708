"""The fuzzer itself: everything that reads stands in its table, inputs depend on the seed alone, faults are found."""

import dataclasses
import json
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
from fuzzing import workers
from fuzzing.cases import Case, Finding, read_finding, write_finding
from fuzzing.endpoints import routes
from fuzzing.json_changes import MAX_CHARACTERS, change_json, dumps
from fuzzing.mutations import CHANGES, changed
from fuzzing.running import Outcome, execute, make_case
from fuzzing.shrinking import shrunk
from fuzzing.targets import TARGETS

from inpars.contrib.interchange import FORMATS
from inpars.documents.readers import KINDS
from inpars.errors import DataFormatError
from inpars.io import formats, judgements, triples

PROGRAM = Path(__file__).parents[2] / "scripts" / "fuzz.py"
AVAILABLE = [name for name, target in TARGETS.items() if not target.missing and name != "command/search bm25"]
# seeds that must be refused: other endpoints' replies, packings that are not read, ids without queries
REFUSED = (
    "reply ",
    "documents .tar",
    "documents .xlsx",
    "documents .ipynb",
    "state ids",
    "text triples",
    "triples by ids",
    "page sitemap",
)
PARTLY = ("synthetic", "synthetic v1", "synthetic v2", "queries tsv", "serve POST /v1/rerank")  # by some readers


def test_every_reader_of_the_formats_is_in_the_table():
    own = {
        name
        for module in (formats, judgements, triples)
        for name, value in vars(module).items()
        if re.match(r"(read|iterate)_", name) and value.__module__ == module.__name__
    }
    covered = {name for target in TARGETS.values() for name in target.covers}
    assert len(own) > 8
    assert covered == own


def test_every_format_of_the_imports_is_in_the_table():
    assert {f"import/{name}" for name, found in FORMATS.items() if found.read is not None} == {
        name for name in TARGETS if name.startswith("import/")
    }


def test_every_endpoint_is_in_the_table(tmp_path):
    pytest.importorskip("fastapi", reason="the serve extra is not installed")
    found = routes(tmp_path)
    assert len(found) > 10
    assert {f"serve/{route}" for route in found} == {name for name in TARGETS if name.startswith("serve/")} - {
        "serve/gate"
    }


def test_every_kind_of_document_has_a_seed():
    """Of the suffixes that are read by one reader one is enough."""
    from fuzzing.targets import ALL_SEEDS

    suffixes = {suffix for name in ALL_SEEDS if name.startswith("documents .") for suffix in [name.split()[1]]}
    assert {kind.reader for kind in KINDS.values()} == {KINDS[suffix].reader for suffix in suffixes if suffix in KINDS}


@pytest.mark.parametrize("reader", AVAILABLE)
def test_seeds_are_valid(reader, tmp_path):
    outcomes = {name: execute(make_case(reader, 0, n), tmp_path / "w") for n, name in enumerate(TARGETS[reader].seeds)}
    assert not [outcome for outcome in outcomes.values() if outcome.verdict == "fault"]
    assert "accepted" in {outcome.verdict for outcome in outcomes.values()}
    refused = [name for name, outcome in outcomes.items() if outcome.verdict == "refused"]
    assert not [name for name in refused if not name.startswith(REFUSED) and name not in PARTLY]


def test_inputs_depend_on_seed_reader_and_number_alone():
    assert make_case("formats/read_qrels", 3, 50) == make_case("formats/read_qrels", 3, 50)
    assert make_case("formats/read_qrels", 3, 50) != make_case("formats/read_qrels", 4, 50)
    assert make_case("formats/read_qrels", 3, 50).files != make_case("formats/read_run", 3, 50).files


@pytest.mark.parametrize("suffix", [*CHANGES, ".md", ".jsonl.gz"])
def test_changes_change(suffix):
    contents = {".gz": b"\x1f\x8b", ".parquet": b"PAR1"}.get(suffix, b'{"a": [1, "b"]}\n{"a": [2, "c"]}\n')
    rng = random.Random(0)
    found = {changed(contents, f"a{suffix}", rng) for _ in range(60)}
    assert len(found) > 8


def test_most_changes_of_json_are_json():
    rng = random.Random(1)
    content = json.dumps({"id": "a", "values": [1, 2.5, None], "inner": {"text": "b"}}).encode()
    found = [change_json(content, rng) for _ in range(200)]

    def is_json(text):
        try:
            json.loads(text)
        except (ValueError, RecursionError):
            return False
        return True

    assert sum(map(is_json, found)) > 150
    assert any(b"\\ud83d" in text for text in found)
    assert any(text.count(b'"id"') > 1 for text in found)
    assert any(max(map(len, re.findall(rb"\d+", text)), default=0) > 4300 for text in found)


def test_the_text_of_a_value_multiplied_again_and_again_is_cut():
    value = ["x"]
    for _ in range(6):
        value = [value] * 500  # the same list each time: small here, 10^16 values as text
    assert MAX_CHARACTERS < len(dumps(value)) < MAX_CHARACTERS + 100


def test_findings_are_read_as_they_were_written(tmp_path):
    case = Case("formats/read_qrels", "a\udcff.tsv", {"a\udcff.tsv": b"\xff\x00", "b": b"text\n", "c": b"[" * 100_000})
    path = write_finding(tmp_path, Finding(case, "fault", 1, 2))
    assert path.stat().st_size < 2000
    assert read_finding(path) == Finding(case, "fault", 1, 2)


def test_shrinking_keeps_what_matters():
    case = Case("r", "a", {"a": b"one\ntwo\nthree bad four\nfive\n", "b": b"other"})
    found = shrunk(case, lambda tried: b"bad" in tried.files.get("a", b""))
    assert found.files == {"a": b"bad"}


@pytest.fixture
def target(monkeypatch):
    """A target whose reader is a function of the test."""

    def make(read):
        own = dataclasses.replace(TARGETS["formats/read_qrels"], read=read)
        monkeypatch.setitem(TARGETS, "formats/read_qrels", own)
        return make_case("formats/read_qrels", 0, 0)

    return make


def raising(error):
    def read(folder, main):
        raise error

    return read


def unbounded(message):
    """An error whose message did not go through the constructor, which bounds it."""
    error = DataFormatError("")
    error.args = (message,)
    return error


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (DataFormatError("no", path="a"), "refused"),
        (FileNotFoundError(2, "no"), "refused"),
        (unbounded("two\nlines"), "fault"),
        (unbounded("x" * 5000), "fault"),
        (KeyError("a"), "fault"),
        (RecursionError("deep"), "fault"),
        (MemoryError(), "fault"),
    ],
)
def test_verdicts(target, tmp_path, error, verdict):
    assert execute(target(raising(error)), tmp_path / "w").verdict == verdict


def test_faults_with_one_cause_have_one_key(target, tmp_path):
    keys = {execute(target(raising(ValueError(text))), tmp_path / "w").key for text in "ab"}
    assert len(keys) == 1


IN_A_PROCESS = """
import ctypes, dataclasses, sys, time
sys.path[:0] = [{scripts!r}, {root!r}]
from fuzzing import workers
from fuzzing.running import make_case
from fuzzing.targets import TARGETS
workers.HANG_SECONDS, workers.MAX_BYTES = {seconds}, 400 << 20

def read(folder, main):
    {code}

own = dataclasses.replace(TARGETS["formats/read_qrels"], read=read)
TARGETS["formats/read_qrels"] = own
worker = workers.Worker()
case = make_case("formats/read_qrels", 0, 0)
print(worker.run(case).key)
TARGETS["formats/read_qrels"] = dataclasses.replace(own, read=lambda folder, main: None)
worker._restart()
print(worker.run(case).verdict)
worker.close()
"""


@pytest.mark.parametrize(
    ("code", "key"),
    [
        ("ctypes.string_at(0)", "SIGSEGV at "),
        ("sys.exit(3)", "the process ended with "),
        ("time.sleep(60)", "hang at "),
        ("while True: pass", "hang at "),
        ("held = bytearray(500 << 20); time.sleep(0.5)", "memory"),
    ],
)
def test_what_befalls_a_process_is_named(code, key):
    root = PROGRAM.parents[1]
    seconds = 1.0 if key.startswith("hang") else 30.0  # a busy machine takes long to start and to allocate
    program = IN_A_PROCESS.format(scripts=str(PROGRAM.parent), root=str(root), code=code, seconds=seconds)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith(key)
    assert lines[1] == "accepted"


def fuzz(*command):
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_a_short_campaign(tmp_path):
    own = ("--only", "formats/read_triple_ids", "--workers", "1", "--most", "30", "--faults", str(tmp_path))
    done = fuzz(sys.executable, str(PROGRAM), *own)
    assert done.returncode == 0, done.stdout
    assert re.search(r"formats/read_triple_ids +30 +\d+ +\d+ +0 ", done.stdout)
    assert fuzz(sys.executable, str(PROGRAM), "--only", "x").returncode == 2


def test_outcomes_say_nothing_of_what_was_accepted():
    assert Outcome("accepted") == Outcome("accepted", "", "", "")
    assert workers.HANG_SECONDS == 20
