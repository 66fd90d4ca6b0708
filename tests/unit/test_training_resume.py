"""Twenty steps straight against ten, kill -9, ten: the same weights."""

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
import os, signal, sys
from pathlib import Path
from inpars.progress import Silent
from inpars.stages.training import train_reranker_from_file
from inpars.training import loop
from inpars.training.reranker import RerankerOptions

class Killing(Silent):
    steps = 0
    def advance(self, count, detail=""):
        self.steps += count
        if self.steps == int(sys.argv[5]):
            os.kill(os.getpid(), signal.SIGKILL)

loop.SECONDS_BETWEEN_CHECKPOINTS = -1.0  # after every step
progress = Killing()
options = RerankerOptions(
    model=sys.argv[1], kind=sys.argv[2], max_steps=20, batch_size=4, learning_rate=1e-3, validate_every=5,
    dev_depth=2, patience=99, device="cpu", dtype="float32", threads=1,
)
train_reranker_from_file(Path(sys.argv[3]), options, output=Path(sys.argv[4]), progress=progress)
print(progress.steps)
"""


def train(*arguments):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(("kind", "model"), [("cross-encoder", "bert_classifier"), ("monot5", "t5")])
def test_ten_steps_kill_nine_ten_steps_are_twenty(tiny, tmp_path, kind, model):
    chooser = random.Random(7)
    texts = (" ".join(chooser.sample(WORDS, 4)) for _ in range(3 * 40))
    triples = tmp_path / "triples.tsv"
    triples.write_text("".join(f"{query}\t{next(texts)}\t{next(texts)}\n" for query in texts), encoding="utf-8")
    straight = train(tiny(model), kind, triples, tmp_path / "straight", 0)
    assert straight.stdout == "20\n", straight.stderr
    killed = train(tiny(model), kind, triples, tmp_path / "model", 11)  # before the eleventh is saved
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "model").exists()
    resumed = train(tiny(model), kind, triples, tmp_path / "model", 0)
    assert resumed.stdout == "10\n", resumed.stderr
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("straight", "model"))
    assert all(torch.equal(tensor, two[name]) for name, tensor in one.items())
