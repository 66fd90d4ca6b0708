"""Cross-encoder and monoT5: ours as shipped against plain `CrossEncoderTrainer` and `Seq2SeqTrainer`.

Both sides see every triple as two examples, in batches of as many pairs, for one pass; all else is each side's default.
The monoT5 has T5-small's size and random weights, and a tokenizer trained on the triples, since none is embedded: its
speed is what counts. `cases` is for `training.py`.
"""

from __future__ import annotations

import functools
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from datasets import Dataset
from sentence_transformers import CrossEncoder
from sentence_transformers.cross_encoder import CrossEncoderTrainer, CrossEncoderTrainingArguments
from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss
from training_cases import Case, Settings, Trained
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
)
from untrained_t5 import untrained_t5

from inpars.models.loading import resolve_model
from inpars.progress import Silent
from inpars.rerankers.kinds import ScorerKind
from inpars.training.examples import TripleTexts, grouped
from inpars.training.reranker import RerankerOptions, train_reranker

PAIRS_A_STEP = 8  # both trainers' default
QUIET = {"report_to": "none", "save_strategy": "no", "disable_tqdm": True, "num_train_epochs": 1}


class Clock(Silent):
    """Seconds from the first step to the last, as our training tells them."""

    def __init__(self) -> None:
        self.seconds, self._started = 0.0, 0.0

    def track(self, items: Any, **_: Any) -> Any:  # noqa: ANN401
        """The steps begin."""
        self._started = time.perf_counter()
        yield from items

    def advance(self, count: int, detail: str = "") -> None:
        """A step is done."""
        self.seconds = time.perf_counter() - self._started


def cases(rows: Sequence[TripleTexts], settings: Settings) -> list[Case]:
    """A case of each kind."""
    encoder = resolve_model(settings.model or "minilm")
    texts = [text for row in rows for text in (row.query, row.positive)]
    sizes = {"num_layers": 1} if settings.quick else {}
    t5 = functools.cache(lambda: untrained_t5(texts, Path(tempfile.mkdtemp()), **sizes))
    return [
        Case(
            "train-cross-encoder-over-sbert",
            lambda rows, seed, folder: ours(rows, seed, folder, encoder, "cross-encoder", "bce", settings),
            lambda rows, seed, folder: sbert(rows, seed, folder, encoder, settings),
            "inpars, bce",
            "CrossEncoderTrainer, BinaryCrossEntropyLoss",
            "reranker",
        ),
        Case(
            "train-monot5-over-trainer",
            lambda rows, seed, folder: ours(rows, seed, folder, t5(), "monot5", "pointwise", settings),
            lambda rows, seed, folder: seq2seq(rows, seed, folder, t5(), settings),
            "inpars, pointwise",
            "Seq2SeqTrainer",
            "reranker",
        ),
    ]


def ours(
    rows: Sequence[TripleTexts],
    seed: int,
    folder: Path,
    model: str,
    kind: ScorerKind,
    loss: Literal["bce", "pointwise"],
    settings: Settings,
) -> Trained:
    """Our trainer with its own defaults, and as many pairs a step as the other side."""
    clock, groups = Clock(), grouped(rows)
    pairs = settings.batch_size or PAIRS_A_STEP
    width = sum(len(group.pairs) for group in groups) / len(groups)
    options = RerankerOptions(
        model=model,
        kind=kind,
        loss=loss,
        batch_size=max(1, round(pairs / width)),
        max_length=settings.max_length,
        seed=seed,
    )
    train_reranker(groups, options, output=folder, fingerprint={"seed": seed}, progress=clock)
    return Trained(len(rows), clock.seconds)


def sbert(rows: Sequence[TripleTexts], seed: int, folder: Path, model: str, settings: Settings) -> Trained:
    """sentence-transformers as its documentation shows it."""
    network = CrossEncoder(model, num_labels=1, max_length=settings.max_length)
    arguments = CrossEncoderTrainingArguments(
        output_dir=str(folder) + ".work",
        per_device_train_batch_size=settings.batch_size or PAIRS_A_STEP,
        seed=seed,
        **QUIET,
    )
    columns = {"query": [], "document": [], "label": []}  # type: dict[str, list[Any]]
    for query, document, label in labelled(rows):
        for name, value in zip(columns, (query, document, float(label)), strict=True):
            columns[name].append(value)
    trainer = CrossEncoderTrainer(
        model=network, args=arguments, train_dataset=Dataset.from_dict(columns), loss=BinaryCrossEntropyLoss(network)
    )
    started = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - started
    network.save_pretrained(str(folder))
    return Trained(len(rows), seconds)


def seq2seq(rows: Sequence[TripleTexts], seed: int, folder: Path, model: str, settings: Settings) -> Trained:
    """The InPars toolkit's way: pairs as texts, the answer as the target."""
    network, tokenizer = AutoModelForSeq2SeqLM.from_pretrained(model), AutoTokenizer.from_pretrained(model)
    words = {True: "true", False: "false"}
    texts = [
        (f"Query: {query} Document: {document} Relevant:", words[label]) for query, document, label in labelled(rows)
    ]
    encoded = tokenizer([text for text, _ in texts], truncation=True, max_length=settings.max_length or 512)
    columns = {"input_ids": encoded["input_ids"], "labels": tokenizer([word for _, word in texts])["input_ids"]}
    arguments = Seq2SeqTrainingArguments(
        output_dir=str(folder) + ".work",
        per_device_train_batch_size=settings.batch_size or PAIRS_A_STEP,
        seed=seed,
        **QUIET,
    )
    trainer = Seq2SeqTrainer(
        model=network,
        args=arguments,
        train_dataset=Dataset.from_dict(columns),
        data_collator=DataCollatorForSeq2Seq(tokenizer, model=network),
    )
    started = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - started
    network.config.inpars = {"kind": "monot5", "true_token": "▁true", "false_token": "▁false"}
    network.save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    return Trained(len(rows), seconds)


def labelled(rows: Sequence[TripleTexts]) -> list[tuple[str, str, bool]]:
    """Each triple's two pairs, a positive that several triples share once, as ours has it."""
    return [
        (query, document, place == 0) for group in grouped(rows) for place, (query, document) in enumerate(group.pairs)
    ]
