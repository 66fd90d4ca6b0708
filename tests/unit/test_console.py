"""The console: lines on a pipe, bars on a terminal, silence when asked."""

import io
import threading
import time
from pathlib import Path

import pytest

from inpars import console
from inpars.console import Console
from inpars.progress import SILENT


class Clock:
    """A clock that is advanced by hand."""

    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(console.time, "monotonic", clock.monotonic)
    return clock


def track(shown, items, **settings):
    return shown.track(items, **{"total": None, "description": "reading", "unit": "documents"} | settings)


def test_items_pass_in_order(clock):
    assert list(track(Console(io.StringIO()), "abc")) == ["a", "b", "c"]
    assert list(track(SILENT, "abc")) == ["a", "b", "c"]


def test_short_work_says_nothing(clock):
    out = io.StringIO()
    list(track(Console(out), range(100)))
    assert out.getvalue() == ""


def test_lines_every_ten_seconds_and_one_at_the_end(clock):
    out = io.StringIO()
    for _ in track(Console(out), range(6), total=6):
        clock.now += 4
    # counted when the next item is asked for: after 12 s three items, after 24 s all six; 3 / 12 = 0.25 rounds to 0.2.
    # The line that shows all six is not said again at the end.
    assert out.getvalue().splitlines() == [
        "reading: 3/6 documents, 0.2/s, 12s, 12s left",
        "reading: 6/6 documents, 0.2/s, 24s",
    ]


def test_without_a_total_no_time_left_is_guessed(clock):
    out = io.StringIO()
    for _ in track(Console(out), range(1)):
        clock.now += 3725
    # 3725 s = 1 h 2 min 5 s; below 0.1/s the time of one is shown
    assert out.getvalue().splitlines()[0] == "reading: 1 documents, 1h02m each, 1h02m"


def test_work_done_before_counts_but_not_in_the_rate(clock):
    out = io.StringIO()
    for _ in track(Console(out), range(1), total=100, done=40):
        clock.now += 10
    # 41 of 100 after one item in 10 s = 0.1/s; 59 left * 10 s = 590 s
    assert out.getvalue().splitlines()[0] == "reading: 41/100 documents, 0.1/s, 10s, 9m50s left"


def test_advance_counts_instead_of_the_items(clock):
    out = io.StringIO()
    shown = Console(out)
    for _ in track(shown, range(2), total=64):
        shown.advance(32, "loss 0.5")
        clock.now += 16
    # batches of 32: at the second advance 64 in 16 s = 4/s
    assert out.getvalue().splitlines() == ["reading: 64/64 documents, 4.0/s, 16s | loss 0.5"]


def test_advance_belongs_to_the_innermost_track(clock):
    out = io.StringIO()
    shown = Console(out)
    for _ in track(shown, range(2), description="outer"):
        for _ in track(shown, range(1), description="inner"):
            shown.advance(5)
            clock.now += 5
    lines = out.getvalue().splitlines()
    assert [line.split(",")[0] for line in lines if line.startswith("inner")] == ["inner: 5 documents"] * 2
    assert lines[-1].startswith("outer: 2 documents, 0.2/s, 10s")


def test_advance_outside_any_track_is_ignored(clock):
    out = io.StringIO()
    Console(out).advance(3, "nothing")
    assert out.getvalue() == ""


def test_a_track_that_is_left_early_is_closed(clock):
    shown = Console(io.StringIO())
    tracked = track(shown, range(9))
    next(tracked)
    tracked.close()
    assert shown._counters == []


def test_notes_and_quiet():
    out = io.StringIO()
    Console(out).note("one line")
    assert out.getvalue() == "one line\n"
    quiet = io.StringIO()
    shown = Console(quiet, quiet=True)
    shown.note("one line")
    assert (list(track(shown, "ab")), quiet.getvalue()) == (["a", "b"], "")


def test_a_terminal_gets_a_bar():
    out = Terminal()
    shown = Console(out)
    for _ in track(shown, range(3), total=3):
        shown.note("noted")
    assert "reading: 100%" in out.getvalue()
    assert out.getvalue().count("noted\n") == 3
    assert "3/3" in out.getvalue()


def test_stderr_is_the_default(capsys):
    Console().note("said")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "said\n")


def test_a_long_silence_is_broken_by_what_is_being_done(clock):
    out = io.StringIO()
    shown = Console(out)
    shown.stage("generate", Path("queries.jsonl"), up_to_date=False)
    for _ in range(20):
        clock.now += 1
        shown.look()
    # silent for more than 7.5 s at the eighth look, and 8 s later again
    assert out.getvalue().splitlines() == ["generate: 8s", "generate: 16s"]


def test_a_long_silence_inside_counted_work_is_broken_by_its_count(clock):
    out = io.StringIO()
    shown = Console(out)
    tracked = track(shown, range(4), total=4, description="train", unit="steps")
    for _ in range(2):
        next(tracked)
        clock.now += 9
        shown.look()
    # no rate before the first step is done; then 1 in 18 s
    assert out.getvalue().splitlines() == ["train: 0/4 steps, 9s", "train: 1/4 steps, 18s each, 18s, 54s left"]


def test_on_a_terminal_a_silence_moves_the_bar(clock):
    out = Terminal()
    shown = Console(out)
    for _ in track(shown, range(1), total=1):
        before = len(out.getvalue())
        shown.look()
        assert len(out.getvalue()) > before
    assert "\n" not in out.getvalue().rstrip("\n")


def test_a_watched_console_looks_by_itself_until_the_block_ends(monkeypatch):
    monkeypatch.setattr(console, "SECONDS_BETWEEN_LOOKS", 0.01)
    monkeypatch.setattr(console, "SECONDS_OF_SILENCE", 0.02)
    out = io.StringIO()
    with Console(out).watched():
        deadline = time.time() + 10
        while "working" not in out.getvalue() and time.time() < deadline:
            time.sleep(0.01)
    written = out.getvalue()
    time.sleep(0.1)
    assert written.startswith("working: 0s\n")
    assert out.getvalue() == written


def test_a_quiet_console_is_not_watched():
    threads = threading.active_count()
    with Console(io.StringIO(), quiet=True).watched():
        assert threading.active_count() == threads


def test_a_stage_that_is_skipped_is_one_line():
    out = io.StringIO()
    Console(out).stage("filter", Path("kept.jsonl"), up_to_date=True)
    assert out.getvalue() == "filter: kept.jsonl is up to date, skipped\n"


@pytest.mark.filterwarnings("default")  # of the kernel
def test_a_notebook_gets_a_bar_of_widgets(tmp_path):
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("ipywidgets")
    pytest.importorskip("ipykernel")
    cell = "from inpars.console import Console\n"
    cell += "for n in Console().track('abc', total=3, description='reading', unit='documents'): pass"
    page = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell)])
    nbclient.NotebookClient(page, timeout=120, kernel_name="python3").execute()
    (output,) = page.cells[0].outputs
    assert "application/vnd.jupyter.widget-view+json" in output["data"]
    states = page.metadata["widgets"]["application/vnd.jupyter.widget-state+json"]["state"].values()
    assert any("3/3" in str(one["state"].get("value")) for one in states)
