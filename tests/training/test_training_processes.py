"""Training with several processes under torchrun: they share the steps, and one of them saves."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch
from tiny_models import sentence
from transformers import TrainingArguments

from inpars.errors import ConfigError
from inpars.training.loop import LossTrainer, training_arguments
from inpars.training.options import RerankerOptions


@pytest.mark.slow
@pytest.mark.parametrize(("what", "model"), [("reranker", "bert_classifier"), ("retriever", "sentence_transformer")])
def test_two_processes_share_the_steps_and_one_saves(tiny, tmp_path, what, model):
    rows = (f"{sentence(n, 3)}\t{sentence(n, 9)}\t{sentence(n + 100, 9)}\n" for n in range(32))
    (tmp_path / "triples.tsv").write_text("".join(rows))
    output = tmp_path / "models" / what
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "inpars"]
    flags = ["--triples", str(tmp_path / "triples.tsv"), "--model", str(tiny(model)), "--output", str(output)]
    done = subprocess.run(
        [
            *torchrun,
            "train",
            what,
            *flags,
            "--batch-size",
            "4",
            "--device",
            "cpu",
            "--dtype",
            "float32",
            "--threads",
            "1",
        ],
        env={**os.environ, "INPARS_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    made = json.loads(output.with_name(f"{what}.manifest.json").read_text())
    # 32 triples, 4 a process and step: 4 steps of two processes, where one takes 8
    assert made["results"]["curve"]["steps"][-1] == 4
    assert list(output.glob("*.json"))
    assert sorted(path.name for path in output.parent.iterdir()) == [what, f"{what}.manifest.json"]


def test_one_process_uses_one_of_several_gpus(tmp_path):
    arguments = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, per_device_train_batch_size=4)
    assert arguments.n_gpu == 0
    arguments._n_gpu = 2  # as on a machine with two
    trainer = LossTrainer(model=torch.nn.Linear(1, 1), args=arguments)
    assert (trainer.args.n_gpu, trainer.args.train_batch_size) == (1, 4)


def test_the_gpu_of_a_training_is_the_first(tmp_path):
    with pytest.raises(ConfigError, match=r"--device cuda:1: .*CUDA_VISIBLE_DEVICES=1"):
        training_arguments(RerankerOptions(), torch.device("cuda:1"), tmp_path, 1)
