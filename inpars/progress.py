"""Progress reporting, independent of what displays it.

Library functions take a `Progress`; `SILENT` is the default. The command line passes one that draws bars.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Protocol, TypeAlias, TypeVar

Item = TypeVar("Item")
Note: TypeAlias = Callable[[str], None]
"""Receives one permanent line: a `Progress`'s `note`, or a list's `append`."""


class Progress(Protocol):
    """Receives a stage's progress and notes."""

    def track(
        self, items: Iterable[Item], *, total: int | None, description: str, unit: str, done: int = 0
    ) -> Iterator[Item]:
        """Yield the items while showing count, rate and time left; an earlier run finished `done` items."""

    def advance(self, count: int, detail: str = "") -> None:
        """Count units of the innermost `track`, whose items are batches, and show a detail next to it."""

    def note(self, message: str) -> None:
        """Print one permanent line."""

    def stage(self, name: str, output: Path, *, up_to_date: bool) -> None:
        """A stage begins, or is skipped because its output is up to date."""


class Silent:
    """Shows nothing."""

    def track(
        self, items: Iterable[Item], *, total: int | None, description: str, unit: str, done: int = 0
    ) -> Iterator[Item]:
        yield from items

    def advance(self, count: int, detail: str = "") -> None:
        pass

    def note(self, message: str) -> None:
        pass

    def stage(self, name: str, output: Path, *, up_to_date: bool) -> None:
        if up_to_date:
            self.note(skipped_line(name, output))


def skipped_line(stage: str, output: Path) -> str:
    """The line for a stage that is skipped."""
    return f"{stage}: {output} is up to date, skipped"


SILENT: Progress = Silent()
