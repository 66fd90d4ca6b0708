"""The output of `--help` in a layout that does not depend on Python's version.

argparse breaks lines and writes usage differently from one Python to the next; so the parsers that the commands show
are caught and written out here: every flag with its values, default and help, at a width of 100.
"""

from __future__ import annotations

import argparse
import importlib
import textwrap
from collections.abc import Callable, Iterator

import pytest

from inpars.cli import main as cli

WIDTH = 100
TOOLKIT = ["generate", "filter", "generate_triples", "train", "rerank", "evaluate"]  # python -m inpars.NAME


def help_texts() -> dict[str, str]:
    """The help of `inpars`, each command, their subcommands, and the InPars toolkit's commands, by file name."""
    texts = {"inpars": written(shown(cli.main, []))}
    for name in cli.COMMANDS:
        texts |= dict(_with_subcommands(name, [name]))
    for name in TOOLKIT:
        texts[f"python -m inpars.{name}"] = written(shown(importlib.import_module(f"inpars.{name}").main, []))
    return texts


def shown(main: Callable[[list[str]], object], words: list[str]) -> argparse.ArgumentParser:
    """The parser whose help `WORDS --help` prints."""
    caught: list[argparse.ArgumentParser] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "print_help", lambda parser, file=None: caught.append(parser))
        with pytest.raises(SystemExit) as stopped:
            main([*words, "--help"])
    assert stopped.value.code == 0
    (parser,) = caught
    return parser


def _with_subcommands(title: str, words: list[str]) -> Iterator[tuple[str, str]]:
    parser = shown(cli.main, words)
    yield title, written(parser)
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name in action.choices:
                yield from _with_subcommands(f"{title} {name}", [*words, name])


def written(parser: argparse.ArgumentParser) -> str:
    """Program, description, each group of flags, epilog."""
    parts = [parser.prog, (parser.description or "").strip()]
    for group in parser._action_groups:
        if group._group_actions:
            parts.append("\n".join([f"{_title(group)}:", *map(_flag(parser), group._group_actions)]))
    for exclusive in parser._mutually_exclusive_groups:
        names = " | ".join(_name(action) for action in exclusive._group_actions)
        parts.append(f"one of: {names}{' (required)' if exclusive.required else ''}")
    parts.append((parser.epilog or "").strip())
    return "\n\n".join(part for part in parts if part) + "\n"


def _title(group: argparse._ArgumentGroup) -> str:
    return {"optional arguments": "options"}.get(str(group.title), str(group.title))


def _flag(parser: argparse.ArgumentParser) -> Callable[[argparse.Action], str]:
    def text(action: argparse.Action) -> str:
        if action.help is argparse.SUPPRESS:
            return f"  {_name(action)}  (hidden){_facts(action)}"
        filled = (action.help or "") % {**vars(action), "prog": parser.prog}
        lines = [f"  {_name(action)}{_facts(action)}", *_wrapped(filled, "      ")]
        if isinstance(action, argparse._SubParsersAction):
            lines += [f"      {choice.dest}: {choice.help}" for choice in action._choices_actions]
        return "\n".join(lines)

    return text


def _name(action: argparse.Action) -> str:
    return ", ".join(action.option_strings) or str(action.metavar or action.dest)


def _facts(action: argparse.Action) -> str:
    """The content of the usage line: `PATH...`, choices, whether it is required, the default."""
    facts = []
    if action.option_strings and action.nargs != 0:
        values = "|".join(map(str, action.choices or ()))
        facts += [str(action.metavar), *([f"of {values}"] if values else [])] if action.metavar else [values or "VALUE"]
    if action.nargs not in (None, 0):
        facts.append(f"nargs={action.nargs}")
    if action.required:
        facts.append("required")
    if action.default not in (None, argparse.SUPPRESS):
        facts.append(f"[{action.default}]")
    return "".join(f"  {fact}" for fact in facts)


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)
