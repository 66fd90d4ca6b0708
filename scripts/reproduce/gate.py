r"""Learns the gate between BM25 and bi-encoders on judged collections, and tells what it is worth on others.

    python scripts/reproduce/gate.py --output runs/gate \\
        --collection nfcorpus beir/nfcorpus/dev test beir/nfcorpus/test test

Each --collection is a name, a dataset and split to learn on, and one to test on; the same one twice is halved. For each
collection the default prompt has the embedded model write queries for --documents documents, BM25 and the bi-encoder
search for them and for the judged ones, and the own queries move the gate as `inpars run` has it. Ends with a table:
BM25, equal weights, the bi-encoder, the best weight that one could have known, the gate learned on all collections'
learning sides, and the gate learned without the collection it is tested on; then the coefficients. Steps that are done
are not done again.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from inpars.documents.datasets import load_dataset
from inpars.fusion.choice import STEPS, interpolated, judged_mix, share_table
from inpars.fusion.gate import Gate, QueryFeatures, findings
from inpars.io.formats import read_queries, read_run, read_synthetic_queries, write_queries
from inpars.io.judgements import write_qrels
from inpars.io.runs import completed, cut
from inpars.records import Qrels, Query, Run
from inpars.retrieval.bm25 import bm25_index

DEPTH = 100
SMOOTHING = (-0.8, -0.4, 0.0, 0.4, 0.8)  # offsets that the learned gate has to bear
DECAY, RATE, ROUNDS = 2e-4, 0.08, 400


@dataclass(frozen=True, slots=True)
class Side:
    """Queries with what was found for them, and nDCG@10 by share."""

    ids: list[str]
    found: dict[str, QueryFeatures]
    table: np.ndarray
    lexical: Run
    dense: Run
    qrels: Qrels

    @property
    def inputs(self) -> np.ndarray:
        """The three numbers of each query, (queries, 3)."""
        return np.array(
            [[f.lexical_coverage, f.dense_coverage, f.similarity] for f in map(self.found.get, self.ids) if f]
        )

    def half(self, first: int) -> Side:
        """Every other query."""
        rows = range(first, len(self.ids), 2)
        return Side([self.ids[row] for row in rows], self.found, self.table[rows], self.lexical, self.dense, self.qrels)


@dataclass(frozen=True, slots=True)
class Collection:
    """What is learned on, what is tested on, and the synthetic queries."""

    name: str
    learn: Side
    test: Side
    own: Side


def main() -> None:
    """Do what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--collection", nargs=5, action="append", required=True, metavar="VALUE")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--documents", type=int, default=300)
    parser.add_argument("--retriever", default="minilm")
    flags = parser.parse_args()
    collections = [_collection(flags, *values) for values in flags.collection]
    rows = {name: [] for name in ("bm25", "equal", "encoder", "best weight", "gate", "gate, left out")}
    for one in collections:
        means = one.test.table.mean(0)
        others = [other.learn for other in collections if other is not one]
        rows["bm25"].append(means[0])
        rows["equal"].append(means[STEPS // 2])
        rows["encoder"].append(means[-1])
        rows["best weight"].append(means.max())
        rows["gate"].append(_value(_learned([other.learn for other in collections]), one))
        rows["gate, left out"].append(_value(_learned(others), one) if others else float("nan"))
    print(" " * 16, *(f"{one.name[:10]:>10}" for one in collections), f"{'mean':>10}")
    for name, values in rows.items():
        print(f"{name:16}", *(f"{value:10.4f}" for value in values), f"{statistics.fmean(values):10.4f}")
    best = [max(values) for values in zip(*(rows[name] for name in ("bm25", "equal", "encoder")), strict=True)]
    for name in ("gate", "gate, left out"):
        regrets = [bar - value for bar, value in zip(best, rows[name], strict=True)]
        gains = [value - equal for value, equal in zip(rows[name], rows["equal"], strict=True)]
        print(
            f"{name}: regret {statistics.fmean(regrets):+.4f} on average, {max(regrets):+.4f} at most; gain over equal "
            f"weights {statistics.fmean(gains):+.4f}"
        )
    print(_learned([one.learn for one in collections]))


def _value(gate: Gate, one: Collection) -> float:
    moved = judged_mix(gate, one.own.found, one.own.lexical, [one.own.dense], one.own.qrels, DEPTH).choice.gate
    shares = np.array([moved.share(one.test.found[query_id]) for query_id in one.test.ids])
    return float(interpolated(one.test.table, shares).mean())


def _learned(sides: Sequence[Side]) -> Gate:
    """The gate under which all collections, each counting alike, have the greatest mean nDCG@10."""
    weights = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    data = [(torch.tensor(side.inputs), torch.tensor(side.table)) for side in sides]
    optimizer = torch.optim.Adam([weights], lr=RATE)
    for _ in range(ROUNDS):
        optimizer.zero_grad()
        loss = DECAY * (weights[1:] ** 2).sum()
        for inputs, table in data:
            odds = weights[0] + inputs @ weights[1:]
            for offset in SMOOTHING:
                loss = loss - _at(table, torch.sigmoid(odds + offset)).mean() / len(SMOOTHING) / len(data)
        loss.backward()
        optimizer.step()
    found = weights.tolist()
    return Gate(intercept=found[0], lexical_coverage=found[1], dense_coverage=found[2], similarity=found[3])


def _at(table: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    """As `interpolated`, to be differentiated."""
    place = shares * (table.shape[1] - 1)
    low = place.floor().long().clamp(0, table.shape[1] - 2)
    rows = torch.arange(len(table))
    return table[rows, low] * (1 - place + low) + table[rows, low + 1] * (place - low)


def _collection(flags: argparse.Namespace, name: str, learn: str, split: str, test: str, test_split: str) -> Collection:
    folder = flags.output / name
    folder.mkdir(parents=True, exist_ok=True)
    learned, own = _side(flags, folder, "learn", learn, split), _own(flags, folder, learn)
    if (learn, split) == (test, test_split):
        return Collection(name, learned.half(0), learned.half(1), own)
    return Collection(name, learned, _side(flags, folder, "test", test, test_split), own)


def _own(flags: argparse.Namespace, folder: Path, dataset: str) -> Side:
    """The synthetic queries, each with its own document."""
    written, queries, qrels = (folder / name for name in ("written.jsonl", "queries.jsonl", "qrels.tsv"))
    settings = ("--max-documents", str(flags.documents), "--max-doc-tokens", "160", "--max-new-tokens", "32")
    _inpars("generate", "--dataset", dataset, *settings, "--output", str(written))
    kept = [query for query in read_synthetic_queries(written) if query.text.strip()]
    write_queries(queries, [Query(query.query_id, query.text) for query in kept])
    write_qrels(qrels, {query.query_id: {query.doc_id: 1} for query in kept})
    texts = {query.query_id: query.text for query in read_queries(queries)}
    given = ("--queries", str(queries), "--qrels", str(qrels))
    return _searched(flags, folder, "own", dataset, given, texts, {query.query_id: {query.doc_id: 1} for query in kept})


def _side(flags: argparse.Namespace, folder: Path, name: str, dataset: str, split: str) -> Side:
    topics = load_dataset(dataset, unknown_judgements="keep").topics(split)
    return _searched(flags, folder, name, dataset, ("--split", split), topics.queries, topics.qrels)


def _searched(
    flags: argparse.Namespace,
    folder: Path,
    name: str,
    dataset: str,
    given: Sequence[str],
    texts: dict[str, str],
    qrels: Qrels,
) -> Side:
    corpus = load_dataset(dataset, unknown_judgements="keep").corpus
    runs = []
    for retriever in ("bm25", flags.retriever):
        path = folder / f"{name}.{Path(retriever).name}.trec"
        source = ("--dataset", dataset, "--unknown-judgements", "keep", *given)
        _inpars("search", *source, "--retriever", retriever, "--k", str(DEPTH), "--output", str(path))
        runs.append(cut(read_run(path), DEPTH))
    judged = {query_id: texts[query_id] for query_id in texts if any(g > 0 for g in qrels.get(query_id, {}).values())}
    coverage = bm25_index(corpus).coverage()
    found = findings(judged, runs[0], runs[1], coverage, lambda doc_id: corpus[doc_id].full_text)
    lexical, dense = completed(runs, [True, False], DEPTH)
    table = share_table(list(judged), lexical, [dense], qrels)
    return Side(list(judged), found, table, runs[0], runs[1], qrels)


def _inpars(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "inpars", *arguments], check=True)


if __name__ == "__main__":
    main()
