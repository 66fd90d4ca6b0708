"""20 steps give the same weights, up to rounding, as 10 steps, kill -9 and 10 more."""

import json
import signal
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file
from tiny_models import WORDS

STEPS, KILLED_AFTER = 20, 10
CASES = {  # kind, loss and the tiny model to start from
    "cached-mnrl": ("dense", "cached-mnrl", "sentence_transformer"),
    "margin-mse": ("dense", "margin-mse", "sentence_transformer"),
    "multi-vector": ("multi-vector", "mnrl", "multi_vector"),
    "sparse": ("sparse", "mnrl", "masked_lm"),
}
SCRIPT = """
import json, os, random, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from inpars.progress import Silent
from inpars.training import loop
from inpars.training.examples import TripleTexts
from inpars.training.retriever import RetrieverOptions, train_retriever
words, steps, jobs = sys.argv[1:]
loop.SECONDS_BETWEEN_CHECKPOINTS = -1.0  # after every step
class Killing(Silent):
    def track(self, items, *, total, description, unit, done=0):
        print("begins at", done)
        self.step = done
        yield from items
    def advance(self, count, detail=""):
        self.step += count
        if self.step == self.last:
            sys.stdout.flush()
            os.kill(os.getpid(), signal.SIGKILL)
def train(output, kind, loss, model, last):
    chooser = random.Random(9)
    rows = [TripleTexts(*(" ".join(chooser.sample(words.split(), n)) for n in (2, 6, 6))) for _ in range(30)]
    progress = Killing()
    progress.last = last + 1  # the checkpoint of a step is written after its end was told
    options = RetrieverOptions(model=model, kind=kind, loss=loss, max_steps=int(steps), batch_size=8, mini_batch_size=4,
                               learning_rate=5e-3, dropout=0.1, device="cpu", dtype="float32")
    margins = {row: len(row.query) / 10 - n % 3 for n, row in enumerate(rows)} if loss == "margin-mse" else None
    train_retriever(rows, options, output=Path(output), fingerprint={}, margins=margins, progress=progress)
for job in json.loads(jobs):
    sys.stdout.flush()
    if (child := os.fork()) == 0:  # of a process that has loaded torch
        train(*job)
        sys.stdout.flush()
        os._exit(0)
    print("ended with", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.fixture(scope="module")
def trained(tiny, tmp_path_factory):
    """The folder and the output of three trainings: killed, resumed and uninterrupted."""
    folder = tmp_path_factory.mktemp("trained")
    jobs = [
        (str(folder / case / output), kind, loss, tiny(model), last)
        for case, (kind, loss, model) in CASES.items()
        for output, last in (("killed", KILLED_AFTER), ("killed", STEPS + 1), ("whole", STEPS + 1))
    ]
    arguments = [" ".join(WORDS), str(STEPS), json.dumps(jobs)]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT, *arguments], capture_output=True, text=True, check=False
    )
    return folder, done


def test_a_killed_training_goes_on_where_it_was_killed(trained):
    _, done = trained
    killed = ["begins at 0", f"ended with {-signal.SIGKILL}"]
    resumed = [f"begins at {KILLED_AFTER}", "ended with 0"]
    assert done.stdout.splitlines() == [*killed, *resumed, "begins at 0", "ended with 0"] * len(CASES), done.stderr


@pytest.mark.parametrize("case", CASES)
def test_a_killed_training_goes_on_to_the_weights_of_one_that_was_not(tiny, trained, case):
    folder, _ = trained
    ours, theirs = (load_file(folder / case / name / "model.safetensors") for name in ("killed", "whole"))
    start = load_file(tiny(CASES[case][2]) + "/model.safetensors")
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-7) for name in theirs)
    assert any(not torch.allclose(start[name], theirs[name], atol=1e-3) for name in theirs)
