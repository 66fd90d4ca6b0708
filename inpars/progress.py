"""Progress reporting, independent of what displays it.

Library functions take a `Progress`; `SILENT` is the default. The command line passes one that draws bars.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Protocol, TypeAlias, TypeVar

Item = TypeVar("Item")
Note: TypeAlias = Callable[[str], None]
"""What takes one line that stays: a `Progress`'s `note`, or a list's `append`."""


class Progress(Protocol):
    """Receives what a stage has to say while it works."""

    def track(
        self, items: Iterable[Item], *, total: int | None, description: str, unit: str, done: int = 0
    ) -> Iterator[Item]:
        """Pass the items on while showing count, rate and time left; `done` were finished by an earlier run."""

    def advance(self, count: int, detail: str = "") -> None:
        """Count further units of the innermost `track`, whose items are batches, and show a detail beside it."""

    def note(self, message: str) -> None:
        """Print one line that stays."""

    def stage(self, name: str, output: Path, *, up_to_date: bool) -> None:
        """Learn that a stage begins, or that it is skipped because its output is up to date."""


class Silent:
    """Says nothing."""

    def track(
        self, items: Iterable[Item], *, total: int | None, description: str, unit: str, done: int = 0
    ) -> Iterator[Item]:
        yield from items

    def advance(self, count: int, detail: str = "") -> None:
        """Ignore it."""

    def note(self, message: str) -> None:
        """Ignore it."""

    def stage(self, name: str, output: Path, *, up_to_date: bool) -> None:
        """Note a stage that is skipped."""
        if up_to_date:
            self.note(skipped_line(name, output))


def skipped_line(stage: str, output: Path) -> str:
    """The line for a stage that is skipped."""
    return f"{stage}: {output} is up to date, skipped"


SILENT: Progress = Silent()
