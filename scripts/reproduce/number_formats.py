r"""What an engine's number format does to nDCG@10, on many judged collections.

    python scripts/reproduce/number_formats.py --output runs/formats --collection beir/nfcorpus/test \
        --collection /data/cosqa.zip:dev --queries 300 --pairs 10 --pair-queries 40

Every --collection is an `ir_datasets` name, a BEIR folder or zip, or python-docs, with :SPLIT for a split other than
test. The encoder searches the whole corpus, and the language model puts BM25's first --pairs documents of the first
--pair-queries queries in order by query likelihood; each with every engine below, against float32 as torch computes
it. Prints nDCG@10 by collection, the differences' means and their 95% intervals (paired, over all queries), and how
far apart the mean log-probs per token are. Every run is a file, so that a killed bench resumes. Under
`ONEDNN_MAX_CPU_ISA` it measures a lower tier; use another folder for that.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path

from inpars.documents.datasets import load_dataset
from inpars.evaluation.measures import evaluate
from inpars.evaluation.significance import bootstrap_interval
from inpars.io.formats import read_run
from inpars.models.processor import tier
from inpars.records import Run

METRIC = "nDCG@10"
REFERENCE = ("torch", "float32")
# engine and number format of each side; torch's own bfloat16 differs from float32 on tiers that have it alone
ENCODERS = (REFERENCE, ("torch", "auto"), ("openvino", "auto"), ("openvino-int8", "auto"))
LIKELIHOODS = (REFERENCE, ("torch", "auto"), ("torch-int8", "auto"))


def main() -> None:
    """Search and rerank with every engine, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--collection", action="append", required=True, metavar="NAME[:SPLIT]")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--queries", type=int, default=300, help="that the encoder searches for (%(default)s)")
    parser.add_argument("--pair-queries", type=int, default=40, help="whose documents are reranked (%(default)s)")
    parser.add_argument("--pairs", type=int, default=10, help="documents per query that are reranked (%(default)s)")
    parser.add_argument("--encoder", default="minilm")
    parser.add_argument("--model", default="smollm2-135m", help="that scores pairs (%(default)s)")
    flags = parser.parse_args()
    print(f"tier {tier()}; less nDCG@10 of float32 by torch", flush=True)
    _compare("search", ENCODERS, flags)
    _compare("rerank", LIKELIHOODS, flags)


def _compare(stage: str, sides: tuple[tuple[str, str], ...], flags: argparse.Namespace) -> None:
    differences: dict[tuple[str, str], list[float]] = {side: [] for side in sides[1:]}
    for collection in flags.collection:
        dataset, _, split = collection.partition(":")
        split = split or "test"
        folder = flags.output / f"{Path(dataset).stem}-{split}"
        folder.mkdir(parents=True, exist_ok=True)
        qrels = load_dataset(dataset, unknown_judgements="keep").topics(split).qrels
        runs = {side: _run(stage, side, dataset, split, folder, flags) for side in sides}
        judged = {name: qrels[name] for name in runs[REFERENCE] if any(g > 0 for g in qrels.get(name, {}).values())}
        values = {side: evaluate(run, judged, [METRIC]).per_query[METRIC] for side, run in runs.items()}
        reference = values[REFERENCE]
        cells = []
        for side in sides[1:]:
            changes = [values[side][name] - value for name, value in reference.items()]
            differences[side] += changes
            apart = f", {_apart(runs[REFERENCE], runs[side]):.3f} apart" if stage == "rerank" else ""
            cells.append(f"{'/'.join(side)} {statistics.fmean(changes):+.4f}{apart}")
        print(f"{stage} {folder.name}: {statistics.fmean(reference.values()):.4f};", "; ".join(cells), flush=True)
    for side, changes in differences.items():
        found, count = bootstrap_interval(changes), len(changes)
        print(f"{stage} {'/'.join(side)}: {found.mean:+.4f} [{found.low:+.4f}, {found.high:+.4f}] over {count} queries")


def _run(stage: str, side: tuple[str, str], dataset: str, split: str, folder: Path, flags: argparse.Namespace) -> Run:
    engine, dtype = side
    output = folder / f"{stage}.{engine}.{dtype}.trec"
    source = ("--dataset", dataset, "--split", split, "--unknown-judgements", "keep")
    computed = ("--engine-backend", engine, "--dtype", dtype)
    if stage == "search":
        limit = ("--k", "100", "--limit", str(flags.queries))
        _inpars("search", *source, "--retriever", flags.encoder, *limit, *computed, "--output", str(output))
    else:
        first = folder / "bm25.trec"
        limit = ("--k", str(flags.pairs), "--limit", str(flags.pair_queries))
        _inpars("search", *source, "--retriever", "bm25", *limit, "--output", str(first))
        scored = ("--run", str(first), "--model", flags.model, "--depth", str(flags.pairs), "--no-fuse")
        _inpars("rerank", *source, *scored, *computed, "--output", str(output))
    return read_run(output)


def _apart(one: Run, other: Run) -> float:
    """Mean difference of two scorers' values for the same pairs."""
    return statistics.fmean(
        abs(score - other[query_id][doc_id]) for query_id, scores in one.items() for doc_id, score in scores.items()
    )


def _inpars(*arguments: str) -> None:
    environment = {**os.environ, "TQDM_DISABLE": "1"}
    subprocess.run([sys.executable, "-m", "inpars", *arguments, "--quiet"], check=True, env=environment)


if __name__ == "__main__":
    main()
