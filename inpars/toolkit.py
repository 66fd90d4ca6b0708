"""Shared by the InPars toolkit's commands (`python -m inpars.generate` and others).

Each translates the toolkit's flags into `inpars` commands, prints these to stderr and runs them in order.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

from inpars.cli import main as cli
from inpars.cli.usage import NEAR, Parser, near_flags

TYPO = 0.75  # similarity to a known flag above which an unknown flag is refused as a misspelling
IR_DATASETS = "ir_datasets"
PYSERINI = "documents come from ir_datasets, whose BEIR collections are the same"


class CallableModule(ModuleType):
    """A command's module that is also a function: `inpars.generate(...)` calls `inpars.api.generate`."""

    def __call__(self, *arguments: Any, **flags: Any) -> Any:  # noqa: ANN401, D102 - the function's
        from inpars import api

        return getattr(api, self.__name__.rpartition(".")[2])(*arguments, **flags)


def toolkit_parser(name: str, more: str, tolerance: float = TYPO) -> Parser:
    """The parser of `python -m inpars.NAME`; it accepts unknown flags but rejects misspelt ones."""
    return Parser(
        prog=f"python -m inpars.{name}",
        description=f"The InPars toolkit's command; `inpars {more}` has more.",
        tolerance=tolerance,
    )


def run_translated(
    parser: argparse.ArgumentParser,
    arguments: Sequence[str] | None,
    translate: Callable[[argparse.Namespace], list[list[str]]],
    instead: Mapping[str, str] = MappingProxyType({}),
    ignored: Callable[[argparse.Namespace], Iterable[str]] = lambda flags: (),
) -> int:
    """Run the translated commands; returns the exit code of the first that fails, else 0.

    `instead` maps flags without effect to what happens in their place; `ignored` returns further ones.
    """

    def run() -> int:
        flags, unknown = parser.parse_known_args(arguments)
        commands = translate(flags)
        without_effect = [f"--{name} ({text})" for name, text in instead.items() if getattr(flags, name)]
        source = getattr(flags, "dataset_source", IR_DATASETS)
        without_effect += [f"--dataset_source {source} ({PYSERINI})"] if source != IR_DATASETS else []
        without_effect += [*ignored(flags), *(_unknown(flag, parser) for flag in unknown if flag.startswith("-"))]
        if without_effect:
            print(f"ignored: {'; '.join(without_effect)}", file=sys.stderr)
        for command in commands:
            print(f"inpars {shlex.join(command)}", file=sys.stderr)
            if code := cli.main(command):
                return code
        return 0

    return cli.guarded(run)


def _unknown(flag: str, parser: argparse.ArgumentParser) -> str:
    near = near_flags(flag.partition("=")[0], parser._option_string_actions, NEAR)
    return f"{flag} is not known" + (f" (is {near[0]} meant?)" if near else "")


def flags_of(options: Mapping[str, Any]) -> list[str]:
    """`--name=value` for every value that is not None."""
    return [f"--{name}={value}" for name, value in options.items() if value is not None]


def dataset_name(name: str) -> str:
    """The full name of a dataset; the toolkit accepts BEIR names without `beir/`, ir_datasets names and paths."""
    if Path(name).exists() or "/" in name or name == "python-docs":
        return name
    import ir_datasets  # takes a third of a second; only for its names

    return f"beir/{name}" if f"beir/{name}" in list(ir_datasets.registry) else name
