"""Samples a second of training: ours as shipped against the usual trainers with their defaults, in one go.

The sides take turns; medians are compared. Triples come from a file, or their like is made of a collection's documents:
the first words as the query, the document as the positive, another one as the negative. Run it on an idle machine:

    python scripts/bench/training.py --triples FILE --triples-limit 512 --repeats 3
    python scripts/bench/training.py --triples FILE --dev beir/nfcorpus/dev --seeds 3     and dev nDCG@10 of each side
    python scripts/bench/training.py --quick                                              python-docs, a minute
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from allocator import as_shipped
from machine import print_tier
from training_cases import Case, Settings

from inpars.documents.datasets import load_dataset
from inpars.documents.selection import choose_documents
from inpars.evaluation.measures import evaluate
from inpars.models.hardware import describe, pick_device, pick_dtype
from inpars.records import Query, Run
from inpars.rerankers import load_scorer
from inpars.retrieval.bm25 import bm25_index
from inpars.retrieval.dense import Encoder
from inpars.training.examples import TripleTexts, read_triple_texts

MODULES = {"retriever": "training_retriever", "rerankers": "training_rerankers"}
QUERY_WORDS = 8
WARMING = 8  # triples
QUICK_TRIPLES, QUICK_BATCH = 64, 16
METRIC, DEPTH = "nDCG@10", 100


def stand_ins(dataset: str, count: int) -> list[TripleTexts]:
    """Triples of a collection's documents, for speed alone."""
    documents = choose_documents(load_dataset(dataset).corpus, maximum=count, minimum_characters=200).documents
    texts = [" ".join(document.full_text.split()) for document in documents]
    return [
        TripleTexts(" ".join(text.split()[:QUERY_WORDS]), text, texts[number - 1]) for number, text in enumerate(texts)
    ]


class Dev:
    """Judged queries of a collection, and what a trained model makes of them."""

    def __init__(self, name: str, most_queries: int) -> None:
        dataset = load_dataset(name)
        topics = dataset.topics()
        query_ids = [query_id for query_id in topics.queries if query_id in topics.qrels][:most_queries]
        self._corpus = dataset.corpus
        self._queries = [Query(query_id, topics.queries[query_id]) for query_id in query_ids]
        self._qrels = {query_id: topics.qrels[query_id] for query_id in query_ids}
        self._candidates: Run = {}

    def value(self, kind: str, model: str) -> float:
        """nDCG@10 of exact search, or of BM25's best documents reranked."""
        run = self._searched(model) if kind == "retriever" else self._reranked(model)
        return evaluate(run, self._qrels, [METRIC]).means[METRIC]

    def _searched(self, model: str) -> Run:
        encoder, documents = Encoder(model), list(self._corpus)
        table = torch.from_numpy(encoder.encode_documents([document.full_text for document in documents]))
        queries = torch.from_numpy(encoder.encode_queries([query.text for query in self._queries]))
        best = (queries @ table.T).topk(min(DEPTH, len(documents)), dim=1)
        return {
            query.query_id: {documents[row].doc_id: score for score, row in zip(scores, rows, strict=True)}
            for query, scores, rows in zip(self._queries, best.values.tolist(), best.indices.tolist(), strict=True)
        }

    def _reranked(self, model: str) -> Run:
        if not self._candidates:
            self._candidates = bm25_index(self._corpus).search(self._queries, DEPTH)
        scorer, run = load_scorer(model), Run()
        for query in self._queries:
            doc_ids = list(self._candidates.get(query.query_id, {}))
            scores = scorer.score([(query.text, self._corpus[doc_id].full_text) for doc_id in doc_ids])
            run[query.query_id] = dict(zip(doc_ids, scores, strict=True))
        return run


def compare(case: Case, rows: Sequence[TripleTexts], repeats: int, dev: Dev | None) -> None:
    """Train by turns, each side once on few triples first, and print both sides' rates, values and the ratio."""
    rates: dict[str, list[float]] = {case.our_title: [], case.their_title: []}
    values: dict[str, list[float]] = {case.our_title: [], case.their_title: []}
    for train in (case.ours, case.theirs):
        as_shipped(ours=train is case.ours)
        with TemporaryDirectory() as folder:
            train(rows[:WARMING], 0, Path(folder) / "model")
    for seed in range(repeats):
        for title, train in ((case.our_title, case.ours), (case.their_title, case.theirs)):
            as_shipped(ours=train is case.ours)
            with TemporaryDirectory() as folder:
                model = Path(folder) / "model"
                rates[title].append(train(rows, seed, model).rate)
                print(f"  {title}, training {seed + 1}: {rates[title][-1]:.2f} samples/s", flush=True)
                if dev is not None:
                    values[title].append(dev.value(case.kind, str(model)))
    for title, found in rates.items():
        worth = "".join(f"  {value:.4f}" for value in values[title])
        print(f"{title:45} {statistics.median(found):8.2f} samples/s{f'   {METRIC} by seed' if worth else ''}{worth}")
    ours, theirs = (statistics.median(found) for found in rates.values())
    if dev is not None:
        means = [statistics.mean(found) for found in values.values()]
        print(f"mean {METRIC}: ours {means[0]:.4f}, theirs {means[1]:.4f}, difference {means[0] - means[1]:+.4f}")
    print(f"ratio {case.name} {ours / theirs:.2f}", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--triples", type=Path, metavar="PATH", help="file of triples of a real collection")
    parser.add_argument("--dataset", default="python-docs", help="collection without --triples (default: %(default)s)")
    parser.add_argument("--triples-limit", type=int, default=512, metavar="N", help="triples (default: %(default)s)")
    parser.add_argument("--only", choices=MODULES, help="these models alone (default: all)")
    parser.add_argument("--model", help="model to start from (default: each case's own)")
    parser.add_argument("--batch-size", type=int, metavar="N", help="queries a step (default: each case's own)")
    parser.add_argument("--max-length", type=int, metavar="N", help="tokens of a text (default: the model's limit)")
    parser.add_argument("--repeats", type=int, default=1, metavar="N", help="trainings a side (default: %(default)s)")
    parser.add_argument("--dev", metavar="NAME", help="collection whose judged queries say what each model is worth")
    parser.add_argument("--dev-queries", type=int, default=100_000, metavar="N", help="at most so many of them")
    parser.add_argument("--seeds", type=int, metavar="N", help="trainings a side with seeds of their own, for --dev")
    parser.add_argument("--quick", action="store_true", help="few triples, one training a side")
    flags = parser.parse_args()
    print_tier()
    count = QUICK_TRIPLES if flags.quick else flags.triples_limit
    rows = read_triple_texts(flags.triples)[:count] if flags.triples else stand_ins(flags.dataset, count)
    settings = Settings(
        flags.model, flags.batch_size or (QUICK_BATCH if flags.quick else None), flags.max_length, flags.quick
    )
    dev = Dev(flags.dev, flags.dev_queries) if flags.dev else None
    source = flags.triples.name if flags.triples else flags.dataset
    print(f"{len(rows)} triples of {source}, {describe(pick_device(), pick_dtype('auto', pick_device()))}")
    for what, module in MODULES.items():
        if flags.only in (None, what):
            for case in import_module(module).cases(rows, settings):
                compare(case, rows, flags.seeds or flags.repeats, dev)


if __name__ == "__main__":
    main()
