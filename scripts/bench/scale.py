"""Time and memory of every stage on a synthetic collection of MS MARCO's size, at 100,000, a million and all passages.

Passages are about 60 words drawn by Zipf's law from the words of Python's documentation and compounds of them; queries
are words of sampled passages with random log-probs. Every stage runs as its own process through the command line:

    python scripts/bench/scale.py --passages 8841823 --queries 100000      about an hour and 15 GB of disk on 2 cores
    python scripts/bench/scale.py --quick                                  20,000 and 40,000 passages

`process` is the peak of what the process holds for itself (RssAnon), polled, Java's heap left out: the heap has a fixed
size and is touched as a whole at the start (-Xms = -Xmx, AlwaysPreTouch), so that it can be told apart. Files mapped
into memory (corpus, indexes) stand in their own column, since the system takes their pages back when it needs them.
Growth is judged by seconds of the processor, which other work on the machine hardly changes.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from machine import print_tier

from inpars.documents.datasets import load_dataset

WORDS_A_PASSAGE, VOCABULARY, ZIPF_EXPONENT, ZIPF_SHIFT = 60, 300_000, 1.07, 5.0
PASSAGES_AT_ONCE = 100_000
SIZES = (100_000, 1_000_000)
KEPT, SEARCHED = 10_000, 1_000  # queries that go through triples, and through a search of their own
LIMIT_MEGABYTES = 2_000
SLACK, NOTICED_SECONDS = 1.25, 5.0  # what counts as worse than linear, and below which times say nothing
POLL_SECONDS = 0.05
SAMPLE = """
import sys
from pathlib import Path
import numpy as np
from inpars.io.corpus import Corpus
from inpars.io.formats import synthetic_query_record
from inpars.records import SyntheticQuery
from inpars.documents.selection import choose_documents
from inpars.io.storage import write_jsonl
corpus, count, output = Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
random = np.random.default_rng(0)
def queries():
    for document in choose_documents(Corpus(corpus), maximum=count, minimum_characters=20).documents:
        words = document.text.split()
        start, length = int(random.integers(len(words) - 8)), int(random.integers(3, 9))
        log_probs = tuple((-random.exponential(1.0, length)).tolist())
        yield synthetic_query_record(SyntheticQuery(
            f"{document.doc_id}-q0", document.doc_id, " ".join(words[start : start + length]) + "?",
            log_probs, -0.1, "stop", "raw", "bench", "none"))
print(write_jsonl(output, queries()))
"""


@dataclass(frozen=True, slots=True)
class Used:
    """What a process took."""

    seconds: float
    processor_seconds: float
    process: float  # megabytes, Java's heap left out
    files: float  # megabytes of mapped files


def vocabulary() -> list[str]:
    """Real words by frequency, then compounds of them."""
    counts: Counter[str] = Counter()
    for document in load_dataset("python-docs").corpus:
        counts.update(re.findall(r"[a-z]{2,}", document.text.lower()))
    real = [word for word, _ in counts.most_common()]
    random = np.random.default_rng(1)
    pairs = random.integers(len(real), size=(VOCABULARY, 2)).tolist()
    return list(dict.fromkeys([*real, *(real[left] + real[right] for left, right in pairs)]))[:VOCABULARY]


def write_collection(path: Path, passages: int) -> None:
    """MS MARCO's form: number and text, tab-separated."""
    words = np.array(vocabulary(), dtype=object)
    weights = np.cumsum((np.arange(len(words)) + ZIPF_SHIFT) ** -ZIPF_EXPONENT)
    random = np.random.default_rng(0)
    with path.open("w", encoding="utf-8") as stream:
        for start in range(0, passages, PASSAGES_AT_ONCE):
            lengths = random.integers(
                WORDS_A_PASSAGE // 2, WORDS_A_PASSAGE * 3 // 2, min(PASSAGES_AT_ONCE, passages - start)
            )
            drawn = words[np.searchsorted(weights, random.random(lengths.sum()) * weights[-1])].tolist()
            ends = np.cumsum(lengths).tolist()
            stream.writelines(
                f"{start + row}\t{' '.join(drawn[first:end])}\n"
                for row, (first, end) in enumerate(zip([0, *ends], ends, strict=False))
            )


def watched(arguments: list[str], log: Path, heap: int) -> Used:
    """Run a Python process to its end and watch its memory; `heap` is Java's in megabytes, 0 where there is none."""
    options = f"-Xms{heap}m -Xmx{heap}m -XX:+AlwaysPreTouch"
    environment = os.environ | {"INPARS_JAVA_OPTIONS": options, "PYTHONPATH": str(Path.cwd())}
    started = time.perf_counter()
    with log.open("a", encoding="utf-8") as stream:
        process = subprocess.Popen([sys.executable, *arguments], env=environment, stdout=stream, stderr=stream)
        own = files = 0.0
        done, code, usage = os.wait4(process.pid, os.WNOHANG)
        while not done:
            status = dict(re.findall(r"^(RssAnon|RssFile):\s+(\d+)", _status(process.pid), re.MULTILINE))
            own = max(own, int(status.get("RssAnon", 0)) / 1000 - heap * 1.048576)
            files = max(files, int(status.get("RssFile", 0)) / 1000)
            time.sleep(POLL_SECONDS)
            done, code, usage = os.wait4(process.pid, os.WNOHANG)
    process.returncode = os.waitstatus_to_exitcode(code)
    if process.returncode:
        sys.exit(f"{' '.join(arguments[:3])} failed: {log.read_text(encoding='utf-8')[-2000:]}")
    return Used(time.perf_counter() - started, usage.ru_utime + usage.ru_stime, own, files)


def _status(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return ""


def measure(folder: Path, passages: int, queries: int, heap: int) -> dict[str, Used]:
    """Every stage on so many passages."""
    os.environ["INPARS_CACHE"] = str(folder / "cache")
    source, corpus, log = folder / "collection.tsv", folder / "corpus.jsonl", folder / "log"
    synthetic, kept, texts = (folder / name for name in ("synthetic.jsonl", "kept.jsonl", "queries.tsv"))
    started = time.perf_counter()
    write_collection(source, passages)
    print(f"{passages:,} passages written in {time.perf_counter() - started:.0f} s", flush=True)
    texts.write_text("one\tpython\n", encoding="utf-8")
    inpars = ["-m", "inpars"]
    on_corpus = ["--corpus", str(corpus), "--quiet"]
    search = [*inpars, "search", *on_corpus, "--queries", str(texts)]
    steps: dict[str, tuple[list[str], int]] = {
        "prepare": ([*inpars, "ingest", "--corpus", str(source), "--quiet", "--output", str(corpus)], 0),
        "index": ([*search, "--k", "10", "--output", str(folder / "one.trec")], heap),
        "sample": (["-c", SAMPLE, str(corpus), str(queries), str(synthetic)], 0),
        "filter": (
            [*inpars, "filter", "--input", str(synthetic), *on_corpus, "--top-k", str(KEPT), "--output", str(kept)],
            0,
        ),
        "mine": ([*search, "--k", "100", "--output", str(folder / "run.trec")], heap),
        "triples": (
            [*inpars, "triples", "--input", str(kept), *on_corpus, "--output", str(folder / "triples.tsv")],
            heap,
        ),
    }
    used = {}
    for name, (arguments, java) in steps.items():
        used[name] = watched(arguments, log, java)
        show(passages, name, used[name], java)
        if name == "prepare":
            source.unlink()
        if name == "filter":
            write_queries(kept, texts)
    return used


def write_queries(kept: Path, texts: Path) -> None:
    """The first kept queries as a search takes them."""
    with kept.open(encoding="utf-8") as rows, texts.open("w", encoding="utf-8") as stream:
        for _, row in zip(range(SEARCHED), map(json.loads, rows), strict=False):
            stream.write(f"{row['query_id']}\t{row['query']}\n")


def show(passages: int, name: str, used: Used, heap: int) -> None:
    """Print one row of the table."""
    print(
        f"{passages:>10,} {name:8} {used.seconds:9.1f} s {used.processor_seconds:9.1f} s processor "
        f"{used.process:8.0f} MB process {used.files:8.0f} MB mapped {heap:6} MB heap",
        flush=True,
    )


def complaints(found: dict[int, dict[str, Used]]) -> list[str]:
    """Stages that take too much memory, or grow faster than the collection."""
    said = [
        f"{name} at {passages:,}: {used.process:.0f} MB"
        for passages, stages in found.items()
        for name, used in stages.items()
        if used.process > LIMIT_MEGABYTES
    ]
    sizes = sorted(found)
    for small, large in itertools.pairwise(sizes):
        for name, used in found[large].items():
            allowed = max(found[small][name].processor_seconds, NOTICED_SECONDS) * large / small * SLACK
            if used.processor_seconds > allowed:
                said.append(f"{name}, {small:,} to {large:,}: {used.processor_seconds:.0f} s, allowed {allowed:.0f}")
    return said


def main() -> None:
    """Measure every size, print the table and what breaks the promises."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passages", type=int, default=8_841_823, help="largest collection (default: %(default)s)")
    parser.add_argument("--queries", type=int, default=100_000, help="synthetic queries (default: %(default)s)")
    parser.add_argument("--folder", type=Path, help="where all is written, then removed (default: a temporary one)")
    parser.add_argument("--heap", type=int, default=2048, help="Java's heap in megabytes (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="20,000 and 40,000 passages, 2,000 queries")
    flags = parser.parse_args()
    print_tier()
    sizes = [*(size for size in SIZES if size < flags.passages), flags.passages]
    if flags.quick:
        sizes, flags.queries = [20_000, 40_000], 2_000
    found: dict[int, dict[str, Used]] = {}
    for size in sizes:
        with TemporaryDirectory(dir=flags.folder, prefix="scale-") as name:
            found[size] = measure(Path(name), size, min(flags.queries, size), flags.heap)
    said = complaints(found)
    print("\n".join(said) if said else f"no stage above {LIMIT_MEGABYTES} MB, none worse than linear")
    sys.exit(bool(said))


if __name__ == "__main__":
    main()
