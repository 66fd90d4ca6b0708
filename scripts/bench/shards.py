"""Time and memory of shards of generation on a synthetic collection, with a writer that takes no time of its own.

    python scripts/bench/shards.py --passages 8841823 --shards 64 --run 1,33,64     half an hour and 8 GB of disk
    python scripts/bench/shards.py --passages 100000 --shards 4                     all shards, and merging them

Every shard is its own process. `own` is the peak of what it holds for itself (RssAnon of Linux, polled), `mapped` of
files it maps (corpus and index), whose pages the system takes back when it needs them. A model's memory comes on top.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from machine import print_tier

from inpars.stages.merge import merge_shards
from inpars.stages.shards import Shard, shard_path

WORDS = 60  # a passage; MS MARCO's have 56 on average
TEXTS = 10_000  # beginnings of passages; the ends differ
POLL_SECONDS = 0.2
WRITER = """
import sys
from pathlib import Path
from inpars.stages.shards import Shard, shard_path
from inpars.io.corpus import Corpus
from inpars.generation import GeneratedQuery
from inpars.prompts.templates import Prompt
from inpars.stages.generate import GenerateOptions, generate_queries
corpus, output, shard = Corpus(Path(sys.argv[1])), Path(sys.argv[2]), sys.argv[3]
class Writer:
    name, log_prob_kind, device = "writer", "raw", "none"
    def plan(self, documents):
        order = sorted(range(len(documents)), key=lambda place: len(documents[place].text))
        return [order[start : start + 1024] for start in range(0, len(order), 1024)]
    def generate(self, documents):
        texts = [" ".join(document.text.split()[:8]) for document in documents]
        return [[GeneratedQuery(text, (7,) * 12, (-0.123456,) * 12, -0.5, "stop")] for text in texts]
generate_queries(corpus, Prompt(name="bench", form="{document} {query}"),
    GenerateOptions(model="writer", shard=shard, canary=False),
    output=shard_path(output, Shard.parse(shard)), make_generator=Writer)
"""


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passages", type=int, default=100_000)
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--run", help="numbers of the shards that are done (default: all)")
    flags = parser.parse_args()
    print_tier()
    numbers = [int(number) for number in flags.run.split(",")] if flags.run else range(1, flags.shards + 1)
    with TemporaryDirectory() as folder:
        corpus, output = Path(folder) / "corpus.jsonl", Path(folder) / "queries.jsonl"
        write_corpus(corpus, flags.passages)
        environment = {**os.environ, "INPARS_CACHE": str(Path(folder) / "cache")}
        build = f"from pathlib import Path; from inpars.io.corpus import Corpus; Corpus(Path({str(corpus)!r}))"
        print(f"{'':12} {'passages':>9} {'seconds':>8} {'own MB':>7} {'mapped MB':>9} {'file MB':>8}")
        show("index", flags.passages, measured([sys.executable, "-c", build], environment), corpus)
        for number in numbers:
            shard = Shard(number, flags.shards)
            command = [sys.executable, "-c", WRITER, str(corpus), str(output), str(shard)]
            found = measured(command, environment)
            path = shard_path(output, shard)
            with path.open("rb") as lines:
                show(f"shard {shard}", sum(1 for _ in lines), found, path)
        if len(numbers) == flags.shards:
            began = time.monotonic()
            manifest = merge_shards(output)
            show("merge", manifest.output.records or 0, (time.monotonic() - began, 0, 0), output)


def write_corpus(path: Path, passages: int) -> None:
    """Passages of random words, each with an end of its own."""
    draw = random.Random(0)
    words = [f"word{number}" for number in range(5000)]
    texts = [
        " ".join(draw.choices(words, k=draw.randint(WORDS // 2, WORDS * 3 // 2)))[: WORDS * 6] for _ in range(TEXTS)
    ]
    with path.open("w", encoding="utf-8") as stream:
        for number in range(passages):
            stream.write(
                json.dumps({"_id": str(number), "title": "", "text": f"{texts[number % TEXTS]} {number}"}) + "\n"
            )


def measured(command: list[str], environment: dict[str, str]) -> tuple[float, float, float]:
    """Seconds, and peaks of its own and of mapped memory in MB."""
    began, own, mapped = time.monotonic(), 0, 0
    with subprocess.Popen(command, env=environment) as process:
        while process.poll() is None:
            time.sleep(POLL_SECONDS)
            now = memory(process.pid)
            own, mapped = max(own, now[0]), max(mapped, now[1])
    if process.returncode:
        sys.exit(f"{command[:2]} failed")
    return time.monotonic() - began, own / 1024, mapped / 1024


def memory(pid: int) -> tuple[int, int]:
    """Kilobytes of its own and of files; none of a process that has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0, 0
    found = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.startswith(("RssAnon", "RssFile"))}
    return found.get("RssAnon", 0), found.get("RssFile", 0)


def show(name: str, passages: int, found: tuple[float, float, float], path: Path) -> None:
    """One line of the table."""
    seconds, own, mapped = found
    size = path.stat().st_size / 1e6
    print(f"{name:12} {passages:9,} {seconds:8.1f} {own:7.0f} {mapped:9.0f} {size:8.1f}", flush=True)


if __name__ == "__main__":
    main()
