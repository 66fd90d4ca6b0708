"""Progress and notes on stderr: bars on a terminal and in notebooks, plain lines every few seconds elsewhere.

stdout is left to results.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, TypeVar

from tqdm import tqdm

from inpars.progress import skipped_line

Item = TypeVar("Item")
SECONDS_BETWEEN_LINES = 10.0
SECONDS_OF_SILENCE = 7.5  # after which a watched console prints the current activity
SECONDS_BETWEEN_LOOKS = 1.0
SLOW = 0.1  # units per second, below which the time per unit is shown


class Console:
    """A `Progress` for people."""

    def __init__(self, stream: IO[str] | None = None, *, quiet: bool = False) -> None:
        """Write to `stream` (stderr by default); `quiet` writes nothing."""
        self._lines = _Lines(stream)
        self._quiet = quiet
        self._counters: list[_Counter] = []
        self.doing("working")

    def track(
        self, items: Iterable[Item], *, total: int | None, description: str, unit: str, done: int = 0
    ) -> Iterator[Item]:
        """Yield the items and count them; calls of `advance` count instead."""
        counter = _Counter(self._lines, total, description, unit, done, hidden=self._quiet)
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
            self._lines.write(message)

    def stage(self, name: str, output: Path, *, up_to_date: bool) -> None:
        """Print that a stage is skipped, or remember that it begins."""
        if up_to_date:
            self.note(skipped_line(name, output))
        else:
            self.doing(name)

    def doing(self, activity: str) -> None:
        """Set the activity that a watched console shows while nothing is counted."""
        self._activity, self._since = activity, time.monotonic()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Inside the block, print the current activity after a few seconds of silence."""
        if self._quiet:
            yield
            return
        finished = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(finished,), name="inpars-console", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            finished.set()
            watcher.join()

    def _watch(self, finished: threading.Event) -> None:
        while not finished.wait(SECONDS_BETWEEN_LOOKS):
            try:
                self.look()
            except (OSError, ValueError):
                return  # stderr is closed

    def look(self) -> None:
        """Refresh the bar, or print the current activity after too long a silence."""
        counter = self._counters[-1] if self._counters else None
        if counter is not None and counter.refresh():
            return
        if time.monotonic() - self._lines.latest < SECONDS_OF_SILENCE:
            return
        if counter is not None:
            counter.show()
        else:
            self._lines.write(f"{self._activity}: {_duration(time.monotonic() - self._since)}")


class _Lines:
    """Writes lines above any bar, and remembers when the latest was written."""

    def __init__(self, stream: IO[str] | None) -> None:
        self._stream, self.latest = stream, time.monotonic()

    @property
    def stream(self) -> IO[str]:
        """The stream, by default the current stderr, which notebooks and tests replace."""
        return self._stream or sys.stderr

    def write(self, line: str) -> None:
        with tqdm.external_write_mode(file=self.stream):
            self.stream.write(line + "\n")
            self.stream.flush()
        self.latest = time.monotonic()


class _Counter:
    """One progress bar, or plain lines without a terminal."""

    def __init__(
        self, lines: _Lines, total: int | None, description: str, unit: str, done: int, *, hidden: bool
    ) -> None:
        self.explicit = 0
        self._lines, self._total, self._description, self._unit = lines, total, description, unit
        self._hidden = hidden
        self._start, self._first, self._count = time.monotonic(), done, done
        self._last_line, self._printed_count, self._detail = self._start, -1, ""
        self._bar: tqdm[Any] | None = None
        if not hidden and (bar := _bar_class(lines.stream)) is not None:
            self._bar = bar(
                total=total, initial=done, desc=description, unit=f" {unit}", file=lines.stream, dynamic_ncols=True
            )

    def add(self, count: int, detail: str = "") -> None:
        """Count, and show the count now and then."""
        self._count += count
        self._detail = detail
        if self._bar is not None:
            self._bar.set_postfix_str(detail, refresh=False)
            self._bar.update(count)
        elif not self._hidden and time.monotonic() - self._last_line >= SECONDS_BETWEEN_LINES:
            self.show()

    def show(self) -> None:
        self._last_line, self._printed_count = time.monotonic(), self._count
        self._lines.write(self._line(self._detail))

    def refresh(self) -> bool:
        """Refresh the bar's elapsed time; False without a bar."""
        if self._bar is None:
            return False
        self._bar.refresh()
        return True

    def close(self) -> None:
        """Close the bar, or print a last line if the work took more than a second."""
        if self._bar is not None:
            self._bar.close()
        elif self._hidden or self._lines.stream.closed:
            return  # stderr is closed
        elif time.monotonic() - self._start >= 1.0 and self._count != self._printed_count:
            self._lines.write(self._line(""))

    def _line(self, detail: str) -> str:
        elapsed = time.monotonic() - self._start
        rate = (self._count - self._first) / elapsed if elapsed else 0.0
        of = f"/{self._total}" if self._total is not None else ""
        line = f"{self._description}: {self._count}{of} {self._unit}"
        line += f", {_rate(rate)}" if rate else ""
        line += f", {_duration(elapsed)}"
        if self._total is not None and rate and self._count < self._total:
            line += f", {_duration((self._total - self._count) / rate)} left"
        return f"{line} | {detail}" if detail else line


def _bar_class(stream: IO[str]) -> type[tqdm[Any]] | None:
    """The class of bars for a terminal or a notebook with widgets; None for plain lines."""
    if stream.isatty():
        return tqdm
    if stream is sys.stderr and "ipykernel.zmqshell" in sys.modules and find_spec("ipywidgets"):
        from tqdm.notebook import tqdm_notebook  # imports IPython

        return tqdm_notebook
    return None


def _rate(per_second: float) -> str:
    return f"{per_second:.1f}/s" if per_second >= SLOW else f"{_duration(1 / per_second)} each"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"
