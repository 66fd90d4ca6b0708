"""Runs that share nothing with the judgements: 0 for every measure is no result, and is called so."""

import pytest

from inpars.evaluation.run_files import no_result, read_checked_run

QRELS = {"1": {"a": 1, "b": 0}, "2": {"c": 1}}


@pytest.mark.parametrize(
    ("lines", "parts"),
    [
        ([], ["run has no results"]),
        (["1.A Q0 a 1 2 x"], ["none of the 2 judged queries", "'1'", "'1.A'"]),
        (["1 Q0 A 1 2 x", "2 Q0 C 1 2 x", "9 Q0 a 1 2 x"], ["none of the 2 results", "'a'", "'A'"]),
        (["1 Q0 c 1 2 x"], ["none of the 1 results", "'a'", "'c'"]),  # judged, but for another query
        (['1 Q0 "a" 1 2 x', "2 Q0 c 1 2 x"], ["1 results of run", "quotes", '"a"']),
    ],
)
def test_what_is_no_result(tmp_path, lines, parts):
    path = tmp_path / "run.trec"
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    checked = read_checked_run(path, QRELS)
    found = [no_result("run", checked.run, QRELS, checked.notes), no_result("run", read_checked_run(path).run, QRELS)]
    assert all(part in text for part in parts for text in found), found


@pytest.mark.parametrize(
    "run",
    [
        {"1": {"b": 1.0, "z": 2.0}},  # judged, if not relevant
        {"2": {"c": 1.0}, "9": {"z": 1.0}},
        {"1": {"a": 1.0}, "2": {'"x"': 1.0}},
    ],
)
def test_what_is_a_result(run):
    assert no_result("run", run, QRELS) == ""


def test_ids_with_quotes_of_their_own_are_no_mistake():
    qrels = {"1": {'"Heroes"': 1, "Low": 1, '"Changes"': 1}}
    assert no_result("run", {"1": {'"Heroes"': 2.0, "Changes": 1.0}}, qrels) == ""
