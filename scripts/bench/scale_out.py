"""What more workers bring: documents a second of 1 to 16 workers on work of known length, and the driver's memory.

The generator is a stand-in that sleeps a known time for each document, so that the cores of this machine do not decide:
what is measured is what the cluster costs. All workers wait for each other before they begin, since starting a Python
process is nobody's work here; `began` to `ended` of the workers' own reports is the time of the work.

    python scripts/bench/scale_out.py            1, 2, 4, 8, 16 workers; memory at 10,000 to 1,000,000 documents
    python scripts/bench/scale_out.py --quick    1 and 8 workers, and memory at 1,000 and 10,000; about a minute

Needs the extra cluster.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from machine import print_tier

from inpars.distributed import connected, workers_of
from inpars.generation import GeneratedQuery
from inpars.generation.settings import chunks_by_length
from inpars.io.corpus import Corpus
from inpars.io.formats import write_documents
from inpars.io.manifest import Manifest
from inpars.prompts.templates import Prompt
from inpars.records import Document, LogProbKind
from inpars.stages.generate import GenerateOptions, generate_queries
from inpars.stages.workers import WORKERS_RESULT, ClusterOptions

PROMPT = Prompt(name="bench", form="Document: {document}\nRelevant Query: {query}", stop=("\n",))
WORKERS, QUICK_WORKERS = (1, 2, 4, 8, 16), (1, 8)
SECONDS = 0.1  # a document: about what the embedded model takes for one on a core
SHARDS_A_WORKER, QUICK_SHARDS_A_WORKER = 4, 2
SHARD, CHUNK = 64, 32  # documents
SIZES, QUICK_SIZES = (10_000, 100_000, 1_000_000), (1_000, 10_000)
POLL_SECONDS = 0.05
OWN_MEMORY = re.compile(r"RssAnon:\s+(\d+)")


@dataclass(frozen=True)
class MakeSleeper:
    """What each worker is given; it waits in `meeting` until all workers are there."""

    meeting: Path
    workers: int
    seconds: float

    def __call__(self) -> Sleeper:
        """The generator, once all are there."""
        (self.meeting / f"{time.time_ns()}").touch()
        while self.workers > 1 and sum(1 for _ in self.meeting.iterdir()) < self.workers:
            time.sleep(0.01)
        return Sleeper(self.seconds)


class Sleeper:
    """Sleeps instead of computing."""

    name, device = "sleeper", "none"
    log_prob_kind: LogProbKind = "raw"

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def plan(self, documents: Sequence[Document]) -> list[list[int]]:
        """As a model on a processor does."""
        return chunks_by_length([len(document.text) for document in documents], CHUNK)

    def generate(self, documents: Sequence[Document]) -> list[list[GeneratedQuery]]:
        """A query for each."""
        time.sleep(self._seconds * len(documents))
        query = GeneratedQuery("what is it?", (1, 2, 3), (-0.5, -0.25, -0.125), -0.5, "stop")
        return [[query] for _ in documents]


def main() -> int:
    """Measure and print."""
    flags = _parser().parse_args()
    if flags.driver:
        _drive(Path(flags.driver))
        return 0
    print_tier()
    workers = QUICK_WORKERS if flags.quick else WORKERS
    with TemporaryDirectory() as folder:
        efficiency = measure_scaling(Path(folder), workers, quick=flags.quick)
        measure_memory(Path(folder), QUICK_SIZES if flags.quick else SIZES)
    print(f"ratio ray-efficiency-8 {efficiency[8]:.3f}")
    return 0


def measure_scaling(folder: Path, workers: Sequence[int], *, quick: bool) -> dict[int, float]:
    """Print a line for each number of workers, and return how much of their time was work."""
    shards = QUICK_SHARDS_A_WORKER if quick else SHARDS_A_WORKER
    print(f"{SECONDS * 1000:.0f} ms a document, {shards} shards of {SHARD} documents a worker")
    print("workers  documents  seconds  documents/s  efficiency  overhead/document")
    efficiency = {}
    with connected(ClusterOptions(engine="ray", workers=max(workers))):
        for count in workers:
            documents = count * shards * SHARD
            manifest = generate(folder / f"{count}", documents, count, SECONDS)
            reports = manifest.results[WORKERS_RESULT]
            span = max(report["ended"] for report in reports) - min(report["began"] for report in reports)
            efficiency[count] = documents * SECONDS / (count * span)
            overhead = (count * span - documents * SECONDS) / documents
            print(
                f"{count:7} {documents:10} {span:8.2f} {documents / span:12.1f} {efficiency[count]:11.3f} "
                f"{overhead * 1000:15.2f} ms",
                flush=True,
            )
    return efficiency


def generate(folder: Path, documents: int, workers: int, seconds: float) -> Manifest:
    """One run of the stage."""
    (folder / "meeting").mkdir(parents=True, exist_ok=True)
    corpus = made_corpus(folder, documents)
    options = GenerateOptions(model="sleeper", canary=False, engine="ray", workers=workers)
    return generate_queries(
        *(corpus, PROMPT, options),
        output=folder / "queries.jsonl",
        make_generator=MakeSleeper(folder / "meeting", workers, seconds),
        workers=workers_of(options),
    )


def made_corpus(folder: Path, documents: int) -> Corpus:
    """Documents of some 60 words, the same each time."""
    path = folder / "corpus.jsonl"
    if not path.exists():
        text = " ".join(f"word{n}" for n in range(60))
        write_documents(
            path, (Document(f"d{n}", f"{n * 7919 % 1009} {text[: 200 + n % 200]}") for n in range(documents))
        )
    return Corpus(path, folder / "cache")


def measure_memory(folder: Path, sizes: Sequence[int]) -> None:
    """Print what the driver's process holds for itself at its peak, for collections of several sizes."""
    print("documents   seconds  driver's memory, MB (two workers that do not sleep)")
    peaks = {}
    for documents in sizes:
        own = folder / f"memory-{documents}"
        own.mkdir()
        made_corpus(own, documents)
        started = time.monotonic()
        with subprocess.Popen([sys.executable, __file__, "--driver", str(own)]) as driver:
            peak = 0.0
            while driver.poll() is None:
                peak = max(peak, _own_megabytes(driver.pid))
                time.sleep(POLL_SECONDS)
        if driver.returncode:
            raise SystemExit("the driver failed")
        peaks[documents] = peak
        print(f"{documents:9} {time.monotonic() - started:9.1f} {peak:8.1f}", flush=True)
    few, many = sizes[0], sizes[-1]
    print(f"{(peaks[many] - peaks[few]) * 2**20 / (many - few):.0f} bytes a document more from {few} to {many}")


def _own_megabytes(pid: int) -> float:
    try:
        found = OWN_MEMORY.search(Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0.0
    return int(found[1]) / 1024 if found else 0.0


def _drive(folder: Path) -> None:
    """The process whose memory is measured."""
    generate(folder, 0, 2, 0.0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--quick", action="store_true", help="about a minute")
    parser.add_argument("--driver", metavar="DIR", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
