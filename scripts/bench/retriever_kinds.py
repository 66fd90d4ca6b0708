"""Training and search of late-interaction and sparse retrievers: ours against sentence-transformers' own, in one go.

Training: `inpars train retriever --kind` against MultiVectorEncoderTrainer and SparseEncoderTrainer, the same model,
triples, batch size, learning rate and loss for one pass. Search: an index of encoded documents (`search`) against the
library's `similarity` over all documents and `topk`. Encoding is timed apart. Texts are words at random in sentences of
natural lengths; `--triples` takes others.

    python scripts/bench/retriever_kinds.py --sparse-model path/to/masked-lm
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from machine import print_tier
from sentence_transformers import (
    MultiVectorEncoder,
    MultiVectorEncoderTrainer,
    SparseEncoder,
    SparseEncoderTrainer,
)
from sentence_transformers.multi_vector_encoder.losses import MultiVectorMultipleNegativesRankingLoss
from sentence_transformers.multi_vector_encoder.training_args import MultiVectorEncoderTrainingArguments
from sentence_transformers.sparse_encoder.losses import SparseMultipleNegativesRankingLoss, SpladeLoss
from sentence_transformers.sparse_encoder.training_args import SparseEncoderTrainingArguments
from training_retriever import Clock, TrainerClock
from transformers import PrinterCallback

from inpars.models.loading import load_multi_vector, load_sparse
from inpars.records import Query
from inpars.retrieval import multi_vector, sparse
from inpars.retrieval.retrievers import Index
from inpars.training.examples import TripleTexts, read_triple_texts
from inpars.training.retriever import RATE, RetrieverOptions, train_retriever

BATCH, K = 16, 100
TRAINERS: dict[str, Any] = {
    "multi-vector": (MultiVectorEncoderTrainer, MultiVectorEncoderTrainingArguments),
    "sparse": (SparseEncoderTrainer, SparseEncoderTrainingArguments),
}
CLASSES: dict[str, Any] = {"multi-vector": MultiVectorEncoder, "sparse": SparseEncoder}
LOADERS: dict[str, Any] = {"multi-vector": partial(load_multi_vector, of_encoder=True), "sparse": load_sparse}
ENCODERS: dict[str, Any] = {"multi-vector": multi_vector.Encoder, "sparse": sparse.Encoder}


def main() -> None:
    """Both kinds, both sides, a table of medians and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="minilm", help="start of the late-interaction retriever (%(default)s)")
    parser.add_argument("--sparse-model", help="masked language model to start the sparse one from (default: left out)")
    parser.add_argument("--triples", type=Path, help="triples.tsv (default: made texts)")
    parser.add_argument("--rows", type=int, default=96, help="triples of a training (%(default)s)")
    parser.add_argument("--documents", type=int, default=512, help="documents of a search (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="of each side, by turns (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="one round of few texts")
    flags = parser.parse_args()
    if flags.quick:
        flags.rows, flags.documents, flags.rounds = 32, 96, 1
    print_tier()
    rows = read_triple_texts(flags.triples)[: flags.rows] if flags.triples else made_rows(flags.rows)
    ratios: list[tuple[str, float]] = []
    for kind, model in (("multi-vector", flags.model), ("sparse", flags.sparse_model)):
        if model is not None:
            with TemporaryDirectory() as folder:
                ratios += measured(kind, model, rows, flags.documents, flags.rounds, Path(folder))
    for name, ratio in ratios:
        print(f"ratio {name} {ratio:.2f}")


def made_rows(count: int) -> list[TripleTexts]:
    """Texts of words that any vocabulary has, with lengths as passages and queries have them."""
    chooser = random.Random(0)
    words = [f"{first}{last}" for first in ("re", "un", "out", "over") for last in ("act", "do", "run", "turn", "come")]

    def text(low: int, high: int) -> str:
        return " ".join(chooser.choices(words, k=chooser.randint(low, high)))

    return [TripleTexts(text(4, 10), text(30, 160), text(30, 160)) for _ in range(count)]


def measured(
    kind: str, model: str, rows: Sequence[TripleTexts], documents: int, rounds: int, folder: Path
) -> list[tuple[str, float]]:
    """Ratios of one kind: training, encoding and search."""
    trained = alternately(
        lambda: train_ours(kind, model, rows, folder / "ours"), lambda: train_theirs(kind, model, rows), rounds
    )
    shown(f"{kind}: training", len(rows), trained)
    texts = [text for row in rows for text in (row.positive, row.negative)]
    texts = [f"{number} {texts[number % len(texts)]}" for number in range(documents)]
    queries = [row.query for row in rows]
    encoded, searched = searches(kind, str(folder / "ours"), queries, texts, rounds)
    shown(f"{kind}: encoding", len(texts), encoded)
    shown(f"{kind}: search", len(queries), searched)
    sides = {"train": trained, "encode": encoded, "search": searched}
    return [(f"{name}-{kind}-over-sbert", theirs / ours) for name, (ours, theirs) in sides.items()]


def alternately(ours: Callable[[], float], theirs: Callable[[], float], rounds: int) -> tuple[float, float]:
    """The median seconds of each side, by turns."""
    found = [(ours(), theirs()) for _ in range(rounds)]
    mine, others = zip(*found, strict=True)
    return statistics.median(mine), statistics.median(others)


def shown(what: str, items: int, seconds: tuple[float, float]) -> None:
    """A line of the table."""
    ours, theirs = seconds
    print(f"{what:26} ours {items / ours:9.2f}/s   sentence-transformers {items / theirs:9.2f}/s", flush=True)


def train_ours(kind: str, model: str, rows: Sequence[TripleTexts], folder: Path) -> float:
    """Seconds of the steps, as `inpars train retriever` does them."""
    options = RetrieverOptions(kind=kind, model=model, batch_size=BATCH, learning_rate=RATE, dtype="float32")
    clock = Clock()
    train_retriever(rows, options, output=folder, fingerprint={}, progress=clock)
    return clock.seconds


def train_theirs(kind: str, name: str, rows: Sequence[TripleTexts]) -> float:
    """Seconds of the steps, as the documentation of sentence-transformers shows them."""
    model = LOADERS[kind](name, for_training=True, device="cpu", dtype="float32").train()
    if kind == "sparse":
        base = SparseMultipleNegativesRankingLoss(model)
        loss: Any = SpladeLoss(model, base, document_regularizer_weight=3e-5, query_regularizer_weight=5e-5)
    else:
        loss = MultiVectorMultipleNegativesRankingLoss(model)
    trainer_class, arguments_class = TRAINERS[kind]
    columns = {field: [getattr(row, field) for row in rows] for field in ("query", "positive", "negative")}
    clock = TrainerClock()
    with TemporaryDirectory() as checkpoints:
        arguments = arguments_class(
            output_dir=checkpoints,
            num_train_epochs=1,
            per_device_train_batch_size=BATCH,
            learning_rate=RATE,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
        )
        trainer = trainer_class(
            model=model, args=arguments, train_dataset=Dataset.from_dict(columns), loss=loss, callbacks=[clock]
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return float(clock.seconds)


def searches(
    kind: str, folder: str, queries: Sequence[str], texts: Sequence[str], rounds: int
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Seconds of encoding and of searching; both sides must find the same scores."""
    ours, theirs = ENCODERS[kind](folder, device="cpu", dtype="float32"), CLASSES[kind](folder, device="cpu")
    encoded = alternately(
        lambda: timed(lambda: ours.encode_documents(texts)),
        lambda: timed(lambda: theirs.encode_document(texts)),
        rounds,
    )
    asked = [Query(str(number), text) for number, text in enumerate(queries)]
    with TemporaryDirectory() as place:
        index = index_of(kind, ours, texts, Path(place))
        kept = theirs.encode_document(texts)

        def library() -> Any:  # noqa: ANN401
            found = theirs.similarity(theirs.encode_query(list(queries)), kept)
            return torch.as_tensor(found).topk(min(K, len(texts)), dim=1)

        run, best = index.search(asked, K), library()
        tops = [max(scores.values(), default=0.0) for scores in run.values()]
        if not np.allclose(tops, best.values[:, 0].numpy(), rtol=2e-3, atol=1e-3):
            raise SystemExit("the two sides find different scores")
        searched = alternately(lambda: timed(lambda: index.search(asked, K)), lambda: timed(library), rounds)
    return encoded, searched


def index_of(kind: str, encoder: Any, texts: Sequence[str], folder: Path) -> Any:  # noqa: ANN401
    """Our index, made without a corpus file."""
    from inpars.records import Document

    ids = [str(number) for number in range(len(texts))]
    made = [Document(doc_id, text) for doc_id, text in zip(ids, texts, strict=True)]
    shard = folder / ("0.npz" if kind == "sparse" else "0.npy")
    encoder.save_documents(shard, made)
    if kind == "sparse":
        find = sparse.SparseIndex([sparse._loaded(shard)], ids, encoder).find
    else:
        find = multi_vector.MultiVectorIndex([shard], ids, encoder).find
    return Index(find, kind, len(texts))


def timed(work: Callable[[], object]) -> float:
    """Seconds of one call."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
