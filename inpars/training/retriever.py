"""Fine-tunes a retriever: each query should score its positive above every other document of the batch.

`dense`, `multi_vector` and `sparse` load the model and define the loss of their kind; `batch_plan` avoids false
negatives.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, SequentialSampler
from transformers import TrainingArguments

from inpars.batches import slices
from inpars.engines.batch_parallel import in_worker_thread, should_parallelize
from inpars.engines.training_attention import train_with_fast_attention
from inpars.errors import ConfigError
from inpars.models.compute_options import Placement
from inpars.models.hardware import describe, pick_device, pick_dtype
from inpars.models.networks import check_length
from inpars.models.retrievers import DENSE, RETRIEVERS, SPARSE
from inpars.progress import SILENT, Progress
from inpars.training.batch_plan import BatchPlan
from inpars.training.embedding_batches import Autocast, Collator, embed, on_device, reordered, set_prompts
from inpars.training.embedding_losses import Embedded, Objective
from inpars.training.examples import TripleTexts
from inpars.training.gradient_cache import Features, cached_loss, parallel_loss, plain_loss
from inpars.training.loop import (
    Curve,
    LossTrainer,
    checkpoint_folder,
    computes_side_by_side,
    run_trainer,
    set_dropout,
    training_arguments,
    with_adapters,
    with_less_memory,
)
from inpars.training.options import RetrieverOptions, processes, steps_of
from inpars.training.validation import BestWeights, DevSet, searching_value

RATE, ADAPTER_RATE = 2e-5, 2e-4
SCALE_SAMPLE = 512  # triples that the margin scale is estimated on
SCALE_BATCH = 64
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
    """Train and save a sentence-transformers folder; returns the loss curve and the device.

    `margins` are the teacher's, for margin-MSE. With `dev`, the weights with the best validation are saved.
    """
    device, dtype, kind, collator, autocast = _set_up(options)
    model = collator.model
    train_with_fast_attention(getattr(model[0], "auto_model", None), dtype)
    objective, callbacks = kind.objective(model, options)
    if margins is not None:
        scale = options.margin_scale or automatic_scale(kind, margins, rows, collator, autocast, seed=options.seed)
        progress.note(f"train retriever: the teacher's margins are multiplied by {scale:.4g} (--margin-scale)")
        margins = {row: scale * margin for row, margin in margins.items()}
    plan = BatchPlan(rows, options.batch_size, seed=options.seed, negatives=options.negatives)
    steps = steps_of(plan.batches, options)
    start = {name: weight.detach().clone() for name, weight in model.named_parameters() if options.start_share}
    rank = options.lora_rank
    adapters = with_adapters(model[0].auto_model, rank, options.seed) if rank else None  # in place
    arguments = training_arguments(options, device, checkpoint_folder(output), steps)
    trainer = BatchTrainer(
        model=model,
        args=_whole_batches(arguments, steps, options.learning_rate or (ADAPTER_RATE if adapters else RATE)),
        train_dataset=Batches(rows, plan, collator, margins, steps * options.gradient_accumulation * processes()),
        data_collator=lambda items: items[0],
        callbacks=callbacks,
    )
    trainer.objective, trainer.autocast, trainer.cached = objective, autocast, options.loss == "cached-mnrl"
    trainer.map_batches = computes_side_by_side(options, device, dtype)
    trainer.embedding = None if options.kind == DENSE else kind.embed
    best = None
    if dev is not None:
        best = BestWeights(model, lambda: _value(kind, model, dev, autocast), checkpoint_folder(output))

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
        validate_every=options.validate_every,
        patience=options.patience,
    )
    return curve, describe(device, dtype)


def _whole_batches(arguments: dict[str, Any], steps: int, learning_rate: float) -> TrainingArguments:
    """Trainer settings for a dataset whose items are whole batches."""
    batch_arguments = {
        "max_steps": steps,
        "learning_rate": learning_rate,
        "per_device_train_batch_size": 1,
        "remove_unused_columns": False,
        "bf16": False,  # `BatchTrainer` uses autocast itself and computes the loss in float32
    }
    return TrainingArguments(**(arguments | batch_arguments))


def check_retriever(options: RetrieverOptions) -> None:
    """Raise ConfigError for settings that cannot be combined, before any work starts."""
    options.dimensions  # noqa: B018 - it raises
    _check_kind(options)
    if options.loss == "margin-mse" and not options.negatives:
        raise ConfigError("--loss margin-mse compares positives with negatives; leave --no-negatives out")
    if options.loss != "margin-mse" and options.teacher is not None:
        raise ConfigError(f"--loss {options.loss} has no teacher; give --loss margin-mse, or leave --teacher out")


def _check_kind(options: RetrieverOptions) -> None:
    for flag, value in (("--pooling", options.pooling), ("--matryoshka-dims", options.matryoshka_dims)):
        if value is not None and options.kind != DENSE:
            raise ConfigError(f"{flag} is for the one vector of a bi-encoder; leave it out with --kind {options.kind}")
    defaults = RetrieverOptions()
    flops = (options.flops_queries, options.flops_documents) != (defaults.flops_queries, defaults.flops_documents)
    if flops and options.kind != SPARSE:
        raise ConfigError("--flops-queries and --flops-documents are for --kind sparse; leave them out")


def _load(kind: Any, options: RetrieverOptions, device: torch.device) -> Any:
    where: Placement = {"device": str(device), "dtype": "float32", "trust_remote_code": options.trust_remote_code}
    model = kind.load(options, where)
    if options.max_length is not None:
        check_length(model, options.model, options.max_length)
        model.max_seq_length = options.max_length
        if getattr(model[0], "document_length", None) is not None:  # ColBERT's own limit takes precedence
            model[0].document_length = options.max_length
    set_dropout(model, options.dropout)
    if options.gradient_checkpointing:
        with_less_memory(model[0].auto_model)
    return model


def positives_first(
    rows: Sequence[TripleTexts], options: RetrieverOptions, progress: Progress = SILENT
) -> tuple[int, int]:
    """How many positives the untrained bi-encoder ranks first in their batch, and the number of positives."""
    _, _, kind, collator, autocast = _set_up(options)
    cosine = collator.model.eval().similarity_fn_name != "dot"
    plan = BatchPlan(rows, options.batch_size, seed=options.seed, negatives=options.negatives)
    first, numbers = 0, range(plan.batches)
    for number in progress.track(numbers, total=len(numbers), description="what the retriever knows", unit="batches"):
        embedded = _embedded(kind, collator([rows[row] for row in plan.batch(number)]), collator, autocast)
        embedded = embedded.of_unit_length() if cosine else embedded
        nearest = (embedded.queries @ embedded.documents.T).argmax(dim=1)  # (queries,)
        first += int((nearest == torch.arange(len(nearest))).sum())
    return first, sum(len(plan.batch(number)) for number in numbers)


def _set_up(options: RetrieverOptions) -> tuple[torch.device, torch.dtype, Any, Collator, Autocast]:
    """Device, number format, the module of the kind, the model's collator and its autocast context."""
    device = pick_device(options.device)
    dtype = pick_dtype(options.dtype, device)
    kind: Any = import_module(RETRIEVERS[options.kind].module("training"))
    model = _load(kind, options, device)
    prompts = set_prompts(model, options.query_prefix, options.document_prefix)
    size = options.mini_batch_size or MINI_BATCH_SIZES.get(device.type, MINI_BATCH_SIZES["cpu"])
    collator = Collator(model, prompts, options.negatives, size, tasks=options.kind != DENSE)
    return device, dtype, kind, collator, partial(torch.autocast, device.type, dtype, enabled=dtype == torch.bfloat16)


def _mix_in(model: nn.Module, start: Mapping[str, Tensor], share: float) -> None:
    """Interpolate the weights with the untuned ones, in place (WiSE-FT, Wortsman et al., arXiv 2109.01903)."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name in start:
                weight.lerp_(start[name], share)


def _value(kind: Any, model: Any, dev: DevSet, autocast: Autocast) -> float:
    """nDCG@10 of a search over the candidates of the dev queries."""

    def similarities(queries: list[str], documents: list[str]) -> Tensor:
        with autocast():
            scores: Tensor = kind.similarities(model, queries, documents)
        return scores

    model.eval()
    return searching_value(dev, similarities)


def automatic_scale(
    kind: Any,
    margins: Mapping[TripleTexts, float],
    rows: Sequence[TripleTexts],
    collator: Collator,
    autocast: Autocast,
    *,
    seed: int,
) -> float:
    """The factor from the teacher's margins to the student's scale, for margin-MSE.

    Cosines cannot reach differences of logits, so margins are multiplied by the untrained student's standard deviation
    over the teacher's, measured on a sample. Raises ConfigError if either is 0.
    """
    sample = random.Random(seed).sample(list(rows), min(len(rows), SCALE_SAMPLE))
    teachers = torch.tensor([margins[row] for row in sample])
    parts = slices(sample, SCALE_BATCH)
    embedded = (_embedded(kind, collator(part), collator, autocast) for part in parts)
    students = torch.cat([kind.margins(collator.model, part) for part in embedded])
    if len(sample) < 2 or not teachers.std() > 0 or not students.std() > 0:
        raise ConfigError(f"the margins of {len(sample)} triples do not differ; give --margin-scale")
    return float(students.std() / teachers.std())


def _embedded(kind: Any, batch: dict[str, Any], collator: Collator, autocast: Autocast) -> Embedded:
    """A batch's embeddings by the current model, without gradients."""
    model = collator.model
    with torch.no_grad(), autocast():
        parts = [kind.embed(model, on_device(features, model.device)) for features in batch["batches"]]
    return reordered(torch.cat(parts).cpu(), batch["places"], batch["queries"])


Embed: TypeAlias = Callable[[Any, Features], Tensor]  # of the (wrapped) network and a mini-batch


class Batches(Dataset[dict[str, Any]]):
    """All batches of a training, in the order of its steps."""

    def __init__(
        self,
        rows: Sequence[TripleTexts],
        plan: BatchPlan,
        collator: Collator,
        margins: Mapping[TripleTexts, float] | None,
        count: int,
    ) -> None:
        self._rows, self._plan, self._collator, self._margins, self._count = rows, plan, collator, margins, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> dict[str, Any]:
        chosen = [self._rows[position] for position in self._plan.batch(number)]
        return self._collator(chosen, None if self._margins is None else [self._margins[row] for row in chosen])


class BatchTrainer(LossTrainer):
    """Trains on whole batches, in order, with one of our losses."""

    objective: Objective
    autocast: Autocast
    cached: bool
    map_batches: bool  # whether mini-batches may run on one thread each
    embedding: Embed | None = None  # for kinds with more than one vector per text

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        network: Any = self.model
        names = {name for name, _ in (*network.named_parameters(), *network.named_buffers())}
        super()._save(output_dir, {name: tensor for name, tensor in network.state_dict().items() if name in names})

    def _get_train_sampler(self, *_: Any) -> SequentialSampler:
        return SequentialSampler(self.train_dataset)  # type: ignore[arg-type]

    def batch_loss(self, inputs: dict[str, Any], model: nn.Module) -> Tensor:
        def embed_one(features: Features) -> Tensor:
            with self.autocast(cache_enabled=not in_worker_thread()):  # threads share autocast's cache
                return (self.embedding or embed)(model, features)

        def loss_of(embeddings: Tensor) -> Tensor:
            embedded = reordered(embeddings, inputs["places"], inputs["queries"])
            with torch.autocast(embeddings.device.type, enabled=False):
                return self.objective(embedded, inputs["margins"])

        batches = inputs["batches"]
        if self.map_batches and not self.cached and torch.is_grad_enabled() and should_parallelize(len(batches)):
            return parallel_loss(embed_one, batches, loss_of, model)
        with self.autocast():  # casts weights to bfloat16 once for all mini-batches
            return (cached_loss if self.cached else plain_loss)(embed_one, batches, loss_of)
