"""Searches a second for many clients at once: requests joined into one pass, against one request at a time.

Both sides are the same `inpars serve` with the same model, the second with `--max-batch 1 --batch-wait-ms 0`; the same
clients ask both, each its next query as soon as it has its answer. Sides take turns, so that a machine that slows down
slows both.

    python scripts/bench/serving.py            32 clients, 60 seconds a side
    python scripts/bench/serving.py --quick    under a minute in all

Run it on an idle machine: the clients need a part of the processor too. Needs the extras serve and embedded.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

from machine import print_tier

from inpars.documents.datasets import load_dataset

ADDRESS = re.compile(r"http://[\d.:]+")
SERIAL = ("--max-batch", "1", "--batch-wait-ms", "0")
WARMING_SECONDS = 2.0
ROUNDS = 3
MEMORY = re.compile(r"VmRSS:\s+(\d+)")


@dataclass
class Side:
    """One server and what its clients measured."""

    name: str
    url: str
    pid: int
    milliseconds: list[float] = field(default_factory=list)
    errors: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Good answers a second."""
        return len(self.milliseconds) / self.seconds


def main() -> int:
    """Measure and print."""
    flags = _parser().parse_args()
    print_tier()
    seconds = 8.0 if flags.quick else flags.seconds
    queries = _queries(flags.dataset)
    command = [sys.executable, "-m", "inpars", "serve", "--port", "0", "--no-bm25", "--retriever", flags.model]
    command += ["--dataset", flags.dataset, "--max-concurrent", str(2 * flags.clients)]
    with _serving("joined", command) as joined, _serving("one at a time", [*command, *SERIAL]) as serial:
        memory = [_memory(joined.pid)]
        for side in (joined, serial):
            asyncio.run(_load(side, queries, flags.clients, flags.k, WARMING_SECONDS, keep=False))
        for _ in range(ROUNDS):
            for side in (joined, serial):
                asyncio.run(_load(side, queries, flags.clients, flags.k, seconds / ROUNDS, keep=True))
            memory.append(_memory(joined.pid))
        _show((joined, serial), flags.clients)
        print(f"joined: {_mean_batch(joined.url):.1f} queries a pass")
        print(f"joined: memory {memory[0]} MiB before, {', '.join(map(str, memory[1:]))} MiB after each round")
    print(f"ratio serving-over-serial {joined.rate / serial.rate:.2f}")
    return 1 if joined.errors or serial.errors else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="python-docs", metavar="NAME", help="what is searched (python-docs)")
    parser.add_argument("--model", default="minilm", metavar="NAME", help="bi-encoder (minilm)")
    parser.add_argument("--clients", type=int, default=32, metavar="N", help="at once (32)")
    parser.add_argument("--seconds", type=float, default=60.0, metavar="X", help="a side (60)")
    parser.add_argument("--k", type=int, default=10, metavar="N", help="hits a query (10)")
    parser.add_argument("--quick", action="store_true", help="8 seconds a side")
    return parser


def _queries(name: str) -> list[str]:
    dataset = load_dataset(name, unknown_judgements="keep")
    return [query.text for query in dataset.topics("test").as_queries()]


@contextlib.contextmanager
def _serving(name: str, command: Sequence[str]) -> Iterator[Side]:
    """A server process, stopped by its id."""
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        lines = []
        for line in process.stderr:
            lines.append(line)
            if found := ADDRESS.search(line):
                yield Side(name, found.group(), process.pid)
                return
        raise SystemExit(f"the server did not start: {''.join(lines)}")
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)


async def _load(side: Side, queries: Sequence[str], clients: int, k: int, seconds: float, *, keep: bool) -> None:
    """All clients for some seconds."""
    started = time.perf_counter()
    waiting = cycle(queries)
    found = await asyncio.gather(*(_client(side.url, waiting, k, started + seconds) for _ in range(clients)))
    if keep:
        side.seconds += time.perf_counter() - started
        for milliseconds, errors in found:
            side.milliseconds += milliseconds
            for error in errors:
                side.errors[error] = side.errors.get(error, 0) + 1


async def _client(url: str, queries: Iterator[str], k: int, until: float) -> tuple[list[float], list[str]]:
    """Latencies of one client's good answers, and its errors."""
    place = urlsplit(url)
    milliseconds: list[float] = []
    errors: list[str] = []
    reader, writer = await asyncio.open_connection(place.hostname, place.port, limit=2**22)
    while time.perf_counter() < until:
        body = json.dumps({"query": next(queries), "k": k, "system": "dense"}).encode()
        head = f"POST /search HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Type: application/json\r\n"
        started = time.perf_counter()
        writer.write(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        status, answer = await _response(reader)
        if status == 200 and b'"doc_id"' in answer:
            milliseconds.append((time.perf_counter() - started) * 1000)
        else:
            errors.append(f"{status}: {answer[:80]!r}")
    writer.close()
    await writer.wait_closed()
    return milliseconds, errors


async def _response(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
    assert length is not None, head
    return int(head.split(b" ", 2)[1]), await reader.readexactly(int(length.group(1)))


def _show(sides: Sequence[Side], clients: int) -> None:
    print(f"{clients} clients  requests  errors  a second  p50 ms  p95 ms  p99 ms")
    for side in sides:
        if len(side.milliseconds) < 2:
            raise SystemExit(f"{side.name}: no answers, but {side.errors}")
        cuts = statistics.quantiles(side.milliseconds, n=100)
        errors = sum(side.errors.values())
        print(
            f"{side.name:13} {len(side.milliseconds):8}  {errors:6}  {side.rate:8.1f}  "
            f"{cuts[49]:6.1f}  {cuts[94]:6.1f}  {cuts[98]:6.1f}"
        )
        for error, count in side.errors.items():
            print(f"  {count} x {error}")


def _mean_batch(url: str) -> float:
    """Of the server's own counters, from its start."""
    with urlopen(f"{url}/metrics") as stream:
        text = stream.read().decode()
    numbers = [float(re.search(rf'batch_items_{what}{{batcher="search"}} (\S+)', text)[1]) for what in ("sum", "count")]
    return numbers[0] / numbers[1]


def _memory(pid: int) -> int:
    """Resident MiB, 0 where the system does not say."""
    try:
        found = MEMORY.search(Path(f"/proc/{pid}/status").read_text(encoding="ascii"))
    except OSError:
        return 0
    return int(found.group(1)) // 1024 if found else 0


if __name__ == "__main__":
    sys.exit(main())
