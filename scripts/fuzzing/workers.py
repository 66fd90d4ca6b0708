"""Processes that run cases, watched from outside: one that dies, hangs or swallows memory is found and named.

A worker is forked from this process, so that another one is there in a moment.
"""

from __future__ import annotations

import contextlib
import faulthandler
import multiprocessing
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from fuzzing.cases import Case
from fuzzing.running import Outcome, execute, make_case

HANG_SECONDS = 20.0  # of a processor; six times as long by the clock for a process that sleeps
MAX_BYTES = 2 << 30  # resident
POLL_SECONDS = 0.1
FRAME = re.compile(r'File "([^"]+)", line (\d+) in (\S+)')
PAGE, TICKS = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_CLK_TCK")
_CONTEXT = multiprocessing.get_context("fork")


def work_folder() -> Path:
    """An empty folder, in memory where that can be had: stages flush what they write to the disk."""
    shared = Path("/dev/shm")
    place = shared if shared.is_dir() and os.access(shared, os.W_OK) else None
    return Path(tempfile.mkdtemp(prefix="fuzz-", dir=place))


class Worker:
    """One process, and what is known of its present work."""

    def __init__(self) -> None:
        """Start it."""
        self.folder = work_folder()
        self._start()

    def _start(self) -> None:
        self.connection, other = _CONTEXT.Pipe()
        self._dump = self.folder / "stacks.txt"
        self._dump.write_bytes(b"")
        self._process = _CONTEXT.Process(target=_serve, args=(other, self.folder / "work", self._dump), daemon=True)
        self._process.start()
        other.close()
        self.left: list[Any] = []
        self.since, self._worked = time.monotonic(), 0.0

    def give(self, jobs: Sequence[tuple[str, int, int]] | Sequence[Case]) -> None:
        """Have it do these, (reader, seed, number) or whole cases; one outcome comes for each."""
        self.left = list(jobs)
        self.since, self._worked = time.monotonic(), _cpu_seconds(self._process.pid)
        self.connection.send(self.left)

    def outcomes(self) -> Iterator[tuple[Any, Outcome, float]]:
        """The jobs that ended since the last call, with seconds each; a fault of the process itself is the last."""
        while self.left:
            reason = ""
            try:
                if self.connection.poll():
                    outcome: Outcome = self.connection.recv()
                    now = time.monotonic()
                    yield self.left.pop(0), outcome, now - self.since
                    self.since, self._worked = now, _cpu_seconds(self._process.pid)
                    if outcome.key.startswith("memory"):
                        self._restart()
                    continue
                reason = self._overdue()
            except (EOFError, ConnectionResetError, BrokenPipeError):
                self._process.join()
                reason = _ending(self._process.exitcode)
            if not reason:
                return
            job, stacks = self.left[0], self._stacks(reason)
            rest = self.left[1:]
            seconds = time.monotonic() - self.since
            self._restart()
            yield job, Outcome("fault", f"{reason} at {_place(stacks)}", reason, stacks[-6000:]), seconds
            if rest:
                self.give(rest)
            return

    def run(self, case: Case) -> Outcome:
        """One case, waited for."""
        self.give([case])
        while True:
            for _, outcome, _ in self.outcomes():
                return outcome
            self.connection.poll(POLL_SECONDS)

    def close(self) -> None:
        """End it."""
        self._kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _overdue(self) -> str:
        waited, worked = time.monotonic() - self.since, _cpu_seconds(self._process.pid) - self._worked
        if _resident(self._process.pid) > MAX_BYTES:
            return "memory"
        asleep = waited > 6 * HANG_SECONDS and _is_asleep(self._process.pid)  # not merely short of a processor
        return "hang" if worked > HANG_SECONDS or asleep else ""

    def _stacks(self, reason: str) -> str:
        if reason in ("hang", "memory") and self._process.pid is not None:
            os.kill(self._process.pid, signal.SIGUSR1)
            time.sleep(0.3)
        return self._dump.read_text(errors="replace")

    def _kill(self) -> None:
        if self._process.is_alive():
            self._process.kill()
        self._process.join()
        self.connection.close()

    def _restart(self) -> None:
        left = self.left
        self._kill()
        shutil.rmtree(self.folder / "work", ignore_errors=True)
        self._start()
        if left and left != self.left:
            self.left = []


def _resident(pid: int | None) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
    except (OSError, IndexError):
        return 0


def _is_asleep(pid: int | None) -> bool:
    """Whether a process waits for something other than a processor or a disk."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"
    except (OSError, IndexError):
        return False


def _cpu_seconds(pid: int | None) -> float:
    """What a process has used of all processors so far."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS
    except (OSError, IndexError):
        return 0.0


def _ending(code: int | None) -> str:
    if code is not None and code < 0:
        return signal.Signals(-code).name
    return f"the process ended with {code}"


def _place(stacks: str) -> str:
    """The innermost place of our own code."""
    for file, line, _ in FRAME.findall(stacks):
        if "/inpars/" in file and "site-packages" not in file:
            return f"inpars/{file.rpartition('/inpars/')[2]}:{line}"
    return "an unknown place"


def _serve(connection: Connection, folder: Path, dump: Path) -> None:
    """The worker's life."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    stacks = dump.open("w")
    faulthandler.enable(stacks)
    faulthandler.register(signal.SIGUSR1, stacks, all_threads=True)
    _mute()
    while True:
        try:
            jobs = connection.recv()
        except (EOFError, OSError):
            os._exit(0)
        for job in jobs:
            outcome = execute(job if isinstance(job, Case) else make_case(*job), folder)
            if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 > MAX_BYTES:
                outcome = Outcome("fault", "memory", "more than 2 GB were resident", outcome.trace)
            connection.send(outcome)


def _mute() -> None:
    """What libraries print goes nowhere."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    with contextlib.suppress(OSError):
        for stream in (0, 1, 2):
            os.dup2(nowhere, stream)
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
