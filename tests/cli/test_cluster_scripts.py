"""The cluster scripts, run without a cluster: SLURM's with a stand-in for sbatch, Ray's file by Ray."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from test_readme import commands, parse
from tiny_models import sentence

from inpars.cli.main import main
from inpars.io.formats import write_documents
from inpars.io.manifest import read_manifest
from inpars.records import Document
from inpars.stages.shards import Shard

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "scripts" / "cluster"
SBATCH = """#!/usr/bin/env bash
# Runs what is submitted at once, an array task by task from the last to the first, as a cluster may.
echo "$*" >> "$CALLS"
array=1-1
while [[ $1 == --* ]]; do case $1 in --array=*) array=${1#--array=} ;; esac; shift; done
script=$1; shift
export SLURM_SUBMIT_DIR=$PWD
for ((task = ${array#*-}; task >= ${array%-*}; task--)); do
  SLURM_ARRAY_TASK_ID=$task SLURM_ARRAY_TASK_COUNT=${array#*-} bash "$script" "$@" >&2 || exit 1
done
echo "$(wc -l < "$CALLS");cluster"
"""
INPARS = f"""#!/usr/bin/env bash
exec {sys.executable} -m inpars "$@"
"""


@pytest.fixture
def machine(tmp_path):
    """Runs a script where `inpars` and `sbatch` are found."""
    for name, text in (("sbatch", SBATCH), ("inpars", INPARS)):
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    write_documents(tmp_path / "corpus.jsonl", [Document(f"d{n}", sentence(n, 2 + n % 5 * 3)) for n in range(11)])
    (tmp_path / "prompt.txt").write_text("A lake is water: what is a lake?\n\n{document}\nRelevant Query:")

    def run(script, *arguments, **variables):
        environment = {
            **os.environ,
            "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "INPARS_CACHE": str(tmp_path / "cache"),
            "CALLS": str(tmp_path / "calls"),
            **variables,
        }
        command = ["bash", str(CLUSTER / script), *arguments]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900, check=False
        )

    run.folder = tmp_path
    return run


def generate(model, output):
    named = ["--corpus", "corpus.jsonl", "--model", model, "--prompt", "prompt.txt", "--dtype", "float32"]
    return ["generate", *named, "--max-new-tokens", "4", "--threads", "1", "--output", output, "--quiet"]


@pytest.mark.slow  # four processes that load torch
def test_an_array_and_its_merging_are_the_command(machine, tiny, monkeypatch):
    done = machine("slurm_submit.sh", *generate(tiny("llama"), "q.jsonl"), SHARDS="2", SBATCH_FLAGS="--partition=gpu")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "array 1 of 2 shards, then merge 2 to q.jsonl\n"
    calls = (machine.folder / "calls").read_text().splitlines()
    assert calls[0].startswith("--parsable --array=1-2 --partition=gpu ")
    assert calls[1].startswith("--parsable --dependency=afterok:1 --partition=gpu ")
    monkeypatch.chdir(machine.folder)
    assert main(generate(tiny("llama"), "whole.jsonl")) == 0
    assert (machine.folder / "q.jsonl").read_bytes() == (machine.folder / "whole.jsonl").read_bytes()
    shards = read_manifest(machine.folder / "q.jsonl").results["shards"]
    assert [shard["shard"] for shard in shards] == ["1/2", "2/2"]


def test_shards_that_are_run_again_keep_their_count(machine):
    (machine.folder / "bin" / "inpars").write_text('#!/usr/bin/env bash\necho "$@"\n')
    again = {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "1"}
    done = machine("slurm_array.sh", "generate", "--output", "q.jsonl", SHARDS="4", **again)
    assert (done.returncode, done.stdout) == (0, "generate --output q.jsonl --shard 3/4\n"), done.stderr
    assert machine("slurm_array.sh", "score", **again).stdout == "score --shard 3/1\n"  # as SLURM's array says


def test_what_is_missing_is_said(machine):
    done = machine("slurm_array.sh", "generate")
    assert done.returncode != 0
    assert "SLURM_ARRAY_TASK_ID: is set by sbatch --array=1-N" in done.stderr
    done = machine("slurm_submit.sh", "generate", "--corpus", "corpus.jsonl")
    assert (done.returncode, done.stderr) == (2, "slurm_submit: give the command with its --output\n")


def test_rays_file_is_what_ray_up_reads():
    config = yaml.safe_load((CLUSTER / "ray.yaml").read_text(encoding="utf-8"))
    assert config["available_node_types"]["worker"]["resources"]["GPU"] == 1
    util = pytest.importorskip("ray.autoscaler._private.util", reason="ray is not installed")
    util.validate_config(util.prepare_config(config))  # as `ray up` does, which fills in what a file leaves out


README = (CLUSTER / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("line", [line for line in commands(README) if "--output" in line])
def test_commands_in_the_readme_parse(line):
    parse(line)


def test_the_readmes_arithmetic_of_shards_is_the_packages():
    sizes = [len(Shard(number, 64).of(8_841_823)) for number in range(1, 65)]
    assert sum(sizes) == 8_841_823
    for size in {*sizes}:
        assert f"{size:,}" in README


def test_the_readmes_hours_follow_from_what_it_measured_and_assumes():
    # 7.15 documents/s of 39 + 8.6 GFLOP at 2.7 TFLOP/s; 121 TFLOP/s published; 512 documents in 32 steps of 30 ms
    share = 7.15 * 47.6e9 / 2.7e12
    products, steps = 121e12 * share / 47.6e9, 512 / (32 * 0.030)
    rate = 1 / (1 / products + 1 / steps)
    assert [f"{share:.1%}", round(products), round(steps), round(rate)] == ["12.6%", 320, 533, 200]
    assert f"{8_841_823 / 200 / 3600:.1f} hours of one L4" in README


@pytest.mark.parametrize("script", sorted(path.name for path in CLUSTER.glob("*.sh")))
def test_scripts_parse(script):
    assert subprocess.run(["bash", "-n", str(CLUSTER / script)], check=False).returncode == 0
