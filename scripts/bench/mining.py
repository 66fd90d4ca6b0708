"""BM25 mining: ours against one search a query and against pyserini's command, in one go on this machine.

Passages are recombined sentences of the collections below --data (JSON, JSON lines, plain, gzipped or in zip archives),
queries are theirs and the first words of their sentences. All sides search the same Lucene index for lists of --k,
which must be identical. Run it on an idle machine:

    python scripts/bench/mining.py --data COLLECTIONS            5,000 queries, 100,000 passages
    python scripts/bench/mining.py --data COLLECTIONS --quick    1,000 queries, 20,000 passages

pyserini needs all it depends on, and a Java with jdk.incubator.vector: here it runs on the Java that ours starts, and
--pyserini-python may name the Python of an environment of its own (with pyjnius, and numpy for our part).
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

from machine import print_tier

from inpars.io.corpus import Corpus
from inpars.io.formats import read_run, write_documents
from inpars.io.storage import write_lines
from inpars.records import Document, Query
from inpars.retrieval.bm25 import bm25_index

SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
SENTENCE_WORDS, PASSAGE_WORDS, QUERY_WORDS = (5, 60), 50, (4, 12)
START_JAVA = "from inpars.retrieval.java import java_class; java_class('java.lang.Object'); "
PYSERINI = START_JAVA + "import runpy; runpy.run_module('pyserini.search.lucene', run_name='__main__', alter_sys=True)"
SINGLE = """
import sys, time
from pathlib import Path
from pyserini.search.lucene import LuceneSearcher
index, topics, k, output = sys.argv[1:]
rows = [line.rstrip("\\n").split("\\t") for line in open(topics, encoding="utf-8")]
searcher = LuceneSearcher(index)
started = time.perf_counter()
found = [[(hit.docid, hit.score) for hit in searcher.search(text, int(k))] for _, text in rows]
print(time.perf_counter() - started)
with open(output, "w", encoding="utf-8") as stream:
    for (query_id, _), hits in zip(rows, found):
        stream.writelines(f"{query_id} Q0 {d} {rank} {s:.6f} x\\n" for rank, (d, s) in enumerate(hits, 1))
"""
OURS = """
import sys, time
from pathlib import Path
from inpars.retrieval.bm25 import BM25Index
from inpars.io.formats import read_queries
index, topics, k, output = sys.argv[1:]
queries = list(read_queries(Path(topics)))
searcher = BM25Index(Path(index))
started = time.perf_counter()
run = searcher.search(queries, int(k))
print(time.perf_counter() - started)
with open(output, "w", encoding="utf-8") as stream:
    for query_id, scores in run.items():
        stream.writelines(f"{query_id} Q0 {d} {rank} {s:.6f} x\\n" for rank, (d, s) in enumerate(scores.items(), 1))
"""


def lines(folder: Path) -> Iterator[tuple[str, bytes]]:
    """File name and line of every JSON file below a folder."""
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                for name in sorted(archive.namelist()):
                    if name.endswith(".jsonl"):
                        with archive.open(name) as stream:
                            yield from ((name, line) for line in stream)
        elif path.name.removesuffix(".gz").endswith((".jsonl", ".json")):
            with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
                yield from ((path.name, line) for line in stream)


def texts(value: Any) -> Iterator[str]:  # noqa: ANN401
    """Every text inside a JSON value, its blanks collapsed."""
    if isinstance(value, str):
        yield " ".join(value.split())
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from texts(part)


def collect(folder: Path) -> tuple[list[str], list[str]]:
    """The sentences and the queries of the collections, each once, in order."""
    sentences, queries = set(), set()
    for name, line in lines(folder):
        try:
            found = list(texts(json.loads(line)))
        except ValueError:
            continue
        for text in found:
            if "queries" in name or text.endswith("?"):
                if 2 < len(text.split()) < 20:
                    queries.add(text)
            else:
                low, high = SENTENCE_WORDS
                sentences |= {part for part in SENTENCE_END.split(text) if low <= len(part.split()) <= high}
    return sorted(sentences), sorted(queries)


def passages(sentences: list[str], count: int, random: Random) -> Iterator[Document]:
    """Sentences drawn at random until there are enough words."""
    for number in range(count):
        words: list[str] = []
        while len(words) < PASSAGE_WORDS:
            words += random.choice(sentences).split()
        yield Document(f"p{number}", " ".join(words))


def topics(queries: list[str], sentences: list[str], count: int, random: Random) -> list[Query]:
    """Half real queries where there are enough, the rest the first words of sentences."""
    chosen = random.sample(queries, min(len(queries), count // 2))
    while len(chosen) < count:
        chosen.append(" ".join(random.choice(sentences).split()[: random.randint(*QUERY_WORDS)]))
    return [Query(str(number), text) for number, text in enumerate(chosen)]


def run(interpreter: str, *arguments: str, timed_inside: bool = False) -> float:
    """Seconds of a Python process, or those it says itself."""
    environment = os.environ | {"OPENAI_API_KEY": "unused", "TOKENIZERS_PARALLELISM": "false"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(Path.cwd()), environment.get("PYTHONPATH")]))
    started = time.perf_counter()
    done = subprocess.run([interpreter, *arguments], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{arguments[:3]}: {done.stderr[-2000:]}")
    return float(done.stdout.split()[-1]) if timed_inside else time.perf_counter() - started


def sides(index: Path, folder: Path, k: int, pyserini: str) -> dict[str, Callable[[], float]]:
    """What is measured, by name; each writes a run of that name."""
    corpus, queries = folder / "corpus.jsonl", folder / "queries.tsv"
    common = ["--index", str(index), "--topics", str(queries), "--hits", str(k), "--bm25"]
    ours = ["--corpus", str(corpus), "--queries", str(queries), "--k", str(k), "--overwrite", "--quiet"]
    searched = [str(index), str(queries), str(k)]
    threads = ["--threads", "8", "--batch-size", "32"]  # as the InPars toolkit has it

    def output(name: str) -> str:
        return str(folder / f"{name}.trec")

    return {
        "one search a query": lambda: run(
            pyserini, "-c", START_JAVA + SINGLE, *searched, output("single"), timed_inside=True
        ),
        "ours": lambda: run(sys.executable, "-c", OURS, *searched, output("ours"), timed_inside=True),
        "pyserini process": lambda: run(pyserini, "-c", PYSERINI, *common, *threads, "--output", output("pyserini")),
        "inpars search": lambda: run(sys.executable, "-m", "inpars", "search", *ours, "--output", output("inpars")),
    }


def compare(folder: Path, reference: str, other: str, tolerance: float) -> int:
    """Queries whose lists differ: other documents, another order, or scores further apart than the tolerance."""
    left, right = read_run(folder / reference), read_run(folder / other)
    return sum(
        list(left.get(query_id, {})) != list(right.get(query_id, {}))
        or any(abs(score - right[query_id][doc_id]) > tolerance for doc_id, score in left[query_id].items())
        for query_id in {*left, *right}
    )


def main() -> None:
    """Build, measure every side in turn, compare the lists, print medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with collections")
    parser.add_argument("--passages", type=int, default=100_000, help="passages (default: %(default)s)")
    parser.add_argument("--queries", type=int, default=5_000, help="queries (default: %(default)s)")
    parser.add_argument("--k", type=int, default=100, help="documents per query (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="measurements a side (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of passages and queries (default: %(default)s)")
    parser.add_argument("--pyserini-python", default=sys.executable, help="Python with all of pyserini (default: this)")
    parser.add_argument("--quick", action="store_true", help="20,000 passages, 1,000 queries, one measurement")
    flags = parser.parse_args()
    print_tier()
    if flags.quick:
        flags.passages, flags.queries, flags.repeats = 20_000, 1_000, 1
    with tempfile.TemporaryDirectory() as name:
        folder, random = Path(name), Random(flags.seed)
        os.environ["INPARS_CACHE"] = str(folder / "cache")
        sentences, real = collect(flags.data)
        write_documents(folder / "corpus.jsonl", passages(sentences, flags.passages, random))
        chosen = topics(real, sentences, flags.queries, random)
        write_lines(folder / "queries.tsv", (f"{query.query_id}\t{query.text}" for query in chosen))
        index = bm25_index(Corpus(folder / "corpus.jsonl"))
        index.close()
        print(f"{flags.passages:,} passages of {len(sentences):,} sentences, {flags.queries:,} queries, k {flags.k}")
        measured = sides(index.folder, folder, flags.k, flags.pyserini_python)
        seconds: dict[str, list[float]] = {side: [] for side in measured}
        for _ in range(flags.repeats):
            for side, measure in measured.items():
                seconds[side].append(measure())
        report(folder, {side: statistics.median(values) for side, values in seconds.items()}, flags.queries)


def report(folder: Path, medians: dict[str, float], queries: int) -> None:
    """Print the table, whether the lists are identical, and the ratios."""
    for side, what in zip(medians, ["search", "search", "process", "process"], strict=True):
        print(f"{side:22} {what:8} {medians[side]:7.2f} s {queries / medians[side]:8.0f} queries/s")
    # the command writes ties further apart than pyserini does, since trec_eval compares in single precision
    for reference, other, tolerance in (("single.trec", "ours.trec", 1e-6), ("pyserini.trec", "inpars.trec", 2e-3)):
        differing = compare(folder, reference, other, tolerance)
        print(f"lists of {other} that differ from {reference}: {differing} of {queries:,}")
    print(f"ratio mining-over-single {medians['one search a query'] / medians['ours']:.2f}")
    print(f"ratio mining-over-pyserini-cli {medians['pyserini process'] / medians['inpars search']:.2f}")


if __name__ == "__main__":
    main()
