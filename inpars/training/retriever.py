"""Fine-tune a bi-encoder: the query shall be nearer to its positive than to everything else of the batch.

Multiple negatives ranking loss (Henderson et al., arXiv 1705.00652) over in-batch and mined negatives, by
sentence-transformers; no text stands twice in a batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from sentence_transformers.sentence_transformer.training_args import BatchSamplers

from inpars import models
from inpars.hardware import describe, pick_device, pick_dtype
from inpars.options import option
from inpars.progress import SILENT, Progress
from inpars.training.examples import TripleTexts, batches_of
from inpars.training.loop import (
    Curve,
    TrainOptions,
    checkpoint_folder,
    run_trainer,
    training_arguments,
    without_dropout,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrieverOptions(TrainOptions):
    """How a bi-encoder is trained."""

    scale: float = option(20.0, help="factor on the cosine before the softmax, the inverse of a temperature")
    hard_negatives: bool = option(True, help="use the mined negatives beside those of the batch")


def train_retriever(
    rows: Sequence[TripleTexts],
    options: RetrieverOptions,
    *,
    output: Path,
    fingerprint: Mapping[str, Any],
    progress: Progress = SILENT,
) -> tuple[Curve, str]:
    """Train on the rows and save a sentence-transformers folder; the loss curve and the device."""
    device = pick_device(options.device)
    model = models.load_sentence_transformer(
        options.model, device=device, dtype=torch.float32, trust_remote_code=options.trust_remote_code
    )
    if options.max_length is not None:
        model.max_seq_length = options.max_length
    model.model_card_data.widget = [{}]  # else the trainer looks for examples for a model card that is not written
    without_dropout(model, options.dropout)
    steps = max(1, round(batches_of(len(rows), options.batch_size) * options.epochs))
    arguments = SentenceTransformerTrainingArguments(
        **training_arguments(options, device, checkpoint_folder(output), steps),
        batch_sampler=BatchSamplers.NO_DUPLICATES,
    )
    trainer = SentenceTransformerTrainer(
        model=model,
        args=arguments,
        train_dataset=_columns(rows, options),
        loss=MultipleNegativesRankingLoss(model, scale=options.scale),
    )
    curve = run_trainer(
        trainer,
        settings=fingerprint,
        output=output,
        save=lambda folder: model.save_pretrained(str(folder), create_model_card=False),
        progress=progress,
        description="train retriever",
    )
    return curve, describe(device, pick_dtype(options.dtype, device))


def _columns(rows: Sequence[TripleTexts], options: RetrieverOptions) -> Dataset:
    columns = {"anchor": [row.query for row in rows], "positive": [row.positive for row in rows]}
    if options.hard_negatives:
        columns["negative"] = [row.negative for row in rows]
    return Dataset.from_dict(columns)
