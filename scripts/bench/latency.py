"""Milliseconds per query of each stage of a run's system: one client, one query at a time, models loaded.

    python scripts/bench/latency.py runs/python-docs              100 queries at most
    python scripts/bench/latency.py runs/python-docs --queries 20

Queries are those that the run wrote to choose its system. Stages take turns query by query, so that a machine that
slows down slows all of them. Before the clock starts documents are embedded, and each stage has searched once.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from machine import print_tier

import inpars
from inpars.io.formats import read_queries

WRITTEN = "queries.to_choose_by.queries.jsonl"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of `inpars run`")
    parser.add_argument("--queries", type=int, default=100, metavar="N", help="at most this many (%(default)s)")
    parser.add_argument("--k", type=int, default=10, help="results per query (%(default)s)")
    flags = parser.parse_args()
    if not (flags.run / WRITTEN).exists():
        parser.error(f"{flags.run}: no {WRITTEN}; is it the folder of `inpars run`?")
    first, *queries = [query.text for query in read_queries(flags.run / WRITTEN)][: flags.queries + 1]
    if not queries:
        parser.error(f"{flags.run / WRITTEN}: one query alone, which warms up; write more")
    print_tier()
    with inpars.System.load(flags.run) as system:
        engine = system._engine
        seconds: dict[str, list[float]] = {name: [] for name in engine.systems}
        for name in engine.systems:
            engine.search([first], flags.k, system=name)
        for query in queries:
            for name, taken in seconds.items():
                start = time.perf_counter()
                engine.search([query], flags.k, system=name)
                taken.append(time.perf_counter() - start)
    print(f"{flags.run.name}: {len(queries)} queries, milliseconds per query\n{'stage':<24}  median     95%")
    for name, taken in seconds.items():
        median, high = np.percentile(np.array(taken) * 1000, [50, 95])
        print(f"{name:<24} {median:7.1f} {high:7.1f}")


if __name__ == "__main__":
    main()
