"""Tests hold messages to paths, ids, numbers and flags, not to sentences; those that do may only become fewer."""

from pathlib import Path

import pytest
from english import demands, overlong, prose

TESTS = Path(__file__).parents[1]
# Files whose demands are over-long, and how many: shorten them when a file is worked on, and take it off the list.
OVERLONG = {
    "cli/test_api_generate.py": 7,
    "cli/test_bad_input.py": 3,
    "cli/test_consoles.py": 1,
    "cli/test_interchange.py": 1,
    "contrib/test_interchange_losses.py": 1,
    "contrib/test_interchange_parts.py": 1,
    "evaluation/test_evaluation.py": 2,
    "evaluation/test_significance.py": 1,
    "evaluation/test_wording.py": 1,
    "generation/test_api_answers.py": 1,
    "generation/test_api_batch.py": 4,
    "generation/test_api_generator.py": 4,
    "io/test_corpus.py": 2,
    "stages/test_ingesting.py": 3,
    "stages/test_ingesting_files.py": 4,
    "unit/test_extras.py": 1,
}


def test_no_further_demand_is_over_long():
    found = {path.relative_to(TESTS).as_posix(): overlong(path) for path in sorted(TESTS.rglob("*.py"))}
    found = {name: texts for name, texts in found.items() if texts}
    told = [
        f"tests/{name}:{line}: {text!r} has the words {' '.join(prose(text))!r}; ask for less, or put .* between facts"
        for name, texts in found.items()
        if len(texts) > OVERLONG.get(name, 0)
        for line, text in texts
    ]
    told += [
        f"OVERLONG[{name!r}] is {count}, and {len(found.get(name, []))} are left: write that"
        for name, count in OVERLONG.items()
        if len(found.get(name, [])) < count
    ]
    assert told == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("no such file; check the path", "no such file; check the path"),
        (r"a\.tsv: no such file", "no such file"),
        ("'d31' is not there", "is not there"),
        ("--top-k is 0; .*at least 1", "at least"),
        (r"^none of \(12 dropped: no_stop 12\)", "none of"),
        ("inpars: torch is needed for", "torch is needed for"),
    ],
)
def test_words_between_facts_are_counted(text, words):
    assert " ".join(prose(text)) == words


def test_demands_are_found_where_messages_are():
    source = """
with pytest.raises(ConfigError, match="one"): f()
assert "two" in str(caught.value)
assert f"three {x}" in capsys.readouterr().err
assert error == "four" and "six" in page
assert done.stderr.startswith("five")
"""
    assert [demand.text for demand in sorted(demands(source))] == ["one", "two", "three {0}", "four", "five"]
