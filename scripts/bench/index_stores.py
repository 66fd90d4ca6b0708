"""`inpars index` against embedded databases: LanceDB, and Qdrant's local mode.

    python scripts/bench/index_stores.py --python lancedb=VENV/bin/python --python qdrant-local=VENV/bin/python
    python scripts/bench/index_stores.py --quick --python lancedb=VENV/bin/python        20,000 vectors

Half the vectors are random, half lie in clusters, a hundredth stands there twice, which is what ties are of. Each step
is a process of its own. It is timed on the clock and in seconds of processors; ratios are of the latter, which a busy
machine changes less. Recall counts what scores at least as much as the tenth of numpy's own list; `order` says for
how many of the queries all ten are numpy's, by score and then by id.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from index_store_worker import ROWS_PER_ADD, doc_id
from machine import print_tier

WIDTH, QUERIES, K = 384, 100, 10
CLUSTERS = 1_000
NOISE = 0.5  # of a cluster's vectors and of the queries, in lengths of a vector
KILLS = 5
WORKER = Path(__file__).with_name("index_store_worker.py")


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", action="append", default=[], metavar="STORE=PATH", help="another store's python")
    parser.add_argument("--vectors", type=int, default=1_000_000)
    parser.add_argument("--changed", type=int, default=10_000, help="added, and deleted")
    parser.add_argument("--structures", default="exact,ivf", help="exact, ivf, hnsw")
    parser.add_argument("--quick", action="store_true", help="20,000 vectors, 1,000 changed")
    flags = parser.parse_args()
    if flags.quick:
        flags.vectors, flags.changed = 20_000, 1_000
    pythons = {"ours": sys.executable, **dict(entry.split("=", 1) for entry in flags.python)}
    print_tier()
    with TemporaryDirectory() as folder:
        data = Path(folder)
        write_data(data, flags.vectors, flags.changed)
        for structure in flags.structures.split(","):
            names = [name for name in pythons if structure == "exact" or name != "qdrant-local"]
            figures = {name: measure(name, pythons[name], structure, data, flags) for name in names}
            show(structure, figures)


def write_data(data: Path, count: int, changed: int) -> None:
    """Vectors (those that are built, those that are added, those of the kills) and queries, all of unit length."""
    draws = np.random.default_rng(1)
    total = count + changed + KILLS * 20 * ROWS_PER_ADD
    centres = unit(draws.standard_normal((CLUSTERS, WIDTH), dtype=np.float32))
    vectors = np.lib.format.open_memmap(data / "vectors.npy", "w+", np.float32, (total, WIDTH))
    for start in range(0, total, 10_000):
        some = unit(draws.standard_normal((min(10_000, total - start), WIDTH), dtype=np.float32))
        some[::2] = unit(centres[draws.integers(CLUSTERS, size=len(some[::2]))] + NOISE * some[::2])
        vectors[start : start + len(some)] = some
    copies = count // 100
    vectors[count - copies : count] = vectors[:copies]
    near = np.concatenate([draws.integers(copies, size=QUERIES // 5), draws.integers(count, size=QUERIES * 4 // 5)])
    noise = unit(draws.standard_normal((QUERIES, WIDTH), dtype=np.float32))
    np.save(data / "queries.npy", unit(np.array(vectors[near]) + NOISE * noise))


def unit(vectors: Any) -> Any:  # noqa: ANN401 - an array
    """Of length one."""
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def measure(name: str, python: str, structure: str, data: Path, flags: argparse.Namespace) -> dict[str, float]:
    """One store's figures by name."""
    folder = data / f"{name}-{structure}"
    command = [python, str(WORKER), "--store", name, "--folder", str(folder), "--data", str(data)]
    built, changed = flags.vectors, flags.changed
    found: dict[str, float] = {}
    for step, first, last in [("build", 0, built), ("add", built, built + changed), ("delete", 5, 5 + changed)]:
        done = run([*command, "--rows", str(first), str(last), "--structure", structure, step])
        found |= {f"{step} s": done["seconds"], f"{step} cpu s": done["processor"], f"{step} peak MB": done["peak_mb"]}
        print(f"{name} {structure} {step}: {done['seconds']:.1f} s", flush=True)
    done = run([*command, "search"])
    found |= {f"search ms{way}": 1000 * done[f"{key}seconds"] / QUERIES for way, key in BOTH_WAYS}
    found |= {f"search cpu ms{way}": 1000 * done[f"{key}processor"] / QUERIES for way, key in BOTH_WAYS}
    found |= {"search peak MB": done["peak_mb"], "search own MB": done["own_mb"]}
    alive = np.r_[0:5, 5 + changed : built + changed]
    found |= quality(done["hits"], *reference(data, alive))
    found["disk MB"] = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
    if structure == "exact":
        found |= killed(command, built + changed, len(alive))
    return found


BOTH_WAYS = [("", ""), (", all at once", "batch_")]


def run(command: Sequence[str]) -> Any:  # noqa: ANN401 - JSON
    """What the worker printed."""
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def reference(data: Path, alive: Any) -> tuple[Any, list[list[str]]]:  # noqa: ANN401 - an array
    """Numpy's products of all queries and living rows, (queries, rows), and the ids of the ten best of each."""
    vectors, queries = np.load(data / "vectors.npy", mmap_mode="r"), np.load(data / "queries.npy")
    scores = np.full((len(queries), len(vectors)), -np.inf, dtype=np.float32)
    for start in range(0, len(vectors), 10_000):
        scores[:, start : start + 10_000] = queries @ vectors[start : start + 10_000].T
    kept = np.zeros(len(vectors), dtype=np.bool_)
    kept[alive] = True
    scores[:, ~kept] = -np.inf
    best = [np.lexsort((np.arange(len(vectors)), -row))[:K].tolist() for row in scores]
    return scores, [list(map(doc_id, rows)) for rows in best]


def quality(hits: Sequence[Any], scores: Any, best: Sequence[Sequence[str]]) -> dict[str, float]:  # noqa: ANN401
    """Recall of the ten, and how many of the lists are numpy's."""
    shares = []
    for row, wanted, answer in zip(scores, best, hits, strict=True):
        least = row[int(wanted[-1][1:])] - 1e-6
        shares.append(sum(row[int(name[1:])] >= least for name, _ in answer) / K)
    same = sum([name for name, _ in answer] == list(wanted) for wanted, answer in zip(best, hits, strict=True))
    return {"recall@10": float(np.mean(shares)), "order": same}


def killed(command: Sequence[str], first: int, before: int) -> dict[str, float]:
    """Kill it in the middle of an add, over and over, and count what was acknowledged and is lost, and what doubled."""
    draws = random.Random(2)
    lost = doubled = torn = 0
    for _ in range(KILLS):
        last = first + 20 * ROWS_PER_ADD
        with subprocess.Popen(
            [*command, "--rows", str(first), str(last), "add-until-killed"], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            began = time.perf_counter()
            acknowledged = int(process.stdout.readline())
            time.sleep(draws.random() * (time.perf_counter() - began))
            os.kill(process.pid, signal.SIGKILL)
            acknowledged = max([acknowledged, *map(int, process.stdout.read().split())])
        ids = run([*command, "ids"])["ids"]
        lost += before + acknowledged - first - len({name for name in ids if int(name[1:]) < acknowledged})
        doubled += len(ids) - len(set(ids))
        extra = sum(int(name[1:]) >= acknowledged for name in ids)
        torn += 0 < extra < ROWS_PER_ADD
        before, first = before + acknowledged - first + extra, acknowledged + extra
    return {"killed: lost": lost, "killed: doubled": doubled, "killed: torn adds": torn}


def show(structure: str, figures: Mapping[str, Mapping[str, float]]) -> None:
    """A table, and a ratio for each other store."""
    print(f"\n{structure:32}" + "".join(f"{name:>14}" for name in figures))
    for row in figures["ours"]:
        print(f"{row:32}" + "".join(f"{found[row]:>14,.2f}" for found in figures.values()))
    for name in list(figures)[1:]:
        for row in figures["ours"]:
            if "cpu" in row or row.endswith("MB"):
                ratio = figures[name][row] / max(figures["ours"][row], 1e-9)
                print(f"ratio {structure}-{row.replace(', ', '-').replace(' ', '-')}-over-{name} {ratio:.2f}")
    print(flush=True)


if __name__ == "__main__":
    main()
