"""What a busy neighbour costs: rates of generation and encoding, idle and beside one process that always computes.

The two take turns. A fair system gives this process what the neighbour leaves: on two cores 1.5 of them, .75 of the
rate, if threads share all work evenly, or as little as half where each product waits for its slowest thread. Below half
threads wait for each other instead of computing. Run it on an otherwise idle machine:

    python scripts/bench/busy_neighbour.py --threads 2
    python scripts/bench/busy_neighbour.py --quick       under a minute
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import engine_ours
from engine_work import prepare
from machine import print_tier

from inpars.models.processor import cores

SPIN = "while True: pass"
DOCUMENTS = {"generation": 64, "encoding": 1024}
QUICK_DOCUMENTS = {"generation": 16, "encoding": 256}
SIDES = {"generation": engine_ours.generation, "encoding": engine_ours.encoding}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2, metavar="N", help="of ours (default: %(default)s)")
    parser.add_argument("--dataset", default="python-docs", metavar="NAME", help="collection (default: %(default)s)")
    parser.add_argument("--only", choices=SIDES, help="this work alone (default: both)")
    parser.add_argument("--repeats", type=int, metavar="N", help="turns, of which medians count (5; 2 when quick)")
    parser.add_argument("--quick", action="store_true", help="few documents, two turns")
    flags = parser.parse_args()
    print_tier()
    repeats = flags.repeats or (2 if flags.quick else 5)
    low, high = fair_shares(flags.threads, cores())
    print(f"{flags.threads} threads on {cores()} cores; a fair share beside one neighbour is {low:.2f} to {high:.2f}")
    for task in [flags.only] if flags.only else SIDES:
        count = (QUICK_DOCUMENTS if flags.quick else DOCUMENTS)[task]
        with TemporaryDirectory() as folder:
            work = prepare(Path(folder), flags.dataset, count, [task], threads=flags.threads, quick=flags.quick)
        made = SIDES[task](json.loads(json.dumps(work)))
        (run,) = made.variants.values()
        positions = range(len(work["texts"]))
        run(positions)
        idle, busy = [], []
        for _ in range(repeats):
            idle.append(rate(lambda run=run, positions=positions: run(positions), len(positions)))
            with neighbour():
                busy.append(rate(lambda run=run, positions=positions: run(positions), len(positions)))
        print(
            f"{task}: {statistics.median(idle):.2f} documents/s idle, {statistics.median(busy):.2f} beside a neighbour"
        )
        print(f"ratio {task}-beside-a-neighbour {statistics.median(busy) / statistics.median(idle):.2f}", flush=True)


def fair_shares(threads: int, processors: int) -> tuple[float, float]:
    """What is left where threads wait for the slowest of them at each step, and where they share freely."""
    if threads < processors:
        return 1.0, 1.0
    left = processors - processors / (threads + 1) if threads > processors else processors - 0.5
    return 0.5, left / processors


def rate(work: Callable[[], object], count: int) -> float:
    """Items a second."""
    start = time.perf_counter()
    work()
    return count / (time.perf_counter() - start)


@contextmanager
def neighbour() -> Iterator[None]:
    """A process that spins, stopped by its id."""
    process = subprocess.Popen([sys.executable, "-c", SPIN])
    try:
        time.sleep(0.3)  # until it spins
        yield
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    main()
