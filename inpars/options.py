"""Settings as frozen dataclasses, and command-line flags made from them: one place for names, defaults and help.

A field is declared with `option(...)`. `add_flags` turns a dataclass into flags, `from_flags` the parsed flags into
the dataclass, `result_settings` into what a manifest compares. Knows nothing of the stages.
"""

from __future__ import annotations

import argparse
import dataclasses
import types
from collections.abc import Mapping
from inspect import get_annotations
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from inpars.errors import ConfigError
from inpars.remote.names import lasting_name

Options = TypeVar("Options")


def option(
    default: Any = dataclasses.MISSING,
    *,
    help: str,  # noqa: A002 - argparse's own word
    changes_result: bool = True,
    metavar: str | None = None,
    minimum: float | None = None,
) -> Any:
    """A setting with its help line; `changes_result=False` for speed and display settings manifests do not compare.

    `minimum` is what `check` holds a number to.
    """
    metadata = {"help": help, "changes_result": changes_result, "metavar": metavar, "minimum": minimum}
    return dataclasses.field(default=default, metadata=metadata)


def add_flags(parser: argparse.ArgumentParser, kind: type) -> None:
    """Add one flag for every option of a dataclass, its bases' last: `max_doc_tokens` becomes `--max-doc-tokens`."""
    hints = get_type_hints(kind)
    for field in _own_first(kind):
        if "help" in field.metadata:
            parser.add_argument(f"--{field.name.replace('_', '-')}", **_flag(field, hints[field.name]))


def _own_first(kind: type) -> list[dataclasses.Field[Any]]:
    own = get_annotations(kind)
    return sorted(dataclasses.fields(kind), key=lambda field: field.name not in own)


def from_flags(kind: type[Options], flags: argparse.Namespace, **fixed: Any) -> Options:
    """The dataclass filled from parsed flags; `fixed` sets or overrides fields."""
    names = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    values = {name: value for name, value in vars(flags).items() if name in names}
    return kind(**{**values, **fixed})


def check(options: Any) -> None:
    """Raise ConfigError, with all problems at once, where numbers are below their minimum; None is none."""
    problems = [
        f"--{field.name.replace('_', '-')} is {value}; it must be at least {minimum}"
        for field in _own_first(type(options))
        if (minimum := field.metadata.get("minimum")) is not None
        and (value := getattr(options, field.name)) is not None
        and value < minimum
    ]
    if problems:
        raise ConfigError(problems)


def result_settings(options: Any) -> dict[str, Any]:
    """The settings that decide what comes out, as a manifest compares them; paths are compared by content instead."""
    return {
        field.name: lasting_name(value) if isinstance(value := getattr(options, field.name), str) else value
        for field in dataclasses.fields(options)
        if field.metadata.get("changes_result", True) and not isinstance(getattr(options, field.name), Path)
    }


def _flag(field: dataclasses.Field[Any], hint: Any) -> dict[str, Any]:
    required = field.default is dataclasses.MISSING
    kind, several = _value_type(hint)
    text = field.metadata["help"]
    if not required and "(default" not in text:
        text += f" (default: {_shown(field.default)})"
    settings: dict[str, Any] = {"help": text.replace("%", "%%"), "required": required}
    if kind is bool:
        return settings | {
            "action": argparse.BooleanOptionalAction,
            "default": None if required else field.default,
        }
    if get_origin(kind) is Literal:
        settings["choices"] = get_args(kind)
    else:
        settings["type"] = kind
        settings["metavar"] = field.metadata["metavar"] or _METAVARS.get(kind, "TEXT")
    if several:
        settings["action"] = _Several
    return settings | {"default": None if required else field.default}


class _Several(argparse.Action):
    """Collects the values of a flag given several times; the first one replaces the default."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option_string: Any = None
    ) -> None:
        given = getattr(namespace, self.dest)
        before = () if given is self.default else given
        setattr(namespace, self.dest, (*before, values))


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


def _shown(default: Any) -> str:
    if default is None or default == ():
        return "none"
    if isinstance(default, bool):
        return "on" if default else "off"
    return " ".join(map(str, default)) if isinstance(default, tuple) else str(default)
