"""Validation during training: measures nDCG@10 on held-out queries and keeps the best weights.

Real dev queries have BM25's top documents as candidates; synthetic ones have their positives, their negatives and
documents of other dev queries. A reranker ranks each query's candidates, a bi-encoder the candidates of all queries.
`inpars.training.loop` decides when to validate and when to stop.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from inpars.errors import ConfigError
from inpars.evaluation.measures import evaluate
from inpars.io.storage import atomic_file
from inpars.protocols import PairScorer
from inpars.records import Qrels, Run
from inpars.training.examples import NO_GRADES, Grades, TripleTexts
from inpars.training.loop import Curve

METRIC = "nDCG@10"
DEV_SHARE = 0.05  # of the distinct positives
MAX_DEV_QUERIES = 200
SEARCH_DEPTH = 100
BEST_WEIGHTS, BEST_VALUE = "best.safetensors", "best.json"


@dataclass(frozen=True, slots=True)
class DevSet:
    """Held-out queries, their candidates and their qrels."""

    queries: Mapping[str, str]
    candidates: Mapping[str, Sequence[str]]  # doc_ids by query_id
    texts: Mapping[str, str]
    qrels: Qrels
    kind: str = "given"

    def describe(self) -> str:
        """A phrase for notes and model cards."""
        return f"{len(self.queries)} {self.kind} dev queries"


def hold_out(
    rows: Sequence[TripleTexts], *, depth: int, seed: int, grades: Grades = NO_GRADES
) -> tuple[list[TripleTexts], DevSet]:
    """Split triples into training triples and a synthetic dev set.

    No positive and no query is on both sides. A query's candidates are its positives, its negatives and, up to `depth`,
    documents of other dev queries. Raises ConfigError if no training triples would remain.
    """
    positives = sorted({row.positive for row in rows}, key=lambda text: _name(str(seed), text))
    dev_size = max(1, round(DEV_SHARE * len(positives)))
    dev_positives = set(positives[: min(dev_size, MAX_DEV_QUERIES)])
    held_out = [row for row in rows if row.positive in dev_positives]
    dev_queries = dict.fromkeys(list(dict.fromkeys(row.query for row in held_out))[:MAX_DEV_QUERIES])
    training = [row for row in rows if row.positive not in dev_positives and row.query not in dev_queries]
    if not training:
        raise ConfigError(
            f"{len(positives)} documents with queries are too few to hold some out; give --dev-queries and --dev-qrels"
        )
    return training, _synthetic(held_out, dev_queries, depth, seed, grades)


def _synthetic(rows: Sequence[TripleTexts], queries: Iterable[str], depth: int, seed: int, grades: Grades) -> DevSet:
    candidates: dict[str, dict[str, None]] = {query: {} for query in queries}
    qrels: Qrels = {}
    for row in rows:
        if row.query in candidates:
            qrels.setdefault(row.query, {})[_name(row.positive)] = grades.get((row.query, row.positive), 1)
            candidates[row.query] |= {row.positive: None, row.negative: None}
    pool = list(dict.fromkeys(text for texts in candidates.values() for text in texts))
    for query, texts in candidates.items():
        drawn = random.Random(f"{seed}\0{query}").sample(pool, min(len(pool), depth + len(texts)))
        texts.update(dict.fromkeys([text for text in drawn if text not in texts][: max(0, depth - len(texts))]))
    return DevSet(
        {query: query for query in candidates},
        {query: [_name(text) for text in texts] for query, texts in candidates.items()},
        {_name(text): text for text in pool},
        qrels,
        "synthetic",
    )


def reranking_value(dev: DevSet, scorer: PairScorer) -> float:
    """nDCG@10 after reranking each query's candidates."""
    pairs = [(query_id, doc_id) for query_id, doc_ids in dev.candidates.items() for doc_id in doc_ids]
    scores = scorer.score([(dev.queries[query_id], dev.texts[doc_id]) for query_id, doc_id in pairs])
    run: Run = {}
    for (query_id, doc_id), score in zip(pairs, scores, strict=True):
        run.setdefault(query_id, {})[doc_id] = score
    return evaluate(run, dev.qrels, [METRIC]).means[METRIC]


def searching_value(dev: DevSet, similarities: Callable[[list[str], list[str]], Any]) -> float:
    """nDCG@10 of a search over the candidates of all queries; `similarities` returns (queries, documents)."""
    doc_ids = list(dev.texts)
    table = np.asarray(similarities(list(dev.queries.values()), list(dev.texts.values())))
    run: Run = {}
    for query_id, row in zip(dev.queries, table, strict=True):
        best = np.argsort(-row, kind="stable")[:SEARCH_DEPTH]
        run[query_id] = {doc_ids[column]: float(row[column]) for column in best}
    return evaluate(run, dev.qrels, [METRIC]).means[METRIC]


class BestWeights:
    """Validates, and saves the trainable weights with the best value until `restore` loads them."""

    def __init__(self, network: nn.Module, measure: Callable[[], float], folder: Path) -> None:
        """`folder` is the training's checkpoint folder, so that a resumed training keeps its best weights."""
        self._network, self._measure, self._folder = network, measure, folder

    def __call__(self) -> float:
        """Measure, and save the weights if they are the best so far."""
        value = self._measure()
        if (best := self.best) is None or value > best:
            state = {name: tensor.detach().contiguous().cpu() for name, tensor in self._trainable()}
            with atomic_file(self._folder / BEST_WEIGHTS) as path:
                save_file(state, path)
            with atomic_file(self._folder / BEST_VALUE) as path:
                path.write_text(json.dumps(value), encoding="utf-8")
        return value

    @property
    def best(self) -> float | None:
        path = self._folder / BEST_VALUE
        return float(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None

    def restore(self) -> None:
        if self.best is None:
            return
        state = load_file(self._folder / BEST_WEIGHTS)
        with torch.no_grad():
            for name, tensor in self._trainable():
                tensor.copy_(state[name])

    def _trainable(self) -> Iterable[tuple[str, nn.Parameter]]:
        return ((name, tensor) for name, tensor in self._network.named_parameters() if tensor.requires_grad)


def validation_results(curve: Curve) -> dict[str, Any]:
    """The manifest's results of a validation; empty without one."""
    points = [[step, value] for step, value in zip(curve.validation_steps, curve.validations, strict=True)]
    if not points:
        return {}
    step, value = max(points, key=lambda point: point[1])  # the earliest on ties
    results: dict[str, Any] = {"validation": points, "start": points[0][1], "best": {"step": step, METRIC: value}}
    return results | ({"warning": warning} if (warning := worse_than_start(curve)) else {})


def worse_than_start(curve: Curve) -> str | None:
    """A warning if training lowered the dev metric; None otherwise."""
    values = curve.validations
    if len(values) < 2 or max(values) > values[0] or values[-1] == values[0]:
        return None
    return (
        f"training made the model worse: dev {METRIC} {values[0]:.4f} at the start, {values[-1]:.4f} at the end; "
        "keeping the weights of the start"
    )


def _name(*parts: str) -> str:
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=12).hexdigest()
