"""The scripts that reproduce published tables: their commands parse, and their numbers match the measured ones."""

import json
import re
import subprocess
import sys
from pathlib import Path

import ir_datasets
import pytest
from test_readme import commands, parse

from inpars.evaluation.measures import parse_metrics
from inpars.evaluation.presets import PRESETS, preset_of

FOLDER = Path(__file__).parents[2] / "scripts" / "reproduce"
SCRIPTS = sorted(FOLDER.glob("*.sh"))
ROWS = [line.split("\t") for line in (FOLDER / "expected.tsv").read_text(encoding="utf-8").splitlines()]
HEAD, EXPECTED = ROWS[0], ROWS[1:]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_commands_parse(script):
    text = script.read_text(encoding="utf-8")
    defaults = dict(re.findall(r"^([A-Z]+)=\$\{[A-Z]+:-([^}]*)\}", text, re.MULTILINE)) | {"DATA": "data", "OUT": "out"}
    lines = commands(text)
    assert len(lines) > 3
    for line in lines:
        filled = re.sub(r"\$\{?([A-Z]+)\}?", lambda match: defaults[match[1]], line)
        parse(re.sub(r"\$\w+", "x", filled))


def test_scripts_end_with_their_check_and_have_expected_numbers():
    for script in SCRIPTS:
        text = script.read_text(encoding="utf-8")
        (experiment,) = re.findall(r"check\.py.* --experiment (\S+)", text)
        assert experiment == script.stem.replace("_", "-")
        assert [row for row in EXPECTED if row[0] == experiment]
    assert {row[0] for row in EXPECTED} == {script.stem.replace("_", "-") for script in SCRIPTS}


def test_expected_numbers_are_numbers_of_measures_that_are_taken():
    datasets = {name.replace("/", "-"): name for name in ir_datasets.registry}
    for experiment, dataset, _, measure, expected, tolerance, source in EXPECTED:
        assert parse_metrics(measure)
        assert 0 < float(tolerance) < float(expected) < 1
        assert source
        if experiment != "offline":
            assert measure in preset_of(datasets[dataset]).metrics
    assert {row[3] for row in EXPECTED if row[1] == "dl19"} == set(PRESETS["dl19"].metrics)
    assert HEAD == ["experiment", "dataset", "system", "measure", "expected", "tolerance", "source"]


def check(folder, flag="--runs"):
    done = subprocess.run(
        [sys.executable, FOLDER / "check.py", flag, folder, "--experiment", "offline"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    return done


def measured(folder, **means):
    (folder / "offline" / "dl19").mkdir(parents=True, exist_ok=True)
    values = {"systems": {"run.bm25.top100": {"means": means}}}
    (folder / "offline" / "dl19" / "metrics.json").write_text(json.dumps(values), encoding="utf-8")


def test_nothing_measured_is_no_success(tmp_path):
    done = check(tmp_path)
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "0 within tolerance, 0 outside, 9 not run"


def test_numbers_are_held_against_their_tolerance(tmp_path):
    measured(tmp_path, **{"nDCG@10": 0.50583, "AP(rel=2)": 0.24763})
    done = check(tmp_path)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "2 within tolerance, 0 outside, 7 not run")
    assert check((tmp_path / "offline").rename(tmp_path / "elsewhere"), "--folder").stdout == done.stdout
    measured(tmp_path, **{"nDCG@10": 0.5059, "AP(rel=2)": 0.2476})
    done = check(tmp_path)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (1, "1 within tolerance, 1 outside, 7 not run")
    assert "0.5059 OUTSIDE" in done.stdout
