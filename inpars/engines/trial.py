"""The fastest engine for a network on this machine: measured once, remembered in the cache.

Times are seconds of processor time, so that a busy neighbour does not decide. Candidates come in the order of their
precision: a less precise one has to be clearly faster.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from inpars.cache import cache_folder
from inpars.io.json_text import JsonError, parse_json
from inpars.io.storage import atomic_writer
from inpars.models import processor
from inpars.progress import SILENT, Progress
from inpars.text.hashing import hex_key

TRIAL_FORMAT = 2  # raise it where candidates or their meaning change
MIN_GAIN = 1.1  # a candidate must be this many times as fast as the best of those before it
MIN_INT8_GAIN = 1.15  # the same for one that rounds to 8 bits

Trial = Callable[[], float | None]
"""Seconds of processor time for the same work; None where the engine cannot compute the network, or not as exactly."""

_progress: list[Progress] = [SILENT]  # one per process, as the engine


def report_to(progress: Progress) -> None:
    """Have this show the trials from now on."""
    _progress[0] = progress


def fastest(model: str, subject: str, trials: Mapping[str, Trial]) -> str:
    """The name of the engine to take; the first is taken where no other one is clearly faster.

    `model` is what users call it; `subject` is all that the choice depends on.
    """
    key = hex_key(str(TRIAL_FORMAT), subject, processor.tier(), *trials)
    path = cache_folder() / "engines" / f"{key}.json"
    if (known := _remembered(path, trials)) is not None:
        return known
    description = f"choosing the engine for {model} on this machine (once, remembered in the cache)"
    names = _progress[0].track(trials, total=len(trials), description=description, unit="engines")
    seconds = {name: trials[name]() for name in names}
    best = next(iter(trials))
    for name, spent in seconds.items():
        before, gain = seconds[best], MIN_INT8_GAIN if name.endswith("int8") else MIN_GAIN
        if spent is not None and (before is None or spent * gain < before):
            best = name
    with atomic_writer(path) as stream:
        json.dump({"engine": best, "seconds": seconds, "tier": processor.tier()}, stream)
    return best


def _remembered(path: Path, trials: Mapping[str, Trial]) -> str | None:
    try:
        stored = parse_json(path.read_bytes())
    except (FileNotFoundError, JsonError):
        return None
    name = stored.get("engine") if isinstance(stored, dict) else None
    return name if name in trials else None
