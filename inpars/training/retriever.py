"""Fine-tune a bi-encoder: the query shall be nearer to its positive than to everything else of the batch.

Losses stand in `embedding_losses`, batches without false negatives in `batch_plan`, the loop is
transformers'.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from sentence_transformers import SentenceTransformer
from torch import Tensor
from transformers import TrainingArguments

from inpars.batches import slices
from inpars.engines.training_attention import train_with_fast_attention
from inpars.errors import ConfigError
from inpars.models import loading as models
from inpars.models.hardware import describe, pick_device, pick_dtype
from inpars.models.networks import check_length
from inpars.progress import SILENT, Progress
from inpars.training.batch_plan import BatchPlan
from inpars.training.batch_trainer import Batches, BatchTrainer
from inpars.training.embedding_batches import Autocast, Collator, embed, in_place, on_device, set_prompts
from inpars.training.embedding_losses import Objective, margin_objective, margins_of, matryoshka, ranking_objective
from inpars.training.examples import TripleTexts
from inpars.training.loop import (
    Curve,
    checkpoint_folder,
    computes_side_by_side,
    run_trainer,
    training_arguments,
    with_less_memory,
    without_dropout,
)
from inpars.training.options import RetrieverOptions, processes, steps_of
from inpars.training.validation import BestWeights, DevSet, searching_value, steps_between

COSINE_SCALE, DOT_SCALE = 20.0, 1.0
RATE, ADAPTER_RATE = 2e-5, 2e-4
MEASURED = 512  # triples
AT_ONCE = 64
MINI_BATCH_SIZES = {"cpu": 16, "cuda": 128}


def train_retriever(
    rows: Sequence[TripleTexts],
    options: RetrieverOptions,
    *,
    output: Path,
    fingerprint: Mapping[str, Any],
    margins: Mapping[TripleTexts, float] | None = None,
    dev: DevSet | None = None,
    progress: Progress = SILENT,
) -> tuple[Curve, str]:
    """Train on the rows and save a sentence-transformers folder; the loss curve and the device.

    `margins` are the teacher's, which margin-mse needs. With `dev` the best weights are saved.
    """
    device = pick_device(options.device)
    dtype = pick_dtype(options.dtype, device)
    model = _load(options, device)
    train_with_fast_attention(getattr(model[0], "auto_model", None), dtype)
    objective = _objective(model, options)
    prompts = set_prompts(model, options.query_prefix, options.document_prefix)
    size = options.mini_batch_size or MINI_BATCH_SIZES.get(device.type, MINI_BATCH_SIZES["cpu"])
    collator = Collator(model, prompts, options.negatives, size)
    autocast = partial(torch.autocast, device.type, dtype, enabled=dtype == torch.bfloat16)
    if margins is not None:
        scale = options.margin_scale or automatic_scale(margins, rows, collator, autocast, seed=options.seed)
        progress.note(f"train retriever: the teacher's margins are multiplied by {scale:.4g} (--margin-scale)")
        margins = {row: scale * margin for row, margin in margins.items()}
    plan = BatchPlan(rows, options.batch_size, seed=options.seed, negatives=options.negatives)
    steps = steps_of(plan.batches, options)
    start = {name: weight.clone() for name, weight in model.state_dict().items()} if options.start_share else {}
    adapters = _adapters(model, options.lora_rank)
    arguments = training_arguments(options, device, checkpoint_folder(output), steps)
    trainer = BatchTrainer(
        model=model,
        args=_whole_batches(arguments, steps, options.learning_rate or (ADAPTER_RATE if adapters else RATE)),
        train_dataset=Batches(rows, plan, collator, margins, steps * options.gradient_accumulation * processes()),
        data_collator=lambda items: items[0],
    )
    trainer.objective, trainer.autocast, trainer.cached = objective, autocast, options.loss == "cached-mnrl"
    trainer.side_by_side = computes_side_by_side(options, device, dtype)
    best = None if dev is None else BestWeights(model, lambda: _value(model, dev, autocast), checkpoint_folder(output))

    def save(folder: Path) -> None:
        if best is not None:
            best.restore()
        if adapters is not None:
            adapters.merge_and_unload()
        _mix_in(model, start, options.start_share)
        model.save_pretrained(str(folder), create_model_card=False)

    curve = run_trainer(
        trainer,
        settings=fingerprint,
        output=output,
        save=save,
        progress=progress,
        description="train retriever",
        validate=best,
        validate_every=steps_between(options),
        patience=options.patience,
    )
    return curve, describe(device, dtype)


def _whole_batches(arguments: dict[str, Any], steps: int, learning_rate: float) -> TrainingArguments:
    """The trainer's settings where an item of the dataset is a whole batch."""
    own = {
        "max_steps": steps,
        "learning_rate": learning_rate,
        "per_device_train_batch_size": 1,
        "remove_unused_columns": False,
        "bf16": False,  # we compute in autocast, the loss itself in float32
    }
    return TrainingArguments(**(arguments | own))


def check_retriever(options: RetrieverOptions) -> None:
    """Raise ConfigError where settings do not go together, before anything is computed."""
    options.dimensions  # noqa: B018 - it raises
    if options.loss == "margin-mse" and not options.negatives:
        raise ConfigError("--loss margin-mse compares positives with negatives; leave --no-negatives out")
    if options.loss != "margin-mse" and options.teacher is not None:
        raise ConfigError(f"--loss {options.loss} has no teacher; give --loss margin-mse, or leave --teacher out")
    if options.start_share >= 1:
        raise ConfigError(f"--start-share is {options.start_share:g}, which would undo the training; give less than 1")


def _load(options: RetrieverOptions, device: torch.device) -> SentenceTransformer:
    model = models.load_sentence_transformer(
        options.model,
        device=str(device),
        dtype="float32",
        pooling=options.pooling,
        trust_remote_code=options.trust_remote_code,
    )
    if options.max_length is not None:
        check_length(model, options.model, options.max_length)
        model.max_seq_length = options.max_length
    without_dropout(model, options.dropout)
    if options.gradient_checkpointing:
        with_less_memory(model[0].auto_model)
    return model


def _objective(model: SentenceTransformer, options: RetrieverOptions) -> Objective:
    cosine = model.similarity_fn_name != "dot"
    if options.loss == "margin-mse":
        objective = margin_objective(cosine=cosine)
    else:
        scale = options.scale if options.scale is not None else (COSINE_SCALE if cosine else DOT_SCALE)
        objective = ranking_objective(scale, cosine=cosine)
    width = model.get_embedding_dimension()
    if width is not None and max(options.dimensions, default=0) > width:
        raise ConfigError(f"--matryoshka-dims is {options.matryoshka_dims}; embeddings of {options.model} have {width}")
    return matryoshka(objective, options.dimensions) if options.dimensions else objective


def _adapters(model: SentenceTransformer, rank: int) -> Any:  # noqa: ANN401
    """Low-rank matrices put into the network in place, None for rank 0 (Hu et al., arXiv 2106.09685)."""
    network: Any = model[0].auto_model
    settings = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear")
    return get_peft_model(network, settings) if rank else None


def _mix_in(model: SentenceTransformer, start: Mapping[str, Tensor], share: float) -> None:
    """Move the weights towards those of the start, in place (Wortsman et al., arXiv 2109.01903)."""
    for name, weight in model.state_dict().items():
        if name in start and weight.is_floating_point():
            weight.lerp_(start[name], share)


def _value(model: SentenceTransformer, dev: DevSet, autocast: Autocast) -> float:
    """nDCG@10 of a search among the dev queries' candidates."""

    def similarities(queries: list[str], documents: list[str]) -> Tensor:
        settings: dict[str, Any] = {"show_progress_bar": False, "convert_to_tensor": True}
        with autocast():
            found, all_of_them = model.encode_query(queries, **settings), model.encode_document(documents, **settings)
        return model.similarity(found.float(), all_of_them.float()).cpu()

    model.eval()
    return searching_value(dev, similarities)


def automatic_scale(
    margins: Mapping[TripleTexts, float],
    rows: Sequence[TripleTexts],
    collator: Collator,
    autocast: Autocast,
    *,
    seed: int,
) -> float:
    """What brings a teacher's margins to the student's scale, for margin-MSE. Raises ConfigError where one is constant.

    A cosine cannot reach differences of logits, so all margins are multiplied by one number: the untrained student's
    standard deviation over the teacher's, on some triples. Their zero stays where it is.
    """
    chosen = random.Random(seed).sample(list(rows), min(len(rows), MEASURED))
    teachers = torch.tensor([margins[row] for row in chosen])
    students = torch.cat([untrained_margins(part, collator, autocast) for part in slices(chosen, AT_ONCE)])
    if len(chosen) < 2 or not teachers.std() > 0 or not students.std() > 0:
        raise ConfigError(f"the margins of {len(chosen)} triples do not differ; give --margin-scale")
    return float(students.std() / teachers.std())


def untrained_margins(rows: Sequence[TripleTexts], collator: Collator, autocast: Autocast) -> Tensor:
    """What the model gives now, (rows,)."""
    model, batch = collator.model, collator(rows)
    with torch.no_grad(), autocast():
        parts = [embed(model, on_device(features, model.device)) for features in batch["batches"]]
    embedded = in_place(torch.cat(parts).cpu(), batch["places"], batch["queries"])
    return margins_of(embedded.of_unit_length() if model.similarity_fn_name != "dot" else embedded)
