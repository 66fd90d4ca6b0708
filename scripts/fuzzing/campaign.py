"""A while of fuzzing: time shared among the readers, progress, the faults that were found, and the table at the end."""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import wait
from pathlib import Path

from fuzzing.cases import Case, Finding, findings_in, read_finding, write_finding
from fuzzing.running import Outcome, make_case, preload
from fuzzing.shrinking import SECONDS, shrunk
from fuzzing.targets import TARGETS
from fuzzing.workers import POLL_SECONDS, Worker

CHUNK_SECONDS = 0.3  # of work that a worker is given at once
LARGEST_CHUNK = 200
SECONDS_BETWEEN_LINES = 5.0
MIN_SHRINKING_SECONDS = 20.0  # for all faults together, else half of the campaign's time


@dataclass(slots=True)
class Tally:
    """What became of one reader's inputs."""

    counts: Counter[str] = field(default_factory=Counter)  # by verdict
    seconds: float = 0.0
    next_number: int = 0

    @property
    def inputs(self) -> int:
        """All of them."""
        return self.counts.total()

    @property
    def chunk(self) -> int:
        """How many take about `CHUNK_SECONDS`."""
        return max(1, min(LARGEST_CHUNK, int(CHUNK_SECONDS * self.inputs / self.seconds))) if self.seconds else 1


@dataclass(frozen=True, slots=True)
class Fault:
    """The first input that a fault was seen with."""

    reader: str
    number: int
    outcome: Outcome


class Campaign:
    """Runs until its time is over."""

    def __init__(
        self, readers: list[str], *, seed: int, seconds: float, most: int, workers: int, folder: Path | None
    ) -> None:
        """Share `seconds` among the readers, `most` inputs each; faults are written into `folder`."""
        self._left_out = {name: TARGETS[name].missing for name in readers if TARGETS[name].missing}
        self.tallies = {name: Tally() for name in readers if name not in self._left_out}
        self.faults: dict[str, Fault] = {}
        self.seen: Counter[str] = Counter()
        self._seed, self._seconds, self._most, self._folder = seed, seconds, most, folder
        self._count = workers

    def run(self) -> int:
        """Fuzz; 1 where there are faults."""
        preload()
        workers = [Worker() for _ in range(self._count)]
        try:
            self._loop(workers)
            self._print_table()
            self._write(workers[0])
        finally:
            for worker in workers:
                worker.close()
        return 1 if self.faults else 0

    def _loop(self, workers: list[Worker]) -> None:
        started = shown = time.monotonic()
        while True:
            now = time.monotonic()
            for worker in workers:
                for (reader, _, number), outcome, seconds in worker.outcomes():
                    self._note(reader, number, outcome, seconds)
                if not worker.left and now - started < self._seconds and (jobs := self._chunk()):
                    worker.give(jobs)
            if not any(worker.left for worker in workers):
                break
            if now - shown >= SECONDS_BETWEEN_LINES:
                shown = now
                self._print_progress(now - started)
            wait([worker.connection for worker in workers], timeout=POLL_SECONDS)
        self._print_progress(time.monotonic() - started)

    def _chunk(self) -> list[tuple[str, int, int]]:
        """The next inputs of the reader that had the least time for its weight."""
        open_ones = [name for name, tally in self.tallies.items() if tally.next_number < self._most]
        if not open_ones:
            return []
        name = min(open_ones, key=lambda reader: self.tallies[reader].seconds / TARGETS[reader].weight)
        tally = self.tallies[name]
        first, tally.next_number = tally.next_number, min(tally.next_number + tally.chunk, self._most)
        tally.seconds += 1e-4  # so that an idle worker takes the next reader
        return [(name, self._seed, number) for number in range(first, tally.next_number)]

    def _note(self, reader: str, number: int, outcome: Outcome, seconds: float) -> None:
        tally = self.tallies[reader]
        tally.counts[outcome.verdict] += 1
        tally.seconds += seconds
        if outcome.verdict == "fault":
            self.seen[outcome.key] += 1
            if outcome.key not in self.faults:
                self.faults[outcome.key] = Fault(reader, number, outcome)
                _say(f"fault {len(self.faults)}: {reader} {self._seed}-{number}: {outcome.key}: {outcome.text}")

    def _print_progress(self, seconds: float) -> None:
        total = sum(tally.inputs for tally in self.tallies.values())
        groups = Counter[str]()
        for name, tally in self.tallies.items():
            groups[name.partition("/")[0]] += tally.inputs
        shown = ", ".join(f"{name} {count:,}" for name, count in groups.items())
        rate = total / seconds if seconds else 0.0
        done = f"{seconds:.0f} of {self._seconds:.0f} s, {total:,} inputs, {rate:.0f}/s, {len(self.faults)} faults"
        _say(f"{done} | {shown}")

    def _print_table(self) -> None:
        width = max(map(len, self.tallies), default=6)
        _say(f"{'reader':{width}} {'inputs':>8} {'refused':>8} {'accepted':>8} {'faults':>8} {'seconds':>8}")
        for name, tally in self.tallies.items():
            numbers = (tally.inputs, *(tally.counts[verdict] for verdict in ("refused", "accepted", "fault")))
            _say(f"{name:{width}} " + " ".join(f"{count:8,}" for count in numbers) + f" {tally.seconds:8.1f}")
        for name, package in self._left_out.items():
            _say(f"{name:{width}} left out: {package} is not installed")

    def _write(self, worker: Worker) -> None:
        """Shrink and write every fault, with the command that shows it again."""
        if not self.faults:
            _say("no faults")
            return
        folder = self._folder or Path(tempfile.mkdtemp(prefix="fuzz-faults-"))
        end = time.monotonic() + max(MIN_SHRINKING_SECONDS, self._seconds / 2)
        for rank, (key, fault) in enumerate(self.faults.items()):
            case = make_case(fault.reader, self._seed, fault.number)
            share = (end - time.monotonic()) / (len(self.faults) - rank)
            if not key.startswith("hang"):  # each try would take as long
                bytewise = not key.startswith("RecursionError")  # how deep is too deep is not the same everywhere
                case = shrunk(case, partial(_goes_wrong, worker, key), min(SECONDS, share), bytewise=bytewise)
            line = f"{key}: {fault.outcome.text}"
            path = write_finding(folder, Finding(case, line, self._seed, fault.number))
            _say(f"\n{rank + 1}. {line}\n   {self.seen[key]} times; {case.size} bytes")
            _say(f"   python scripts/fuzz.py --replay {path}")
        _say(f"\n{len(self.faults)} faults")


def _goes_wrong(worker: Worker, key: str, case: Case) -> bool:
    """Each time, where memory decides."""
    tries = 3 if key.startswith(("SIG", "memory")) else 1
    return all(worker.run(case).key == key for _ in range(tries))


def replay(places: list[Path]) -> int:
    """Run cases that were written before; 1 where one still goes wrong."""
    preload()
    worker, wrong = Worker(), 0
    try:
        for path in findings_in(places):
            found = read_finding(path)
            if found.case.reader not in TARGETS:
                outcome = Outcome("fault", "no such reader", f"{found.case.reader} is not in the table")
            elif missing := TARGETS[found.case.reader].missing:
                outcome = Outcome("refused", text=f"left out: {missing} is not installed")
            else:
                outcome = worker.run(found.case)
            wrong += outcome.verdict == "fault"
            _say(f"{path.name}: {outcome.verdict} {outcome.key} {outcome.text}".rstrip())
            if outcome.verdict == "fault":
                _say(outcome.trace)
    finally:
        worker.close()
    _say(f"{wrong} go wrong")
    return 1 if wrong else 0


def _say(line: str) -> None:
    print(line.encode("utf-8", "backslashreplace").decode(), flush=True)
    sys.stdout.flush()
