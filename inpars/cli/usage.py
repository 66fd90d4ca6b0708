"""The argument parser of every command: a usage error is one line that suggests the flag or command that was meant.

Unknown flags are reported before missing ones, stray values with the flag they probably belong to, and numbers out of
bounds before anything is loaded.
"""

from __future__ import annotations

import argparse
import difflib
import re
import shlex
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from inpars.errors import ConfigError

HELP_FLAGS = {"-h", "--help", "--help-all"}
HELP_COLUMN = 30  # where the help of a flag begins
NEAR = 0.6  # minimum difflib ratio of a suggestion
PREFIXES_NAMED = 3  # most flags suggested for an abbreviation
CHOICES_NAMED = 12
NUMBER = re.compile(r"-(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|-inf|-nan", re.IGNORECASE)
PLAIN = (  # argparse's messages -> ours
    (r"the following arguments are required: (.*)", r"missing: \1"),
    (r"argument (\S+): invalid int value: (.*)", r"\1 is \2; it must be a whole number"),
    (r"argument (\S+): invalid float value: (.*)", r"\1 is \2; it must be a number"),
    (r"argument (\S+): expected (?:at least )?one argument", r"\1 needs a value"),
)
PATH_FLAGS = ("--documents", "--dataset", "--corpus", "--input")  # suggested for a path without a flag


class Parser(argparse.ArgumentParser):
    """A parser that exits with one line. `tolerance` accepts unknown flags less similar than that to known ones."""

    def __init__(self, *, tolerance: float | None = None, **settings: Any) -> None:  # noqa: ANN401 - argparse's
        settings.setdefault("formatter_class", HelpFormatter)
        super().__init__(**{"allow_abbrev": False, **settings})
        self._tolerance = tolerance
        if tolerance is None:  # the InPars toolkit's commands keep their flags
            self.add_argument("--help-all", action=_HelpAll, nargs=0, default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        self._negative_number_matcher = re.compile(f"^(?:{NUMBER.pattern})$", re.IGNORECASE)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:  # noqa: ANN401 - as argparse has it
        """As argparse's. Raises ConfigError with all numbers that are out of bounds."""
        arguments = list(sys.argv[1:] if args is None else args)
        if not HELP_FLAGS & set(arguments):
            self._refuse_unknown_flags(arguments)
            self._refuse_strays(arguments)
        parsed, extras = super().parse_known_args(arguments, namespace)
        problems = [
            problem
            for action in self._actions
            if (bounds := getattr(action, "bounds", None)) is not None
            and (problem := bounds.problem(action.option_strings[0], getattr(parsed, action.dest, None)))
        ]
        if problems:
            raise ConfigError(problems)
        return parsed, extras

    def format_help(self, *, all_flags: bool = False) -> str:
        """The help; without `all_flags`, only the number of `advanced` flags is shown."""
        formatter = self._get_formatter()
        required = [action for action in self._actions if action.required or not action.option_strings]
        formatter.add_usage(None, required, [], prefix="usage: ")
        usage = formatter.format_help().rstrip()
        formatter = self._get_formatter()
        formatter.add_text(f"{usage} [flags]")
        formatter.add_text(self.description)
        hidden = 0
        for group in self._action_groups:
            actions = [action for action in group._group_actions if action.help is not argparse.SUPPRESS]
            visible = [action for action in actions if all_flags or not getattr(action, "advanced", False)]
            hidden += len(actions) - len(visible)
            if visible:
                formatter.start_section(group.title)
                formatter.add_arguments(visible)
                formatter.end_section()
        formatter.add_text(self.epilog)
        if hidden:
            more = "1 more flag" if hidden == 1 else f"{hidden} more flags"
            formatter.add_text(f"{more}: {self.prog} --help-all")
        return formatter.format_help()

    def error(self, message: str) -> NoReturn:
        """Exit with one line."""
        for pattern, replacement in PLAIN:
            message = re.sub(f"^{pattern}$", replacement, message)
        separator = "" if message.endswith("?") else ";"
        self.exit(2, f"{self.prog}: {message}{separator} see {self.prog} --help\n")

    def _check_value(self, action: argparse.Action, value: Any) -> None:  # noqa: ANN401 - a flag's value
        if action.choices is None or value in action.choices:
            return
        choices = [str(choice) for choice in action.choices]
        problem = f"{action.option_strings[0]} is {value!r}" if action.option_strings else f"unknown kind {value!r}"
        listed = f" (known: {', '.join(choices)})" if len(choices) <= CHOICES_NAMED else ""
        raise argparse.ArgumentError(None, f"{problem}{guess(str(value), choices)}{listed}")

    def _refuse_unknown_flags(self, arguments: Sequence[str]) -> None:
        for name in self._flags(arguments):
            if name in self._option_string_actions:
                continue
            if self._tolerance is not None and not near_flags(name, self._option_string_actions, self._tolerance):
                continue
            kinds = [kind for kind, parser in self.kinds().items() if name in parser._option_string_actions]
            if kinds:
                self.error(f"{name} comes after {' or '.join(kinds)}")
            meant = near_flags(name, self._option_string_actions)
            self.error(f"unknown flag {name}" + (f"; did you mean {' or '.join(meant)}?" if meant else ""))

    def _flags(self, arguments: Sequence[str]) -> Iterator[str]:
        """The names of the flags among this parser's arguments."""
        for argument in arguments:
            if argument == "--":
                return
            if _is_flag(argument):
                yield argument.partition("=")[0]
            elif self.kinds():
                return  # the rest belongs to the subcommand's parser

    def kinds(self) -> dict[str, argparse.ArgumentParser]:
        """The parsers of the subcommands, by name."""
        return {
            name: parser
            for action in self._actions
            if isinstance(action, argparse._SubParsersAction)
            for name, parser in action.choices.items()
        }

    def _refuse_strays(self, arguments: Sequence[str]) -> None:
        """Report a value without a flag."""
        if self.kinds():
            return
        extras = self._extras(arguments)
        for before, extra in zip(["", *extras], extras, strict=False):
            if not _is_flag(extra) and not _is_flag(before):  # else the value of an unknown flag, which is tolerated
                self.error(f"{extra!r} stands without a flag" + self._meant_by(extra, list(arguments)))

    def _extras(self, arguments: Sequence[str]) -> list[str]:
        """The arguments that no flag or positional argument takes."""
        required = [action for action in self._actions if action.required]
        for action in required:
            action.required = False
        try:
            return list(super().parse_known_args(list(arguments), argparse.Namespace())[1])
        finally:
            for action in required:
                action.required = True

    def _meant_by(self, stray: str, arguments: list[str]) -> str:
        position, quoted = arguments.index(stray), shlex.quote(stray)
        if (continued := self._continued(arguments[:position], stray)) is not None:
            return f"; did you mean {continued}?"
        flag = self._option_string_actions.get(arguments[position - 1]) if position else None
        if flag is not None and flag.nargs == 0:
            return f"; {arguments[position - 1]} takes no value"
        typed = set(self._flags(arguments))
        missing = [
            action.option_strings[0]
            for action in self._actions
            if action.required and action.option_strings and not typed & set(action.option_strings)
        ]
        known = [flag for flag in PATH_FLAGS if flag in self._option_string_actions]
        likely = [*missing, *(flag for flag in known if not typed & set(known) and Path(stray).exists())]
        return f"; did you mean {likely[0]} {quoted}?" if likely else ""

    def _continued(self, before: Sequence[str], stray: str) -> str | None:
        """The correct spelling of `--run a b`, None if the stray value does not continue a flag's."""
        if not before or _is_flag(before[-1]):
            return None
        flag, value = (before[-2], before[-1]) if len(before) > 1 else ("", "")
        action = self._option_string_actions.get(flag)
        if action is None or action.nargs is not None:
            return None
        if isinstance(action, argparse._AppendAction) or getattr(action, "several", False):
            return f"{flag} {shlex.quote(stray)}"
        text = action.type in (None, str) and action.choices is None
        return f"{flag} {shlex.quote(f'{value} {stray}')}" if text else None


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """argparse's formatter, with `--[no-]fuse` for a switch."""

    def __init__(self, prog: str, **settings: Any) -> None:  # noqa: ANN401 - argparse's
        super().__init__(prog, max_help_position=HELP_COLUMN, **settings)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if isinstance(action, argparse.BooleanOptionalAction):
            return f"--[no-]{action.option_strings[0].removeprefix('--')}"
        return super()._format_action_invocation(action)


class _HelpAll(argparse.Action):
    """Print the help with every flag and exit."""

    def __call__(self, parser: argparse.ArgumentParser, *_parsed: object) -> None:
        assert isinstance(parser, Parser)
        parser._print_message(parser.format_help(all_flags=True), sys.stdout)
        parser.exit()


def near_flags(name: str, known: Iterable[str], cutoff: float = NEAR) -> list[str]:
    """Suggestions for a misspelt flag: other case or underscores, else its completions, else the most similar flag.

    `--no-...` flags are suggested only for `--no-...` flags.
    """
    plain = {flag.lower().replace("_", "-"): flag for flag in known if flag.startswith("--")}
    typed = name.lower().replace("_", "-")
    typed = typed if typed.startswith("--") else f"-{typed}"
    if typed in plain:
        return [plain[typed]]
    fit = {flag for flag in plain if flag.startswith("--no-") == typed.startswith("--no-")}
    completions = sorted(flag for flag in fit if flag.startswith(typed))
    if cutoff == NEAR and 0 < len(completions) <= PREFIXES_NAMED and len(typed) > len("--"):
        return [plain[flag] for flag in completions]
    return [plain[flag] for flag in difflib.get_close_matches(typed, sorted(fit), n=1, cutoff=cutoff)]


def guess(name: str, known: Collection[str]) -> str:
    """`; did you mean 'x'?`, or nothing."""
    close = difflib.get_close_matches(name.lower(), known, n=1, cutoff=NEAR)
    return f"; did you mean {close[0]!r}?" if close else ""


def _is_flag(argument: str) -> bool:
    return (
        len(argument) > 1
        and argument.startswith("-")
        and " " not in argument.partition("=")[0]
        and not NUMBER.fullmatch(argument)
    )
