"""Commands that make the outputs of a run again, from what its manifests say. Manifests in, lines out."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from inpars.manifest import Manifest

Flag = tuple[str, str]
MADE_FROM = {  # the flags under which a stage's command takes its inputs, by the inputs' names
    "filter": {"queries": "--input"},
    "triples": {"queries": "--input"},
    "train retriever": {"triples": "--triples"},
    "train reranker": {"triples": "--triples"},
    "rerank": {"run": "--run", **{f"run {number}": "--run" for number in range(2, 10)}},
    "evaluate": {},
}
NEEDS_DATASET = {"generate", "triples", "search", "rerank", "evaluate"}
NEEDS_SPLIT = {"triples", "search", "rerank", "evaluate"}
WITH_PROMPT = {"generate"}
DISPLAY = {"overwrite", "quiet", "json"}  # make no difference to what comes out


def command_line(name: str, add_arguments: Callable[[argparse.ArgumentParser], None], flags: argparse.Namespace) -> str:
    """The command whose flags were parsed, with those that are not at their defaults."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    add_arguments(parser)
    given: list[Flag] = []
    for action in parser._actions:  # argparse has no other way to ask
        value = getattr(flags, action.dest, None)
        if action.option_strings and value != parser.get_default(action.dest) and action.dest not in DISPLAY:
            given += _written(action.dest, value)
    return _joined(["inpars", name], given)


def stage_commands(outputs: Iterable[tuple[Path, Manifest]], source: Mapping[str, str], prompt: str) -> list[str]:
    """A command for each output that has one; `source` holds the flags that name the dataset, `split` among them."""
    return [
        command
        for output, manifest in outputs
        if (command := _stage_command(output, manifest, source, prompt)) is not None
    ]


def _stage_command(output: Path, manifest: Manifest, source: Mapping[str, str], prompt: str) -> str | None:
    stage = manifest.stage
    if stage not in {"generate", "search", *MADE_FROM}:
        return None
    given: list[Flag] = []
    if stage in NEEDS_DATASET:
        given += [(f"--{name.replace('_', '-')}", value) for name, value in source.items() if name != "split"]
    if stage in NEEDS_SPLIT and "split" in source:
        given.append(("--split", source["split"]))
    if stage in WITH_PROMPT:
        given.append(("--prompt", prompt))
    inputs = MADE_FROM.get(stage, {})
    given += [(inputs[name], _near(stamp.path, output)) for name, stamp in manifest.inputs.items() if name in inputs]
    if stage == "evaluate":
        given += [
            ("--run", _near(stamp.path, output)) for stamp in manifest.inputs.values() if stamp.path.endswith(".trec")
        ]
    for name, value in manifest.arguments.items():
        given += _written(name, value)
    return _joined(["inpars", *stage.split()], [*given, ("--output", str(output))])


def _near(path: str, output: Path) -> str:
    """The path as it was given, or beside the output where the folder was moved since."""
    if Path(path).exists():
        return path
    for folder in output.parents:
        if (folder / Path(path).name).exists():
            return str(folder / Path(path).name)
    return path


def _written(name: str, value: Any) -> list[Flag]:  # noqa: ANN401 - values of options
    flag = name.replace("_", "-")
    if value is None or value in ((), []):
        return []
    if isinstance(value, bool):
        return [(f"--{flag}" if value else f"--no-{flag}", "")]
    if isinstance(value, list | tuple):
        return [(f"--{flag}", str(part)) for part in value]
    return [(f"--{flag}", str(value))]


def _joined(words: Sequence[str], flags: Sequence[Flag]) -> str:
    """Words and flags with line breaks that a shell reads over."""
    lines, line = [], " ".join(words)
    for flag, value in flags:
        part = f"{flag} {shlex.quote(value)}" if value else flag
        if len(line) + len(part) > 96:
            lines.append(line)
            line = "   "
        line += f" {part}"
    return " \\\n".join([*lines, line])
