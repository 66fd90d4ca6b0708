"""The choice of an engine: by CPU time, the more precise one unless another is clearly faster, remembered."""

import json

import pytest

from inpars.engines import trial
from inpars.errors import ConfigError
from inpars.models import compute_options as engines
from inpars.progress import SILENT, Silent


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("INPARS_CACHE", str(tmp_path))


def trials(**seconds):
    return {name.replace("_", "-"): lambda value=value: value for name, value in seconds.items()}


@pytest.mark.parametrize(
    ("seconds", "taken"),
    [
        ({"torch": 1.0, "openvino": 0.95}, "torch"),  # 1 / 0.95 = 1.05 times as fast: less than 1.1
        ({"torch": 1.0, "openvino": 0.8}, "openvino"),
        ({"torch": 1.0, "openvino": 0.8, "openvino_int8": 0.7}, "openvino"),  # 0.8 / 0.7 = 1.14: less than 1.15
        ({"torch": 1.0, "openvino": 0.8, "openvino_int8": 0.5}, "openvino-int8"),
        ({"torch": 1.0, "openvino": None, "openvino_int8": None}, "torch"),  # cannot be converted
        ({"torch": None, "openvino": 9.0}, "openvino"),
    ],
)
def test_the_fastest_by_a_margin_is_taken(seconds, taken):
    assert trial.fastest("minilm", "a network", trials(**seconds)) == taken


def test_a_moment_in_which_the_machine_is_slow_decides_nothing():
    """All that is timed in the first round is slowed, but for torch; by the others OpenVINO is twice as fast."""
    slowed = iter([1.0, 3.0])
    timed = {
        "torch": lambda: 1.0 * next(slowed, 1.0),
        "openvino": lambda: 0.5 * next(slowed, 1.0),
    }
    assert trial.fastest("minilm", "a network", timed) == "openvino"


def test_long_trials_are_held_in_one_round():
    calls = []
    timed = {"torch": lambda: calls.append("torch") or 9.0, "openvino": lambda: calls.append("openvino") or 1.0}
    assert trial.fastest("minilm", "a network", timed) == "openvino"
    assert calls == ["torch", "openvino"]


def test_a_trial_is_held_once_for_a_subject():
    assert trial.fastest("minilm", "a network", trials(torch=1.0, openvino=0.5)) == "openvino"
    assert trial.fastest("minilm", "a network", trials(torch=0.1, openvino=0.5)) == "openvino"
    assert trial.fastest("minilm", "another network", trials(torch=0.1, openvino=0.5)) == "torch"


def test_an_engine_that_fails_on_this_processor_is_left_out(monkeypatch):
    notes = []
    progress = Silent()
    progress.note = notes.append
    monkeypatch.setattr(trial, "_progress", [progress])

    def failing():
        raise RuntimeError("in node.cpp\ncould not create a primitive")

    assert trial.fastest("minilm", "a network", {"torch": lambda: 1.0, "openvino": failing}) == "torch"
    assert notes == ["openvino cannot compute minilm on this processor and is left out: could not create a primitive"]
    with pytest.raises(RuntimeError, match="could not"):
        trial.fastest("minilm", "another network", {"torch": failing, "openvino": lambda: 1.0})


@pytest.mark.parametrize("content", ["", "[]", "{", '{"engine": "abacus"}', '{"engine": 7}'])
def test_a_torn_memory_is_a_new_trial(tmp_path, content):
    trial.fastest("minilm", "a network", trials(torch=1.0, openvino=0.5))
    (known,) = (tmp_path / "engines").glob("*.json")
    known.write_text(content)
    assert trial.fastest("minilm", "a network", trials(torch=0.1, openvino=0.5)) == "torch"
    assert json.loads(known.read_text())["engine"] == "torch"


def test_a_capped_processor_has_trials_of_its_own(monkeypatch):
    assert trial.fastest("minilm", "a network", trials(torch=1.0, openvino=0.5)) == "openvino"
    monkeypatch.setattr(trial.processor, "tier", lambda: "another tier")
    assert trial.fastest("minilm", "a network", trials(torch=0.1, openvino=0.5)) == "torch"


def test_the_environment_names_the_engine_where_no_flag_does(monkeypatch):
    monkeypatch.setenv("INPARS_ENGINE_BACKEND", "openvino")
    assert engines.engine() == "openvino"
    engines.use_engine("torch")
    try:
        assert engines.engine() == "torch"
    finally:
        engines.use_engine("auto")
    monkeypatch.setenv("INPARS_ENGINE_BACKEND", "abacus")
    with pytest.raises(ConfigError, match="INPARS_ENGINE_BACKEND is 'abacus'"):
        engines.engine()


def test_a_trial_says_once_what_it_chooses(monkeypatch):
    shown = []

    class Shown(Silent):
        def track(self, items, *, total, description, unit, done=0):
            shown.append((description, total))
            yield from items

    monkeypatch.setattr(trial, "_progress", [SILENT])
    trial.report_to(Shown())
    for _ in range(2):
        trial.fastest("minilm", "a network", trials(torch=1.0, openvino=0.5))
    assert shown == [("choosing the engine for minilm on this machine (once, remembered in the cache)", 2)]
