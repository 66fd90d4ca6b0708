#!/usr/bin/env python3
"""Feed spoilt files to everything that reads: no traceback, no hang over 20 s, no more than 2 GB, no broken promise.

    python scripts/fuzz.py --minutes 10 --seed 3
    python scripts/fuzz.py --minutes 1 --only formats/read_qrels
    python scripts/fuzz.py --replay tests/data/fuzz

The input of a reader with a number depends on the seed alone. Each fault is shrunk and written to --faults; exit code 1
when there are any. Readers stand in `fuzzing/targets.py`, one line each.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # a process with threads is not to be forked
os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[1])]

from fuzzing.campaign import Campaign, replay  # noqa: E402
from fuzzing.targets import TARGETS  # noqa: E402


def main() -> int:
    """Fuzz or replay."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1.0, help="how long (default: 1)")
    parser.add_argument("--seed", type=int, default=0, help="what all inputs are drawn from (default: 0)")
    parser.add_argument("--only", action="append", default=[], metavar="READER", help="readers whose names begin so")
    parser.add_argument("--most", type=int, default=10**9, metavar="N", help="inputs of a reader (default: no end)")
    parser.add_argument("--replay", type=Path, nargs="+", metavar="FILE", help="run cases that were written before")
    parser.add_argument("--faults", type=Path, metavar="DIR", help="where faults go (default: a temporary folder)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: one per core)")
    parser.add_argument("--list", action="store_true", help="print the readers and end")
    flags = parser.parse_args()
    if flags.list:
        print("\n".join(TARGETS))
        return 0
    if flags.replay:
        return replay(flags.replay)
    chosen = [name for name in TARGETS if not flags.only or name.startswith(tuple(flags.only))]
    if not chosen:
        parser.error(f"no reader begins with {' or '.join(flags.only)}; --list shows them")
    campaign = Campaign(
        chosen,
        seed=flags.seed,
        seconds=flags.minutes * 60,
        most=flags.most,
        workers=max(1, flags.workers),
        folder=flags.faults,
    )
    return campaign.run()


if __name__ == "__main__":
    sys.exit(main())
