"""Evaluation at MS MARCO's size: two runs of 6,980 queries x 1,000 documents, read, measured and compared.

Runs and judgements are drawn at random and written as files; the time is that of `inpars evaluate` in a process of its
own, with everything it does: reading, RR@10 and R@1000, tests, intervals, remarks. Run it on an idle machine:

    python scripts/bench/evaluation.py             6,980 queries
    python scripts/bench/evaluation.py --quick     698 queries
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import print_tier

QUERIES, DOCUMENTS, PASSAGES = 6_980, 1_000, 8_841_823
MAX_SECONDS, MAX_GIBIBYTES = 60.0, 4.0


def main() -> None:
    """MiningConfig, evaluate, tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the queries")
    flags = parser.parse_args()
    print_tier()
    queries = QUERIES // 10 if flags.quick else QUERIES
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        draw(place, queries)
        megabytes = sum(path.stat().st_size for path in place.glob("*.trec")) >> 20
        print(f"{queries} queries x {DOCUMENTS} documents, 2 runs, {megabytes} MB")
        seconds, computing, gibibytes = evaluate(place)
    print(f"evaluated and compared in {seconds:.1f} s ({computing:.1f} s computing), {gibibytes:.2f} GiB at most")
    if not flags.quick:
        held = seconds < MAX_SECONDS and gibibytes < MAX_GIBIBYTES
        print(f"under {MAX_SECONDS:.0f} s and {MAX_GIBIBYTES:.0f} GiB: {'yes' if held else 'NO'}")
        sys.exit(not held)


def draw(place: Path, queries: int) -> None:
    """Judgements of about one document a query, and two runs that find it at random places."""
    rng = random.Random(2016)
    judged = {f"{1_000_000 + number}": str(rng.randrange(PASSAGES)) for number in range(queries)}
    (place / "qrels.tsv").write_text("".join(f"{q}\t0\t{d}\t1\n" for q, d in judged.items()), encoding="utf-8")
    for name in ("bm25", "reranked"):
        with (place / f"{name}.trec").open("w", encoding="utf-8") as stream:
            for query_id, wanted in judged.items():
                doc_ids = dict.fromkeys(map(str, rng.sample(range(PASSAGES), DOCUMENTS)))
                listed = list(doc_ids)
                if rng.random() < 0.85 and wanted not in doc_ids:
                    listed[min(int(rng.expovariate(0.05)), DOCUMENTS - 1)] = wanted
                score = 40 * rng.random()
                for rank, doc_id in enumerate(listed, start=1):
                    score -= rng.random() / 10
                    stream.write(f"{query_id} Q0 {doc_id} {rank} {score:.6f} {name}\n")


def evaluate(place: Path) -> tuple[float, float, float]:
    """Seconds by the clock and of the processor, and peak memory in GiB, of the command."""
    command = [sys.executable, "-m", "inpars", "evaluate", "--preset=msmarco-dev", f"--qrels={place / 'qrels.tsv'}"]
    command += [f"--run={place / 'bm25.trec'}", f"--run={place / 'reranked.trec'}", f"--output={place / 'm.json'}"]
    started = time.perf_counter()
    with subprocess.Popen(command) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(process.returncode)
    seconds = time.perf_counter() - started
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 2**20


if __name__ == "__main__":
    main()
