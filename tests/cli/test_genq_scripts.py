"""The GenQ example: its scripts call commands that exist, with flags that parse, on files written before."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from test_readme import parse

SCRIPTS = Path(__file__).parents[2] / "scripts"
STUB = """#!/bin/sh
printf inpars >> "$CALLS"
for word in "$@"; do printf '\\t%s' "$word" >> "$CALLS"; done
echo >> "$CALLS"
"""


@pytest.fixture
def called(tmp_path):
    """Runs a script with an `inpars` that records its arguments; returns the calls as lists of words."""
    if shutil.which("bash") is None:
        pytest.skip("needs bash")
    shutil.copytree(SCRIPTS / "genq", tmp_path / "scripts" / "genq")
    (tmp_path / "scripts" / "setup.sh").write_text('PATH="$STUBS:$PATH"\n', encoding="utf-8")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "inpars").write_text(STUB, encoding="utf-8")
    (tmp_path / "bin" / "inpars").chmod(0o755)

    def run(name, *arguments, **variables):
        calls = tmp_path / "calls"
        calls.write_text("", encoding="utf-8")
        settings = {**os.environ, "CALLS": str(calls), "STUBS": str(tmp_path / "bin"), "RUN": str(tmp_path / "run")}
        command = ["bash", str(tmp_path / "scripts" / "genq" / name), *arguments]
        subprocess.run(command, check=True, capture_output=True, text=True, env={**settings, **variables})
        return [line.split("\t") for line in calls.read_text(encoding="utf-8").splitlines()]

    return run


def parsed(calls):
    return [parse(" ".join(f"'{word}'" for word in call)) for call in calls]


def test_queries_are_written_by_the_embedded_model_or_by_a_t5(called):
    first, second = parsed(called("1_generate_queries.sh", "--seed", "3", DOCUMENTS="docs"))
    assert [str(path) for path in first.documents] == ["docs"]
    assert second.corpus == first.output
    assert (second.num_queries, second.backend, second.model, second.seed) == (3, "causal", "smollm2-135m", 3)
    _, second = parsed(called("1_generate_queries.sh", DOCUMENTS="docs", BACKEND="seq2seq", MODEL="t5"))
    assert (second.backend, second.model, second.prompt) == ("seq2seq", "t5", None)


def test_pairs_train_with_in_batch_negatives(called):
    kept, mined, trained = parsed(called("2_train_retriever.sh"))
    assert (mined.input, trained.triples, trained.negatives) == (kept.output, mined.output, False)


def test_measured_only_where_there_are_questions(called, tmp_path):
    assert called("3_evaluate_and_search.sh") == []
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "queries.jsonl").write_text("", encoding="utf-8")
    calls = parsed(called("3_evaluate_and_search.sh", QUERY="duck typing"))
    assert [getattr(call, "retriever", None) for call in calls[:2]] == [
        ("minilm",),
        (str(tmp_path / "run/models/retriever"),),
    ]
    assert [str(path) for path in calls[3].run] == [str(call.output) for call in calls[:3]]
    assert [call.interactive for call in calls[4:]] == [True, True]


def test_an_empty_array_is_no_unbound_variable():
    """As it would be with `set -u` in the bash of macOS, which is older than 4.4."""
    for path in SCRIPTS.rglob("*.sh"):
        text = path.read_text(encoding="utf-8")
        for name in re.findall(r"^(\w+)=\(\)$", text, re.MULTILINE):
            plain = f'"${{{name}[@]}}"'
            assert plain not in text.replace(f"${{{name}[@]+{plain}}}", ""), path
