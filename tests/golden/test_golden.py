"""Every stage's output on the toy collection is what tests/data/golden/ has, and so are the manifests.

After a change that is meant, `bash tests/golden/renew.sh` stores the new ones and says which steps changed, and how.
What is compared, and how exactly, is said in `golden_files.py`; the commands are in `golden_steps.py`.
"""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import golden_store as store
import pytest
from golden_files import FLOAT, differences, digest, files_of, machine, portrait
from golden_pipeline import HAS_JAVA, pipeline
from golden_steps import STEPS

from inpars.cli import main as cli

NAMED = {step.name: step for step in STEPS}
ROOT = Path(__file__).parents[2]
BYTES_FLOAT = re.compile(FLOAT.pattern.encode())


@pytest.fixture(scope="module")
def golden(tmp_path_factory, request):
    """All steps, done once; with INPARS_RENEW=golden what they made is stored."""
    with pipeline(tmp_path_factory.mktemp("golden")) as done:
        if os.environ.get("INPARS_RENEW") == "golden":
            said = store.renew(machine(), done.made, done.digests)
            with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
                print("", f"golden outputs on {machine()}:", *(said or ["nothing changed"]), sep="\n")
        yield done


@pytest.mark.parametrize("name", NAMED)
def test_outputs_and_manifests_are_as_they_were(golden, name):
    step = NAMED[name]
    if reason := step.missing(HAS_JAVA):
        pytest.skip(reason)
    assert name not in golden.failures, golden.failures[name]
    found = store.changes(step, golden.made[name])
    if not found and store.known_digest(machine(), step) not in (None, golden.digests[name]):
        found = ["other bits than before on this machine, though within the tolerance"]
    shown = "\n".join([f"renew with `bash tests/golden/renew.sh` if this is meant; see {golden.folder}", *found])
    assert not found, shown


def test_every_stored_step_is_tested():
    stored = {path.stem for path in store.FOLDER.glob("*.json")} - {store.MACHINES.stem}
    assert stored == {*NAMED}


def test_merged_shards_are_the_whole(golden):
    assert (golden.folder / "sharded.jsonl").read_bytes() == (golden.folder / "queries.jsonl").read_bytes()


@pytest.mark.parametrize("name", NAMED)
def test_one_changed_byte_is_seen(golden, name, tmp_path):
    """In every output: its first letter, its last; the first digit of a float; a bit of a weight.

    Without a tolerance, where a machine's bits are known, also a float's last digit.
    """
    step = NAMED[name]
    if name not in golden.made:
        pytest.skip("it did not run")
    for file in files_of(golden.folder, step.outputs):
        if Path(file).name == "report.json":
            continue  # times and commits of the day are half of it
        before, raw = {file: portrait(golden.folder / file, step.tolerance)}, (golden.folder / file).read_bytes()
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        for changed in with_changes(raw, Path(file).suffix):
            (tmp_path / file).write_bytes(changed)
            assert differences(before, {file: looked_at(tmp_path / file, step.tolerance)}, step.tolerance), file
        for changed in with_last_digits(raw, Path(file).suffix):
            (tmp_path / file).write_bytes(changed)
            assert digest(tmp_path, [file]) != digest(golden.folder, [file]), file


def looked_at(path, tolerance):
    """A file's portrait; one that cannot even be read any more is another too."""
    try:
        return portrait(path, tolerance)
    except Exception as error:  # whatever a library says of a broken file
        return {"form": repr(error)}


def with_changes(raw, suffix):
    """The file with one byte changed, in several places."""
    if suffix == ".safetensors":
        place = largest_tensor(raw) + 3  # the first weight's exponent
        yield with_byte(raw, place, raw[place] ^ 64)
    elif suffix == ".npy":
        yield with_byte(raw, len(raw) - 1, raw[-1] ^ 64)
    elif suffix != ".parquet":  # its content is compared, not its bytes, which differ between versions of pyarrow
        letters = [place for place, sign in enumerate(raw) if sign < 128 and chr(sign).isalpha()]
        yield from (with_byte(raw, place, raw[place] ^ 1) for place in letters[:1] + letters[-1:])
        yield from (with_byte(raw, start, other_digit(raw[start], 5)) for start, _ in spans_of_floats(raw))


def largest_tensor(raw):
    """Where its weights begin: behind eight bytes, which say how long the header is, and the header."""
    begin = 8 + int.from_bytes(raw[:8], "little")
    tensors = [tensor for name, tensor in json.loads(raw[8:begin]).items() if name != "__metadata__"]
    first, _ = max((tensor["data_offsets"] for tensor in tensors), key=lambda offsets: offsets[1] - offsets[0])
    return begin + first


def with_last_digits(raw, suffix):
    """The file with the last digit of a float changed."""
    if suffix in (".json", ".jsonl", ".trec", ".tsv"):
        yield from (with_byte(raw, stop - 1, other_digit(raw[stop - 1], 1)) for _, stop in spans_of_floats(raw))


def spans_of_floats(raw):
    """Where the first and the last float begin, behind their signs, and end."""
    spans = [match.span() for match in BYTES_FLOAT.finditer(raw) if b"e-" not in match[0]]  # 1e-12 may become 6e-12
    return [(start + (raw[start] == ord("-")), stop) for start, stop in {*spans[:1], *spans[-1:]}]


def other_digit(digit, step):
    return ord("0") + (digit - ord("0") + step) % 10


def with_byte(raw, place, value):
    return raw[:place] + bytes([value]) + raw[place + 1 :]


KILLED = {  # steps, and the file that they are flushing when they die
    "generate-many": "many.queries.jsonl.partial",
    "generate-chat": "chat.jsonl.answers.jsonl",
    "score-many-log-probs": "many-log-probs.jsonl.partial",
    "score-many-monot5": "many-monot5.jsonl.partial",
    "triples-bm25": "bm25.tsv.partial",
    "audit-keep": "keep.tsv.partial",
    "rerank-monot5": "monot5.trec.partial",
    "train-monot5": "tuned/monot5.checkpoints/checkpoint-2/trainer_state.json",
    "train-retriever-mnrl": "tuned/mnrl.checkpoints/checkpoint-2/trainer_state.json",
    "index-build": "vectors.npy",
    "run": "/run/",
}
LAST_WRITTEN = {"index-build": "index/index.json", "run": "run/metrics.json"}
# What is left of a torn batch of pairs is scored by itself, in batches of other lengths: the last bits are others.
REGROUPED = {"rerank-monot5"}


@pytest.fixture(scope="module")
def killed(golden):
    """Signals that ended these steps, each in the middle of its work in the folder `resumed`."""
    if not Path("/proc/self/fd").exists():
        pytest.skip("which file is flushed is read from /proc")
    names = [name for name in KILLED if name in golden.made]
    Path("jobs.json").write_text(json.dumps([job_of(golden, NAMED[name]) for name in names]), encoding="utf-8")
    program = [sys.executable, str(Path(__file__).with_name("kill_commands.py")), "jobs.json"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(program, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return dict(zip(names, map(int, done.stdout.split()), strict=True))


def job_of(golden, step):
    """Half of the flushes are let through; of a partial file all but the last, half of which is torn off."""
    job, file = {"arguments": resumed_arguments(golden, step)}, KILLED[step.name]
    if "checkpoint" in file:
        return job | {"checkpoint": f"resumed/{file}"}
    flushes, torn = sum(file in path for path in golden.flushed[step.name]), file.endswith(".partial")
    return job | {"file": file, "flush": flushes if torn else (flushes + 1) // 2, "torn": torn}


def resumed_arguments(golden, step):
    """The step's command, but with its outputs in another folder."""
    outputs = {*step.outputs, "run", "index"}
    command, *words = golden.arguments(step)
    return [command, *(f"resumed/{word}" if word in outputs else word for word in words)]


@pytest.mark.parametrize("name", KILLED)
def test_killed_and_run_again_the_bytes_are_the_same(golden, killed, name):
    step, folder = NAMED[name], golden.folder / "resumed"
    if name not in golden.made:
        pytest.skip("it did not run")
    assert killed[name] == signal.SIGKILL
    assert [*folder.rglob(Path(KILLED[name]).name)]
    assert not (folder / LAST_WRITTEN.get(name, step.outputs[0])).exists()
    assert cli.main(resumed_arguments(golden, step)) == 0
    names = list(files_of(folder, step.outputs))
    if name in REGROUPED:
        now = {file: portrait(folder / file, step.tolerance) for file in names}
        assert differences(golden.made[name]["outputs"], now, step.tolerance) == []
    else:
        assert digest(folder, names) == golden.digests[name]
