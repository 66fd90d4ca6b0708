"""The stage runner: skipping, redoing with a reason, and writing the manifest last."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from inpars.errors import ConfigError, DataFormatError, StorageError
from inpars.io.manifest import manifest_path, read_manifest, stamp, stamp_text
from inpars.options import option
from inpars.progress import Silent
from inpars.stages.partial import partial_path
from inpars.stages.stage import Outcome, Stage, dropped_line, model_stamp


@dataclass(frozen=True)
class Options:
    k: int = option(10, help="how many")
    seed: int = option(1, help="seed")
    batch_size: int = option(8, help="speed only", changes_result=False)
    queries: Path = option(Path("q.jsonl"), help="compared by content")


class Notes(Silent):
    def __init__(self):
        self.notes = []

    def note(self, message):
        self.notes.append(message)


class Runner:
    """A stage that writes its input in capitals and counts its runs."""

    def __init__(self, folder):
        self.output = folder / "out.txt"
        self.runs = 0
        self.content = "text"
        self.progress = Notes()

    def work(self):
        self.runs += 1
        self.output.write_text(self.content.upper(), encoding="utf-8")
        return Outcome(records=1, dropped={"copied": 2}, results={"mean": 0.5}, device="abacus")

    def __call__(self, options=None, *, stage="shout", work=None, overwrite=False):
        inputs = {"text": stamp_text("text", self.content)}
        started = Stage(stage, options or Options(), self.output, inputs, progress=self.progress, overwrite=overwrite)
        return started.run(work or self.work)


@pytest.fixture
def runner(tmp_path):
    return Runner(tmp_path)


def test_the_manifest_tells_what_was_done(runner):
    manifest = runner()
    assert (manifest.stage, manifest.arguments, manifest.seed) == ("shout", {"k": 10, "seed": 1}, 1)
    assert manifest.inputs == {"text": stamp_text("text", "text")}
    assert manifest.output == stamp(runner.output, records=1)
    assert (manifest.dropped, manifest.results, manifest.device) == ({"copied": 2}, {"mean": 0.5}, "abacus")
    assert manifest.started.endswith("+00:00")
    assert manifest.seconds >= 0
    assert read_manifest(runner.output) == manifest
    assert runner.progress.notes == []


def test_what_a_finished_stage_held_is_returned(runner, monkeypatch):
    runs_when_freed = []
    monkeypatch.setattr("inpars.stages.stage.return_freed_memory", lambda: runs_when_freed.append(runner.runs))
    runner()
    runner()  # nothing was done, nothing is held
    assert runs_when_freed == [1]


def test_what_is_done_is_skipped(runner):
    first = runner()
    assert (runner(), runner.runs) == (first, 1)
    assert runner.progress.notes == [f"shout: {runner.output} is up to date, skipped"]


@pytest.mark.parametrize("options", [Options(batch_size=9), Options(queries=Path("elsewhere.jsonl"))])
def test_speed_and_paths_do_not_redo_a_stage(runner, options):
    runner()
    runner(options)
    assert runner.runs == 1


def change_input(runner):
    runner.content = "other"


def tamper(runner):
    runner.output.write_text("longer than before", encoding="utf-8")


def lose_manifest(runner):
    manifest_path(runner.output).unlink()


@pytest.mark.parametrize(
    ("change", "settings", "reason"),
    [
        (None, {"options": Options(k=11)}, "setting changed: k"),
        (None, {"options": Options(k=11, seed=2)}, "setting changed: k, seed"),
        (None, {"stage": "whisper"}, "it was made by 'shout'"),
        (None, {"overwrite": True}, "--overwrite was given"),
        (change_input, {}, "input changed: text"),
        (tamper, {}, "it was changed after it was made"),
        (lose_manifest, {}, "it was not finished"),
    ],
)
def test_changes_redo_a_stage_and_say_why(runner, change, settings, reason):
    """Toolkit fault: a run made for another filter setting was taken again, keyed by the dataset's name alone."""
    runner()
    if change:
        change(runner)
    runner(**settings)
    assert runner.runs == 2
    assert runner.progress.notes == [f"{settings.get('stage', 'shout')}: rebuilding {runner.output}: {reason}"]
    runner(**settings | {"overwrite": False})
    assert runner.runs == 2


def test_an_absent_output_is_made_without_a_word(runner):
    runner()
    runner.output.unlink()
    runner()
    assert (runner.runs, runner.progress.notes) == (2, [])


def test_a_failure_leaves_what_was_finished(runner):
    first = runner()

    def fail():
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        runner(Options(k=11), work=fail)
    assert read_manifest(runner.output) == first
    runner()  # a mistyped flag costs nothing that was done
    assert runner.runs == 1
    assert runner(Options(k=11)).arguments != first.arguments


def test_a_failure_after_the_output_was_replaced_proves_nothing(runner):
    runner()

    def fail():
        runner.output.write_text("half", encoding="utf-8")
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        runner(Options(k=11), work=fail)
    runner()
    assert runner.runs == 2


def test_an_output_below_a_file_is_refused(runner, tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    runner.output = tmp_path / "file" / "out.txt"
    with pytest.raises(StorageError, match="cannot be written"):
        runner()


def test_an_output_of_the_same_size_but_other_bytes_is_made_again(runner):
    manifest = runner()
    text = runner.output.read_text(encoding="utf-8")
    runner.output.write_text(text.swapcase(), encoding="utf-8")
    assert runner.output.stat().st_size == manifest.output.size
    runner()
    assert runner.output.read_text(encoding="utf-8") == text


def test_models_are_stamped_by_content_or_name(tmp_path):
    (tmp_path / "config.json").write_bytes(b"{}")
    assert model_stamp(str(tmp_path)).sha256 == stamp(tmp_path).sha256
    with pytest.raises(DataFormatError, match="no such model folder"):
        model_stamp(str(tmp_path / "absent"))
    assert model_stamp("someone/model") == stamp_text("someone/model", "someone/model")


def test_an_embedded_name_is_not_a_folder_of_the_same_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "minilm").mkdir()
    assert model_stamp("minilm") == stamp_text("minilm", "minilm")


@pytest.mark.parametrize(
    ("dropped", "line"),
    [
        ({}, "nothing dropped"),
        ({"copied": 0}, "nothing dropped"),
        ({"duplicate": 113, "copied": 7, "short": 0}, "120 dropped: copied 7, duplicate 113"),
    ],
)
def test_dropped_line(dropped, line):
    assert dropped_line(dropped) == line


def test_an_input_is_never_the_output(runner, tmp_path):
    runner.output.write_text("precious", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"out\.txt is an input .*overwritten; .*--output"):
        Stage("shout", Options(), tmp_path / "sub" / ".." / "out.txt", {"text": stamp(runner.output)}, overwrite=True)
    assert runner.output.read_text(encoding="utf-8") == "precious"


def test_an_output_has_one_writer_at_a_time(runner, tmp_path, monkeypatch):
    monkeypatch.setenv("INPARS_CACHE", str(tmp_path / "cache"))

    def meanwhile():
        program = (
            "import sys; from pathlib import Path; from inpars.stages.stage import Outcome, Stage\n"
            "Stage('shout', {}, Path(sys.argv[1]), {}).run(lambda: Outcome())"
        )
        command = [sys.executable, "-c", program, str(runner.output)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert "another inpars" in done.stderr
        return runner.work()

    runner(work=meanwhile)
    assert runner.output.read_text(encoding="utf-8") == "TEXT"


def test_what_other_settings_have_begun_is_not_removed_by_what_is_up_to_date(runner):
    runner()
    left = partial_path(runner.output)
    left.write_text("older", encoding="utf-8")
    os.utime(left, ns=(1, 1))
    runner()
    assert not left.exists(), "a run that was killed after its manifest left it"
    left.write_text("hours of other settings", encoding="utf-8")
    runner()
    assert (runner.runs, left.exists()) == (1, True)


def test_a_refused_writer_leaves_the_manifest(runner, tmp_path, monkeypatch):
    monkeypatch.setenv("INPARS_CACHE", str(tmp_path / "cache"))
    side = tmp_path / "side.txt"
    side.write_text("beside", encoding="utf-8")

    def stage(**settings):
        return Stage("shout", settings, runner.output, {}, sides=(side,), progress=runner.progress)

    first = stage(k=1).run(runner.work)
    monkeypatch.setattr("inpars.stages.stage.locked", lambda *_, **__: None)
    with pytest.raises(StorageError, match="another inpars"):
        stage(k=2).run(runner.work)
    assert read_manifest(runner.output) == first
    assert not any("rebuilding" in line for line in runner.progress.notes)


def test_a_stage_may_be_a_part_of_another_of_the_same_output(runner):
    runner(work=lambda: [runner(Options(k=11)), runner.work()][1])
    assert runner.runs == 2


def test_without_a_cache_stages_work(runner, tmp_path, monkeypatch):
    (tmp_path / "cache").write_text("a file", encoding="utf-8")
    monkeypatch.setenv("INPARS_CACHE", str(tmp_path / "cache"))
    runner()
    assert runner.runs == 1


@pytest.mark.parametrize("name", [".", "..", "/"])
def test_an_output_needs_a_name(name):
    with pytest.raises(ConfigError, match="no name"):
        Stage("shout", Options(), Path(name), {})
