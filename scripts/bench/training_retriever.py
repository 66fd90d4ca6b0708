"""The bi-encoder's case of the training benchmark: `inpars train retriever` against SentenceTransformerTrainer.

Both train the same model on the same triples for one pass with multiple negatives ranking loss, the same batch size and
learning rate. Everything else is as each side ships it: theirs computes in float32 with the checkpoint's dropout.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import torch
from datasets import Dataset
from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from training_cases import Case, Settings, Train, Trained
from transformers import PrinterCallback, TrainerCallback

from inpars.models.hardware import pick_device
from inpars.models.loading import load_sentence_transformer
from inpars.progress import Silent
from inpars.training.examples import TripleTexts
from inpars.training.retriever import RATE, RetrieverOptions, train_retriever

DEFAULT_MODEL, DEFAULT_BATCH_SIZE = "minilm", 32
Item = TypeVar("Item")


class Clock(Silent):
    """When our steps begin and when the last one ends."""

    def __init__(self) -> None:
        self.begun = self.ended = 0.0

    def track(
        self, items: Iterable[Item], *, total: int | None, description: str, unit: str, done: int = 0
    ) -> Iterator[Item]:
        """Start the clock."""
        self.begun = time.perf_counter()
        yield from items

    def advance(self, count: int, detail: str = "") -> None:
        """Stop it, until the next step."""
        self.ended = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Of all steps."""
        return self.ended - self.begun


class TrainerClock(TrainerCallback):
    """The same for a trainer of transformers."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ANN401
        """Start the clock."""
        self.begun = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ANN401
        """Stop it, until the next step."""
        self.seconds = time.perf_counter() - self.begun


def ours(settings: Settings) -> Train:
    """As `inpars train retriever` does it."""

    def train(rows: Sequence[TripleTexts], seed: int, folder: Path) -> Trained:
        options = RetrieverOptions(
            model=settings.model or DEFAULT_MODEL,
            batch_size=settings.batch_size or DEFAULT_BATCH_SIZE,
            max_length=settings.max_length,
            seed=seed,
        )
        clock = Clock()
        train_retriever(rows, options, output=folder, fingerprint={}, progress=clock)
        return Trained(len(rows), clock.seconds)

    return train


def theirs(settings: Settings) -> Train:
    """As the documentation of sentence-transformers shows it."""

    def train(rows: Sequence[TripleTexts], seed: int, folder: Path) -> Trained:
        model = load_sentence_transformer(
            settings.model or DEFAULT_MODEL, device=pick_device(), dtype=torch.float32
        ).train()
        if settings.max_length is not None:
            model.max_seq_length = settings.max_length
        columns = {name: [getattr(row, name) for row in rows] for name in ("query", "positive", "negative")}
        clock = TrainerClock()
        with TemporaryDirectory() as checkpoints:
            arguments = SentenceTransformerTrainingArguments(
                output_dir=checkpoints,
                num_train_epochs=1,
                per_device_train_batch_size=settings.batch_size or DEFAULT_BATCH_SIZE,
                learning_rate=RATE,
                seed=seed,
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
            )
            trainer = SentenceTransformerTrainer(
                model=model,
                args=arguments,
                train_dataset=Dataset.from_dict(columns),
                loss=MultipleNegativesRankingLoss(model),
                callbacks=[clock],
            )
            trainer.remove_callback(PrinterCallback)
            trainer.train()
        model.save_pretrained(str(folder), create_model_card=False)
        return Trained(len(rows), clock.seconds)

    return train


def cases(rows: Sequence[TripleTexts], settings: Settings) -> list[Case]:
    """One case; the rows say nothing about it."""
    return [
        Case(
            name="train-retriever-over-sbert",
            ours=ours(settings),
            theirs=theirs(settings),
            our_title="bi-encoder, ours as shipped",
            their_title="bi-encoder, SentenceTransformerTrainer",
            kind="retriever",
        )
    ]
