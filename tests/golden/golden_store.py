"""Golden files: one for each step, and the hashes of every byte on machines whose bits are known."""

from __future__ import annotations

import json
import re
import textwrap
from pathlib import Path
from typing import Any

from golden_files import differences, manifest_differences
from golden_inputs import DATA
from golden_steps import STEPS, Step

FOLDER = DATA / "golden"
MACHINES = FOLDER / "machines.json"
MANIFESTS = 1e-3  # the losses of a training differ less than its weights
NUMBERS = re.compile(r"\[([-\d.,e\s]+)\]")


def read(step: Step) -> dict[str, Any]:
    """What is stored of a step."""
    path = path_of(step)
    if not path.exists():
        return {"command": "", "outputs": {}, "manifests": {}}
    return json.loads(path.read_text(encoding="utf-8"))


def path_of(step: Step) -> Path:
    return FOLDER / f"{step.name}.json"


def known_digest(machine: str, step: Step) -> str | None:
    """The hash of all bytes of a step on this machine, where one is stored."""
    return _machines().get(machine, {}).get(step.name)


def changes(step: Step, now: dict[str, Any]) -> list[str]:
    """What is not as it is stored, a line each."""
    stored = read(step)
    found = [] if stored["command"] == now["command"] else ["the command is another"]
    found += differences(stored["outputs"], now["outputs"], step.tolerance)
    tolerance = min(step.tolerance, MANIFESTS)
    return found + manifest_differences(stored["manifests"], now["manifests"], tolerance, "manifests")


def renew(machine: str, made: dict[str, dict[str, Any]], digests: dict[str, str]) -> list[str]:
    """Store what was made, and say which steps changed; steps that could not run here are left as they are."""
    said, machines = [], _machines()
    FOLDER.mkdir(exist_ok=True)
    for path in FOLDER.glob("*.json"):
        if path != MACHINES and path.stem not in {step.name for step in STEPS}:
            path.unlink()
            said.append(f"{path.stem}: no such step any more")
    for step in STEPS:
        if step.name not in made:
            said.append(f"{step.name}: did not run, left as it is")
            continue
        found = changes(step, made[step.name])
        before = machines.get(machine, {}).get(step.name)
        if found or before not in (None, digests[step.name]):
            said += [f"{step.name}: {line}" for line in found or ["other bits, within the tolerance"]]
            for others in machines.values():
                others.pop(step.name, None)
        if found:
            _write(path_of(step), made[step.name])
        machines.setdefault(machine, {})[step.name] = digests[step.name]
    _write(MACHINES, {name: dict(sorted(steps.items())) for name, steps in sorted(machines.items())})
    return said


def _machines() -> dict[str, dict[str, str]]:
    return json.loads(MACHINES.read_text(encoding="utf-8")) if MACHINES.exists() else {}


def _write(path: Path, values: Any) -> None:
    text = NUMBERS.sub(_on_few_lines, json.dumps(values, indent=1, ensure_ascii=False))
    path.write_text(text + "\n", encoding="utf-8")


def _on_few_lines(numbers: re.Match[str]) -> str:
    return "[" + "\n  ".join(textwrap.wrap(" ".join(numbers[1].split()), 110, break_long_words=False)) + "]"
