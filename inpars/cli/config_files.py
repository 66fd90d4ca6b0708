"""Flags from a YAML file (`--config`) or an earlier run (`--like`), inserted before the typed ones, which replace them.

A file maps flags without their dashes to values: a list for a flag that takes several, true or false for a switch.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from textwrap import indent
from typing import Any

from inpars.cli.usage import Parser, near_flags
from inpars.errors import ConfigError
from inpars.io.json_text import parse_json
from inpars.options import heading
from inpars.provenance import DISPLAY_FLAGS

CONFIG, LIKE, PRINT = "--config", "--like", "--print-config"
SCALARS = (str, int, float)
NOT_INHERITED = {"--output", *DISPLAY_FLAGS}  # by --like
RUN_MARK = "run.json"


def add_config_flags(parser: Parser, *, like: bool = False) -> None:
    kinds = parser.kinds().values()
    for subparser in kinds or [parser]:
        group = heading(subparser, "configuration")
        group.add_argument(CONFIG, metavar="FILE", help="YAML file with flags; typed flags replace its values")
        group.add_argument(PRINT, action="store_true", help="print every value and where it comes from, then stop")
        if like:
            group.add_argument(
                LIKE, metavar="FOLDER", help="repeat the flags of an earlier run; typed flags replace them"
            )
        for action in group._group_actions:
            action.advanced = True  # type: ignore[attr-defined]


def expanded(parser: Parser, arguments: Sequence[str]) -> list[str]:
    """The arguments with --config and --like replaced by the flags they stand for. Raises ConfigError.

    Typed flags replace those of the file, which replace those of the run.
    """
    rest, config = _pop_flag(list(arguments), CONFIG)
    subparser, head = _parser_of(parser, rest)
    tail = rest[len(head) :]
    if config is not None:
        tail = _before(subparser, _file_flags(subparser, Path(config)), tail)
    tail, like = _pop_flag(tail, LIKE)
    if like is not None:
        tail = _before(subparser, _run_flags(Path(like)), tail)
    return [*head, *tail]


def config_text(parser: Parser, flags: argparse.Namespace, typed: Sequence[str], arguments: Sequence[str]) -> str:
    """All values in the format of --config, each with its source; `typed` are the arguments before `expanded`.

    Defaults are comments: as flags they would be choices of the user, which a budget may not change.
    """
    import yaml

    subparser, _ = _parser_of(parser, arguments)
    lines = []
    for action in subparser._actions:
        if not action.option_strings or action.dest not in vars(flags) or {CONFIG, LIKE, PRINT} & _names(action):
            continue
        name = action.option_strings[0]
        if _names(action) & _flags_in(typed):
            source = "command line"
        else:
            source = "config" if _names(action) & _flags_in(arguments) else "default"
        value = yaml.safe_dump({name.removeprefix("--"): _plain(getattr(flags, action.dest))}, allow_unicode=True)
        text = f"{value.rstrip()}  # {source}" if "\n" not in value.rstrip() else f"# {source}\n{value.rstrip()}"
        lines.append(text if source != "default" else indent(text, "# "))
    return "\n".join(lines)


def _plain(value: Any) -> Any:  # noqa: ANN401 - a flag's value
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float) else str(value)


def _pop_flag(arguments: list[str], flag: str) -> tuple[list[str], str | None]:
    if sum(argument.partition("=")[0] == flag for argument in arguments) > 1:
        raise ConfigError(f"{flag} is given twice; give it once, with all flags in one place")
    for position, argument in enumerate(arguments):
        if argument == flag:
            if position + 1 == len(arguments):
                raise ConfigError(f"{flag} needs a value")
            return arguments[:position] + arguments[position + 2 :], arguments[position + 1]
        if argument.startswith(f"{flag}="):
            return arguments[:position] + arguments[position + 1 :], argument.partition("=")[2]
    return arguments, None


def _parser_of(parser: Parser, arguments: Sequence[str]) -> tuple[Parser, list[str]]:
    """The parser of the subcommand among the arguments, and the arguments up to its name."""
    kinds = parser.kinds()
    for position, argument in enumerate(arguments):
        if argument in kinds:
            subparser, head = _parser_of(kinds[argument], arguments[position + 1 :])  # type: ignore[arg-type]
            return subparser, [*arguments[: position + 1], *head]
    return parser, []


def _before(parser: Parser, flags: Mapping[str, Sequence[str]], typed: Sequence[str]) -> list[str]:
    """The given flags unless they were also typed, then the typed arguments."""
    typed_flags = _flags_in(typed)
    aliases = {name: _names(action) for name, action in parser._option_string_actions.items()}
    added = [words for name, words in flags.items() if not aliases.get(name, {name}) & typed_flags]
    return [*(word for words in added for word in words), *typed]


def _flags_in(arguments: Iterable[str]) -> set[str]:
    return {argument.partition("=")[0] for argument in arguments if argument.startswith("--")}


def _names(action: argparse.Action) -> set[str]:
    return set(action.option_strings)


def _file_flags(parser: Parser, path: Path) -> dict[str, list[str]]:
    import yaml

    try:
        values, tree = yaml.safe_load(path.read_bytes()), yaml.compose(path.read_bytes(), Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML ({' '.join(str(error).split())})") from None
    if not isinstance(values, dict) or tree is None:
        raise ConfigError(f"{path}: a mapping of flags to values is needed, 'max-documents: 500' for instance")
    lines: dict[str, int] = {}
    for key, _ in tree.value:  # YAML readers keep the last of equal keys
        line = key.start_mark.line + 1
        if key.value in lines:
            raise ConfigError(f"{path}: {key.value} is given twice, in lines {lines[key.value]} and {line}; keep one")
        lines[key.value] = line
    return flag_words(parser, values, str(path))


def flag_words(parser: argparse.ArgumentParser, values: Mapping[str, Any], source: str) -> dict[str, list[str]]:
    """The arguments of each flag. Raises ConfigError with all problems, each after the name of their `source`."""
    known = parser._option_string_actions
    problems, flags = [], {}
    for key, value in values.items():
        name = f"--{str(key).replace('_', '-')}"
        if name not in known or name in (CONFIG, PRINT):
            meant = near_flags(name, known)
            problems.append(f"{source}: unknown key {key!r}" + (f"; did you mean {meant[0][2:]!r}?" if meant else ""))
        elif isinstance(words := _words(known[name], name, value), str):
            problems.append(f"{source}: {key}: {words}")
        elif name in flags:
            problems.append(f"{source}: {name[2:]} is given twice, with - and with _; keep one")
        else:
            flags[name] = words
    if problems:
        raise ConfigError(problems)
    return flags


def _words(action: argparse.Action, name: str, value: Any) -> list[str] | str:  # noqa: ANN401 - a YAML value
    """The arguments of a flag with that value, or the problem with it."""
    if value is None:
        return []
    if action.nargs == 0:
        return _switch(action, name, value) if isinstance(value, bool) else f"{value!r} is not true or false"
    items = value if isinstance(value, list) else [value]
    if any(isinstance(item, bool) or not isinstance(item, SCALARS) for item in items):
        return "a number, a text or a list of them is needed"
    if action.nargs in ("+", "*"):
        return [name, *map(str, items)] if items else []
    several = isinstance(action, argparse._AppendAction) or getattr(action, "several", False)
    if len(items) != 1 and not several:
        return f"it takes one value, not {len(items)}"
    return [f"{name}={item}" for item in items]


def _switch(action: argparse.Action, name: str, value: bool) -> list[str]:
    off = [f"--no-{name[2:]}"] if isinstance(action, argparse.BooleanOptionalAction) else []
    return [name] if value else off


def _run_flags(folder: Path) -> dict[str, list[str]]:
    try:
        mark = parse_json((folder / RUN_MARK).read_bytes())
        words = shlex.split(mark["command"].replace(" \\\n", " "))
    except (FileNotFoundError, NotADirectoryError, ValueError, LookupError, TypeError, AttributeError):
        raise ConfigError(f"--like {folder}: no `inpars run` with a stored command there") from None
    flags: dict[str, list[str]] = {}
    name = ""  # of the flag that the word belongs to
    for word in words:
        if word.startswith("--"):
            name = word.partition("=")[0]
        if name and name not in NOT_INHERITED:
            flags.setdefault(name, []).append(word)
    return flags
