"""20 steps straight against 10, kill -9 and 10 more: the same weights, to the last bit but rounding."""

import signal
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file
from tiny_models import WORDS

STEPS, KILLED_AFTER = 20, 10
SCRIPT = """
import os, random, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from inpars.progress import Silent
from inpars.training import loop
from inpars.training.examples import TripleTexts
from inpars.training.retriever import RetrieverOptions, train_retriever
model, words, loss, steps, *runs = sys.argv[1:]
loop.SECONDS_BETWEEN_CHECKPOINTS = -1.0  # after every step
chooser = random.Random(9)
rows = [TripleTexts(*(" ".join(chooser.sample(words.split(), n)) for n in (2, 6, 6))) for _ in range(30)]
class Killing(Silent):
    def track(self, items, *, total, description, unit, done=0):
        print("begins at", done)
        self.step = done
        yield from items
    def advance(self, count, detail=""):
        self.step += count
        if self.step == self.last:
            os.kill(os.getpid(), signal.SIGKILL)
for run in runs:
    output, last = run.split("=")
    progress = Killing()
    progress.last = int(last) + 1  # the checkpoint of a step is written after its end was told
    options = RetrieverOptions(model=model, loss=loss, max_steps=int(steps), batch_size=8, mini_batch_size=4,
                               learning_rate=5e-3, dropout=0.1, device="cpu", dtype="float32")
    margins = {row: len(row.query) / 10 - n % 3 for n, row in enumerate(rows)} if loss == "margin-mse" else None
    train_retriever(rows, options, output=Path(output), fingerprint={}, margins=margins, progress=progress)
"""


@pytest.mark.parametrize("loss", ["cached-mnrl", "margin-mse"])
def test_a_killed_training_goes_on_to_the_weights_of_one_that_was_not(tiny, tmp_path, loss):
    whole, killed = tmp_path / "whole", tmp_path / "killed"

    def run(*runs):
        arguments = [tiny("sentence_transformer"), " ".join(WORDS), loss, str(STEPS), *runs]
        return subprocess.run(
            [sys.executable, "-W", "ignore", "-c", SCRIPT, *arguments], capture_output=True, text=True, check=False
        )

    first = run(f"{killed}={KILLED_AFTER}")
    assert first.returncode == -signal.SIGKILL, first.stderr
    assert not killed.exists()
    second = run(f"{killed}={STEPS + 1}", f"{whole}={STEPS + 1}")
    assert second.returncode == 0, second.stderr
    assert second.stdout.split("\n")[:2] == [f"begins at {KILLED_AFTER}", "begins at 0"]
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (killed, whole))
    start = load_file(tiny("sentence_transformer") + "/model.safetensors")
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-7) for name in theirs)
    assert any(not torch.allclose(start[name], theirs[name], atol=1e-3) for name in theirs)
