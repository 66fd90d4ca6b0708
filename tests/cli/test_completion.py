"""Shell completion by argcomplete's protocol; skipped without argcomplete."""

import os
import subprocess
import sys

import pytest


def completions(line, folder):
    answer = folder / "answer"
    variables = {"COMP_LINE": line, "COMP_POINT": str(len(line)), "COMP_TYPE": "9", "_ARGCOMPLETE": "1"}
    variables |= {"_ARGCOMPLETE_STDOUT_FILENAME": str(answer), "_ARGCOMPLETE_IFS": "\n"}
    code = "import sys; from inpars.cli.main import main; sys.argv = ['inpars']; main()"
    subprocess.run([sys.executable, "-c", code], env=os.environ | variables, cwd=folder, check=True, timeout=120)
    return answer.read_text(encoding="utf-8").split("\n")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("inpars ev", ["evaluate "]),
        ("inpars train re", ["reader", "reranker", "retriever"]),
        ("inpars train reranker --tripl", ["--triples "]),
        ("inpars run --training ", ["always", "auto", "never"]),
    ],
)
def test_commands_flags_and_choices_are_completed(tmp_path, line, expected):
    pytest.importorskip("argcomplete")
    assert sorted(completions(line, tmp_path)) == expected
