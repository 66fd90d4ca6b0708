"""The process in which `engines.py` computes one library's sides: it loads sides by name and times them, nothing else.

A line of JSON on stdin is a request, a line on stdout its answer. A process for each library keeps their threads and
their memory apart, and may have an interpreter of its own, in which this package need not be installed.

    {"make": SIDE, "work": FILE}                     loads `module:function`; answers title and variants, or why not
    {"run": SIDE, "variant": V, "positions": [...]}  works on those items; answers seconds, and results with "keep"
    {"drop": SIDE}                                   forgets the side

A variant is one way to set the side up, by batch size for instance; `engines.py` compares ours with the best of them.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100  # a second, of /proc

Work: TypeAlias = Mapping[str, Any]
"""What `engine_work.py` prepared: texts, limits, model folders, threads."""

Run: TypeAlias = Callable[[Sequence[int]], list[Any]]
"""Results of the items at these positions, in their order."""


class Absent(Exception):
    """A peer that is not installed, or that cannot do this work."""


def nothing() -> None:
    """Leave nothing behind."""


@dataclass(frozen=True, slots=True)
class Made:
    """A loaded side: its name with versions, its ways of working, and how it ends."""

    title: str
    variants: Mapping[str, Run]
    close: Callable[[], object] = nothing


def by_length(texts: Sequence[str], positions: Sequence[int], size: int) -> list[list[int]]:
    """Indexes into `positions` in batches of similar length, long ones first."""
    order = sorted(range(len(positions)), key=lambda index: -len(texts[positions[index]]))
    return [order[start : start + size] for start in range(0, len(order), size)]


def spent() -> float:
    """Processor seconds of this process and of all that it started."""
    times = os.times()
    ended = times.children_user + times.children_system
    return time.process_time() + ended + descendants_seconds(os.getpid())


def descendants_seconds(pid: int) -> float:
    """Processor seconds of the living descendants of a process; 0 where the system has no /proc."""
    children: dict[int, list[tuple[int, float]]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            continue  # it has ended
        spent = (int(fields[11]) + int(fields[12])) / TICKS
        children.setdefault(int(fields[1]), []).append((int(path.parent.name), spent))
    total, waiting = 0.0, [pid]
    while waiting:
        for child, spent in children.get(waiting.pop(), []):
            total += spent
            waiting.append(child)
    return total


def make(request: Mapping[str, Any]) -> tuple[Made | None, dict[str, Any]]:
    """The side, and what is answered."""
    module, _, function = request["make"].partition(":")
    try:
        work = json.loads(Path(request["work"]).read_text(encoding="utf-8"))
        made: Made = getattr(importlib.import_module(module), function)(work)
    except (Absent, ImportError) as error:
        return None, {"absent": str(error)}
    except Exception as error:
        return None, {"failed": _line(error)}
    return made, {"title": made.title, "variants": list(made.variants)}


def run(made: Made, request: Mapping[str, Any]) -> dict[str, Any]:
    """Seconds by the clock and of processors, and results where they are wanted."""
    work, positions = made.variants[request["variant"]], request["positions"]
    try:
        gc.collect()
        used, start = spent(), time.perf_counter()
        results = work(positions)
        answer = {"wall": time.perf_counter() - start, "processor": spent() - used}
    except Exception as error:
        return {"failed": _line(error)}
    return {**answer, "results": results if request.get("keep") else []}


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:300]}"


def main() -> None:
    """Answer until stdin ends."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)  # libraries print what they like
        sides: dict[str, Made] = {}
        for line in sys.stdin:
            request = json.loads(line)
            if "make" in request:
                made, answer = make(request)
                sides |= {} if made is None else {request["make"]: made}
            elif "run" in request:
                answer = run(sides[request["run"]], request)
            else:
                answer = {}
                sides.pop(request["drop"]).close()
                gc.collect()
            answers.write(json.dumps(answer) + "\n")
            answers.flush()
        for side in sides.values():
            side.close()


if __name__ == "__main__":
    main()
