"""Twenty steps give the same weights as ten steps, kill -9 and ten more."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_models import WORDS

ROOT = Path(__file__).parents[2]
PROGRAM = """
import json, os, signal, sys
from pathlib import Path
from inpars.progress import Silent
from inpars.stages.train import train_reranker_from_file
from inpars.training import loop
from inpars.training.reranker import RerankerOptions

class Killing(Silent):
    steps = 0
    def advance(self, count, detail=""):
        self.steps += count
        if self.steps == self.last:
            os.kill(os.getpid(), signal.SIGKILL)

def train(model, kind, triples, output, last):
    progress = Killing()
    progress.last = last
    options = RerankerOptions(
        model=model, kind=kind, max_steps=20, batch_size=4, learning_rate=1e-3, validate_every=5,
        dev_depth=2, patience=99, device="cpu", dtype="float32", threads=1,
    )
    train_reranker_from_file(Path(triples), options, output=Path(output), progress=progress)
    return progress.steps

loop.SECONDS_BETWEEN_CHECKPOINTS = -1.0  # after every step
for job in json.loads(sys.argv[1]):
    sys.stdout.flush()
    if (child := os.fork()) == 0:  # of a process that has loaded torch
        print(train(*job), flush=True)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
MODELS = {"cross-encoder": "bert_classifier", "monot5": "t5"}


@pytest.fixture(scope="module")
def trained(tiny, tmp_path_factory):
    """The folder and output of three trainings: uninterrupted, killed before saving step 11, and resumed."""
    folder = tmp_path_factory.mktemp("trained")
    chooser = random.Random(7)
    texts = (" ".join(chooser.sample(WORDS, 4)) for _ in range(3 * 40))
    triples = folder / "triples.tsv"
    triples.write_text("".join(f"{query}\t{next(texts)}\t{next(texts)}\n" for query in texts), encoding="utf-8")
    jobs = [
        (tiny(model), kind, str(triples), str(folder / kind / output), last)
        for kind, model in MODELS.items()
        for output, last in (("straight", 0), ("model", 11), ("model", 0))
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", PROGRAM, json.dumps(jobs)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return folder, done


def test_a_killed_training_says_nothing_and_the_next_does_what_is_left(trained):
    _, done = trained
    assert done.stdout.split() == ["20", "0", str(-signal.SIGKILL), "10", "0"] * len(MODELS), done.stderr


@pytest.mark.parametrize("kind", MODELS)
def test_ten_steps_kill_nine_ten_steps_are_twenty(trained, kind):
    folder, _ = trained
    one, two = (load_file(folder / kind / name / "model.safetensors") for name in ("straight", "model"))
    assert all(torch.equal(tensor, two[name]) for name, tensor in one.items())
