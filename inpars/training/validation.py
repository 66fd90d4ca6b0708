"""Validation during training: nDCG@10 on queries held out of the triples, and the best weights.

Development queries come with candidates: BM25's of real ones, or of synthetic ones their own documents, their negatives
and other queries'. A reranker orders each query's candidates, a bi-encoder the candidates of all. Reads no files but
its own; who stops a training is `inpars.training.loop`.
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
DEV_SHARE = 0.05  # of the positives' documents
MAX_DEV_QUERIES = 200
SEARCH_DEPTH = 100
BEST_WEIGHTS, BEST_VALUE = "best.safetensors", "best.json"


@dataclass(frozen=True, slots=True)
class DevSet:
    """Held-out queries, the documents each is judged with, and judgements."""

    queries: Mapping[str, str]
    candidates: Mapping[str, Sequence[str]]  # doc_ids by query_id
    texts: Mapping[str, str]
    qrels: Qrels
    kind: str = "given"

    def describe(self) -> str:
        """One phrase for notes and model cards."""
        return f"{len(self.queries)} {self.kind} dev queries"


def hold_out(
    rows: Sequence[TripleTexts], *, depth: int, seed: int, grades: Grades = NO_GRADES
) -> tuple[list[TripleTexts], DevSet]:
    """Triples to train on, and a synthetic development set of other documents.

    A positive's triples stand on one side, and no query stands on both. Candidates of a query are its positives, its
    negatives and, up to `depth`, what was mined for other dev queries. Raises ConfigError where nothing would be left.
    """
    positives = sorted({row.positive for row in rows}, key=lambda text: _name(str(seed), text))
    dev_size = max(1, round(DEV_SHARE * len(positives)))
    chosen = set(positives[: min(dev_size, MAX_DEV_QUERIES)])
    held = [row for row in rows if row.positive in chosen]
    dev_queries = list(dict.fromkeys(row.query for row in held))[:MAX_DEV_QUERIES]
    training = [row for row in rows if row.positive not in chosen and row.query not in set(dev_queries)]
    if not training:
        raise ConfigError(
            f"{len(positives)} documents with queries are too few to hold some out; give --dev-queries and --dev-qrels"
        )
    return training, _synthetic(held, dev_queries, depth, seed, grades)


def _synthetic(held: Sequence[TripleTexts], queries: Sequence[str], depth: int, seed: int, grades: Grades) -> DevSet:
    candidates: dict[str, dict[str, None]] = {query: {} for query in queries}
    qrels: Qrels = {}
    for row in held:
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
    """nDCG@10 of each query's candidates in the scorer's order."""
    pairs = [(query_id, doc_id) for query_id, doc_ids in dev.candidates.items() for doc_id in doc_ids]
    scores = scorer.score([(dev.queries[query_id], dev.texts[doc_id]) for query_id, doc_id in pairs])
    run: Run = {}
    for (query_id, doc_id), score in zip(pairs, scores, strict=True):
        run.setdefault(query_id, {})[doc_id] = score
    return evaluate(run, dev.qrels, [METRIC]).means[METRIC]


def searching_value(dev: DevSet, similarities: Callable[[list[str], list[str]], Any]) -> float:
    """nDCG@10 of a search among the candidates of all queries; `similarities` gives (queries, documents)."""
    query_ids, doc_ids = list(dev.queries), list(dev.texts)
    table = np.asarray(similarities([dev.queries[name] for name in query_ids], [dev.texts[name] for name in doc_ids]))
    run: Run = {}
    for query_id, row in zip(query_ids, table, strict=True):
        best = np.argsort(-row, kind="stable")[:SEARCH_DEPTH]
        run[query_id] = {doc_ids[column]: float(row[column]) for column in best}
    return evaluate(run, dev.qrels, [METRIC]).means[METRIC]


class BestWeights:
    """A validation that keeps the trainable weights of its best value in a folder, until they are put back."""

    def __init__(self, network: nn.Module, measure: Callable[[], float], folder: Path) -> None:
        """`folder` is the training's checkpoint folder; what a killed training kept there is gone on with."""
        self._network, self._measure, self._folder = network, measure, folder

    def __call__(self) -> float:
        """Measure, and keep the weights where there were no better ones."""
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
    """What a manifest's results say of a validation; nothing where there was none."""
    points = [[step, value] for step, value in zip(curve.validation_steps, curve.validations, strict=True)]
    if not points:
        return {}
    step, value = max(points, key=lambda point: point[1])  # the earliest of equals
    results: dict[str, Any] = {"validation": points, "start": points[0][1], "best": {"step": step, METRIC: value}}
    return results | ({"warning": warning} if (warning := worse_than_start(curve)) else {})


def worse_than_start(curve: Curve) -> str | None:
    """The line that says so, None where training helped or made no difference."""
    values = curve.validations
    if len(values) < 2 or max(values) > values[0] or values[-1] == values[0]:
        return None
    return (
        f"training made the model worse: dev {METRIC} {values[0]:.4f} at the start, {values[-1]:.4f} at the end; "
        "keeping the weights of the start"
    )


def _name(*parts: str) -> str:
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=12).hexdigest()
