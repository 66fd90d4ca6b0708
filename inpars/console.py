"""Progress and notes on stderr: bars on a terminal, plain lines every few seconds elsewhere.

stdout is left to results.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import IO, Any, TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
SECONDS_BETWEEN_LINES = 10.0


class Console:
    """A `Progress` that people watch."""

    def __init__(self, stream: IO[str] | None = None, *, quiet: bool = False) -> None:
        """Write to `stream` (stderr by default); `quiet` leaves only notes out."""
        self._stream = stream or sys.stderr
        self._quiet = quiet
        self._counters: list[_Counter] = []

    def track(
        self, items: Iterable[Item], *, total: int | None, description: str, unit: str, done: int = 0
    ) -> Iterator[Item]:
        """Pass the items on; count them unless `advance` is called inside, which then counts instead."""
        counter = _Counter(self._stream, total, description, unit, done, hidden=self._quiet)
        self._counters.append(counter)
        try:
            for item in items:
                before = counter.explicit
                yield item
                if counter.explicit == before:
                    counter.add(1)
        finally:
            self._counters.remove(counter)
            counter.close()

    def advance(self, count: int, detail: str = "") -> None:
        """Count units of the innermost `track`."""
        if self._counters:
            self._counters[-1].explicit += 1
            self._counters[-1].add(count, detail)

    def note(self, message: str) -> None:
        """Print one line above any bar."""
        if not self._quiet:
            with tqdm.external_write_mode(file=self._stream):
                self._stream.write(message + "\n")
                self._stream.flush()


class _Counter:
    """One bar, or the plain lines that stand for it."""

    def __init__(
        self, stream: IO[str], total: int | None, description: str, unit: str, done: int, *, hidden: bool
    ) -> None:
        self.explicit = 0
        self._stream, self._total, self._description, self._unit = stream, total, description, unit
        self._hidden = hidden
        self._start, self._first, self._count = time.monotonic(), done, done
        self._last_line, self._shown = self._start, -1
        self._bar: tqdm[Any] | None = None
        if stream.isatty() and not hidden:
            self._bar = tqdm(
                total=total, initial=done, desc=description, unit=f" {unit}", file=stream, dynamic_ncols=True
            )

    def add(self, count: int, detail: str = "") -> None:
        """Count and, now and then, show."""
        self._count += count
        if self._bar is not None:
            self._bar.set_postfix_str(detail, refresh=False)
            self._bar.update(count)
        elif not self._hidden and time.monotonic() - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line, self._shown = time.monotonic(), self._count
            self._stream.write(self._line(detail) + "\n")
            self._stream.flush()

    def close(self) -> None:
        """Finish the bar, or say the last line of work that took long enough to matter."""
        if self._bar is not None:
            self._bar.close()
        elif self._hidden or self._stream.closed:
            return  # nobody listens any more
        elif time.monotonic() - self._start >= 1.0 and self._count != self._shown:
            self._stream.write(self._line("") + "\n")
            self._stream.flush()

    def _line(self, detail: str) -> str:
        elapsed = time.monotonic() - self._start
        rate = (self._count - self._first) / elapsed if elapsed else 0.0
        of = f"/{self._total}" if self._total is not None else ""
        line = f"{self._description}: {self._count}{of} {self._unit}, {rate:.1f}/s, {_duration(elapsed)}"
        if self._total is not None and rate and self._count < self._total:
            line += f", {_duration((self._total - self._count) / rate)} left"
        return f"{line} | {detail}" if detail else line


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"
