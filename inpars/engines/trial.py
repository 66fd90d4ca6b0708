"""Finds the fastest engine for a network on this machine; measured once and remembered in the cache.

Times are CPU seconds, so that other processes do not matter, and are taken in rounds of all candidates, since the speed
of virtual machines changes from minute to minute. Candidates are ordered by precision: a less precise one must be
clearly faster.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from inpars.cache import cache_folder
from inpars.io.json_text import JsonError, parse_json
from inpars.io.storage import atomic_writer
from inpars.models import processor
from inpars.progress import SILENT, Progress
from inpars.text.hashing import hex_key

TRIAL_FORMAT = 3  # increase when candidates or their meaning change
MIN_GAIN = 1.1  # required speed-up over the best earlier candidate
MIN_INT8_GAIN = 1.15  # the same for an 8-bit candidate
MAX_ROUNDS = 3
ENOUGH_SECONDS = 3.0  # no further round after this

Trial = Callable[[], float | None]
"""CPU seconds for a fixed amount of work; None if the engine cannot compute the network exactly enough. Repeatable."""

_progress: list[Progress] = [SILENT]  # one per process, like the engine


def report_to(progress: Progress) -> None:
    """Show the progress of later trials here."""
    _progress[0] = progress


def fastest(model: str, subject: str, trials: Mapping[str, Trial], *, max_rounds: int = MAX_ROUNDS) -> str:
    """The name of the fastest engine; the first unless another one is clearly faster. One that fails here is left out.

    `model` is the name shown to users; `subject` identifies everything the choice depends on.
    """
    key = hex_key(str(TRIAL_FORMAT), subject, processor.tier(), *trials)
    path = cache_folder() / "engines" / f"{key}.json"
    if (remembered := _remembered(path, trials)) is not None:
        return remembered
    description = f"choosing the engine for {model} on this machine (once, remembered in the cache)"
    names = _progress[0].track(trials, total=len(trials), description=description, unit="engines")
    best = next(iter(trials))
    first = {name: trials[name]() if name == best else _time(name, trials[name], model) for name in names}
    able = [name for name, spent in first.items() if spent is not None]
    rounds = [first]
    while len(rounds) < max_rounds and sum(times[name] or 0 for times in rounds for name in able) < ENOUGH_SECONDS:
        rounds.append({name: trials[name]() for name in able})
    for name in able:
        gain = MIN_INT8_GAIN if name.endswith("int8") else MIN_GAIN
        if best not in able or _speed_up(rounds, name, best) > gain:
            best = name
    with atomic_writer(path) as stream:
        json.dump({"engine": best, "seconds": rounds, "tier": processor.tier()}, stream)
    return best


def _speed_up(rounds: Sequence[Mapping[str, float | None]], name: str, other: str) -> float:
    """How many times as fast as another candidate one is: the median over the rounds that have both."""
    return statistics.median(
        before / max(spent, 1e-9)
        for times in rounds
        if (before := times[other]) is not None and (spent := times[name]) is not None
    )


def _time(engine: str, trial: Trial, model: str) -> float | None:
    """The time of a trial; None, with a note, for an engine that fails on this processor."""
    try:
        return trial()
    except RuntimeError as error:  # OpenVINO's, where it has no kernel for the instruction set
        _progress[0].note(f"{engine} cannot compute {model} on this processor and is left out: {last_line(error)}")
        return None


def last_line(error: Exception) -> str:
    """The last line of an engine's error, which says what failed; the others say where."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]


def _remembered(path: Path, trials: Mapping[str, Trial]) -> str | None:
    try:
        stored = parse_json(path.read_bytes())
    except (FileNotFoundError, JsonError):
        return None
    name = stored.get("engine") if isinstance(stored, dict) else None
    return name if name in trials else None
