"""The canary and the tally: what counts as degenerate, when a run is stopped, what its watcher is shown."""

import pytest

from inpars.errors import BackendError
from inpars.generation.degeneration_monitor import Canary, Tally
from inpars.records import SyntheticQuery

DOCUMENT = "the quick brown fox jumps over the lazy dog in the morning"


def query(text, reason="stop", log_probs=(-1.0, -2.0)):
    return SyntheticQuery("d-q0", "d", text, log_probs, None, reason, "raw", "p", "m")


def watched(texts, window=10, **settings):
    canary = Canary(["what is a lake?"], window, **settings)
    for text in texts:
        canary.watch({"query": text, "text": DOCUMENT, "finish_reason": "stop"})
    return canary


def different(count):
    return [f"question number {n}" for n in range(count)]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        (" ?!", "empty"),
        ("What is a lake", "prompt_example"),
        ("quick brown fox jumps over the", "copied"),
        ("how old is he", "alike"),
    ],
)
def test_each_fault_has_its_reason(text, reason):
    # of queries that are alike one is as good as any
    faults = watched([text] * 10).faults()
    assert faults == {reason: 9 if reason == "alike" else 10}


@pytest.mark.parametrize("bad", [8, 9, 10])
def test_nine_of_ten_stop_the_run(bad):
    canary = watched(["", *different(10 - bad), *[""] * (bad - 1)])
    if bad < 9:
        canary.check()
        return
    with pytest.raises(BackendError, match=rf"{bad}0% of the last 10 queries .*\({bad} empty\)") as caught:
        canary.check()
    assert "--no-canary" in str(caught.value)


def test_faults_of_several_kinds_add_up():
    texts = ["", "what is a lake", "same", "same", "same", "quick brown fox jumps over the", "", "", "", "same"]
    # four empty, three of four alike, one copied, one example
    with pytest.raises(BackendError, match=r"90% .*\(4 empty, 3 the same as another, 1 .*, 1 .*\)"):
        watched(texts).check()


def test_failed_requests_are_not_counted():
    canary = watched([""] * 9)
    for _ in range(20):
        canary.watch({"query": "", "text": DOCUMENT, "finish_reason": "error"})
    canary.check()
    assert canary.faults() == {"empty": 9}


def test_nothing_is_said_before_the_window_is_full_and_only_the_latest_count():
    watched([""] * 9).check()
    watched([*[""] * 50, *different(10)]).check()


def test_the_tally_shows_ends_likelihood_and_the_latest_query():
    tally = Tally()
    assert str(tally) == ""
    tally.add([query("a b", log_probs=(-1.0, -2.0)), query("c", "length", (-0.5,)), query("", log_probs=())])
    tally.add([query("who is it?" * 20)])
    # means -1.5, -0.5 and -1.5, of three queries with tokens
    assert str(tally).startswith("stop 75%, length 25%, mean log-prob -1.17 | who is it?who")
    assert len(str(tally)) < 120
    tally.add([query("", "error", ())])
    assert "error 20%" in str(tally)
