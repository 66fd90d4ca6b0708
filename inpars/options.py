"""Settings as frozen dataclasses, and the command-line flags made from them.

A field is declared with `option(...)`. `add_flags` adds a dataclass's flags to a parser, `from_flags` fills a dataclass
from parsed flags, `flags_of` writes a dataclass as flags, and `result_settings` as what a manifest compares.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import operator
import types
from collections.abc import Iterable, Mapping
from inspect import get_annotations
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from inpars.cache import canonical_name
from inpars.errors import ConfigError

Options = TypeVar("Options")


MOST = 2**31 - 1  # default maximum of integers, for Java and 32-bit indices
MAX_SEED = 2**32 - 1  # numpy's
BEYOND = {"at least": operator.lt, "above": operator.le, "at most": operator.gt, "below": operator.ge}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """The range of a finite number; `minimum` and `maximum` are inclusive, `above` and `below` exclusive."""

    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None
    below: float | None = None

    def problem(self, flag: str, value: Any) -> str | None:
        """The error message for a value out of range; None for any other value, including None."""
        if not isinstance(value, int | float) or isinstance(value, bool):
            return None
        if isinstance(value, float) and not math.isfinite(value):
            return f"{flag} is {value}; it must be a finite number"
        limits = {"at least": self.minimum, "above": self.above, "at most": self.maximum, "below": self.below}
        given = {words: limit for words, limit in limits.items() if limit is not None}
        if any(BEYOND[words](value, limit) for words, limit in given.items()):
            return f"{flag} is {value}; it must be {' and '.join(f'{words} {limit}' for words, limit in given.items())}"
        if isinstance(value, int) and self.maximum is None and value > MOST:
            return f"{flag} is {value}; it must be at most {MOST}"
        return None


POSITIVE = Bounds(above=0)
COUNT = Bounds(minimum=1)
SHARE = Bounds(minimum=0, maximum=1)
SEED = Bounds(minimum=0, maximum=MAX_SEED)


def option(
    default: Any = dataclasses.MISSING,
    *,
    help: str,  # noqa: A002 - argparse's own word
    changes_result: bool | Literal["unless default"] = True,
    metavar: str | None = None,
    minimum: float | None = None,
    bounds: Bounds | None = None,
    advanced: bool = False,
) -> Any:
    """A setting with its help line.

    `changes_result=False` is for speed and display settings, which manifests do not compare; "unless default" is for
    settings added later, so that older outputs stay valid. `check` enforces `bounds` or `minimum`. `advanced` flags are
    shown only by `--help-all`.
    """
    metadata = {
        "help": help,
        "changes_result": changes_result,
        "metavar": metavar,
        "bounds": bounds or Bounds(minimum=minimum),
        "advanced": advanced,
    }
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True, slots=True)
class FlagGroup:
    """A heading in `--help` (`advanced`: in `--help-all`) for a dataclass's options; its attribute `FLAG_GROUP`."""

    title: str
    advanced: bool = False


def add_flags(parser: argparse.ArgumentParser, kind: type, *, advanced: bool = False) -> None:
    """Add a flag per option of a dataclass, those of its bases last; `advanced` shows them only in `--help-all`."""
    hints = get_type_hints(kind)
    for field in _declared_first(kind):
        if "help" in field.metadata:
            group = _group_of(kind, field.name)
            target = parser if group is None else heading(parser, group.title)
            flag: Any = target.add_argument(flag_name(field.name), **_flag(field, hints[field.name]))
            flag.bounds = field.metadata["bounds"]
            flag.advanced = advanced or field.metadata["advanced"] or (group is not None and group.advanced)


def heading(parser: argparse.ArgumentParser, title: str) -> argparse._ArgumentGroup:
    """The group of flags with that title, added if it is missing."""
    groups = {group.title: group for group in parser._action_groups}
    return groups.get(title) or parser.add_argument_group(title)


def _group_of(kind: type, name: str) -> FlagGroup | None:
    """The group of the class that declares the option."""
    owner = next(base for base in kind.__mro__ if name in get_annotations(base))
    return vars(owner).get("FLAG_GROUP")


def add_number(
    parser: argparse.ArgumentParser, flag: str, kind: type[int | float] = int, *, bounds: Bounds, **settings: Any
) -> None:
    """Add a flag for a number that is not an option of a dataclass."""
    settings.setdefault("metavar", _METAVARS[kind])
    parser.add_argument(flag, type=kind, **settings).bounds = bounds  # type: ignore[attr-defined]


def flag_name(name: str) -> str:
    """`--max-doc-tokens` for `max_doc_tokens`."""
    return f"--{name.replace('_', '-')}"


def _declared_first(kind: type) -> list[dataclasses.Field[Any]]:
    declared = get_annotations(kind)
    return sorted(dataclasses.fields(kind), key=lambda field: field.name not in declared)


def from_flags(kind: type[Options], flags: argparse.Namespace, **fixed: Any) -> Options:
    """Fill the dataclass from parsed flags; `fixed` overrides fields. Raises ConfigError as `check` does."""
    names = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    values = {name: value for name, value in vars(flags).items() if name in names}
    options = kind(**{**values, **fixed})
    check(options)
    return options


def flags_of(options: Any) -> list[str]:
    """The flags that give these options: all settings that change the result, and others that differ from the default.

    Local copies of remote files are written as their address. None and empty lists have no flag.
    """
    words: list[str] = []
    for field in _declared_first(type(options)):
        value = getattr(options, field.name)
        is_needed = _changes_result(field, value) or value != field.default
        if "help" in field.metadata and is_needed:
            words += _flag_words(flag_name(field.name), value)
    return words


def _flag_words(flag: str, value: Any) -> list[str]:
    if value is None:
        return []
    if isinstance(value, bool):
        return [flag if value else f"--no-{flag.removeprefix('--')}"]
    if isinstance(value, tuple):
        return [word for part in value for word in _flag_words(flag, part)]
    text = canonical_name(str(value))
    return [f"{flag}={text}"] if text.startswith("-") or not text else [flag, text]


def check(options: Any) -> None:
    """Raise ConfigError, with all problems at once, for numbers out of bounds, else for the class's `problems()`."""
    if isinstance(options, Mapping):
        return
    problems = [
        problem
        for field in _declared_first(type(options))
        if (bounds := field.metadata.get("bounds")) is not None
        and (problem := bounds.problem(flag_name(field.name), getattr(options, field.name)))
    ]
    conflicts: Iterable[str] = options.problems() if hasattr(options, "problems") else ()
    if problems or (problems := list(conflicts)):
        raise ConfigError(problems)


def result_settings(options: Any) -> dict[str, Any]:
    """The settings that change the result, as a manifest compares them; the content of paths is compared separately.

    A mapping, for a stage without flags, is returned as a dict.
    """
    if isinstance(options, Mapping):
        return dict(options)
    return {
        field.name: canonical_name(value) if isinstance(value := getattr(options, field.name), str) else value
        for field in dataclasses.fields(options)
        if _changes_result(field, getattr(options, field.name)) and not isinstance(getattr(options, field.name), Path)
    }


def _changes_result(field: dataclasses.Field[Any], value: Any) -> bool:
    changes = field.metadata.get("changes_result", True)
    return bool(value != field.default if changes == "unless default" else changes)


def _flag(field: dataclasses.Field[Any], hint: Any) -> dict[str, Any]:
    required = field.default is dataclasses.MISSING
    kind, several = _value_type(hint)
    text = field.metadata["help"]
    has_default = not (required or field.default is None or field.default is False or field.default == ())
    if has_default and "(default" not in text:
        text += f" (default: {_default_text(field.default)})"
    settings: dict[str, Any] = {"help": text.replace("%", "%%"), "required": required}
    if kind is bool:
        return settings | {"action": argparse.BooleanOptionalAction, "default": None if required else field.default}
    if get_origin(kind) is Literal:
        settings["choices"] = get_args(kind)
    else:
        settings["type"] = kind
        settings["metavar"] = field.metadata["metavar"] or _METAVARS.get(kind, "TEXT")
    settings["action"] = _Several if several else _Given
    return settings | {"default": None if required else field.default}


class _Given(argparse.Action):
    """Stores the value, and the option's name in `given`, to tell an explicit default from an absent flag."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option_string: Any = None
    ) -> None:
        setattr(namespace, self.dest, values)
        namespace.given = {*getattr(namespace, "given", ()), self.dest}


class _Several(argparse.Action):
    """Collects the values of a repeated flag; the first one replaces the default."""

    several = True

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option_string: Any = None
    ) -> None:
        earlier = getattr(namespace, self.dest)
        values_before = () if earlier is self.default else earlier
        setattr(namespace, self.dest, (*values_before, values))


_METAVARS: Mapping[Any, str] = {int: "N", float: "X", Path: "PATH"}


def _value_type(hint: Any) -> tuple[Any, bool]:
    """The type of one value, and whether the flag may be given several times."""
    if get_origin(hint) in (Union, types.UnionType):
        parts = [part for part in get_args(hint) if part is not type(None)]
        if all(get_origin(part) is Literal for part in parts):
            return Literal[tuple(choice for part in parts for choice in get_args(part))], False
        return _value_type(parts[0])
    if get_origin(hint) is tuple:
        return get_args(hint)[0], True
    return hint, False


def _default_text(default: Any) -> str:
    if isinstance(default, bool):
        return "on"
    return " ".join(map(str, default)) if isinstance(default, tuple) else str(default)
