"""Fine-tunes a reranker on groups of one positive and its negatives.

monoT5 learns to answer true or false (Nogueira et al., arXiv 2003.06713). Every kind can learn to rank a group with one
of `ranking_losses`, from labels or a teacher's scores. Batches are computed in parts of similar length.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import TrainingArguments

from inpars.engines.batch_parallel import in_worker_thread, should_parallelize
from inpars.engines.training_attention import patch_t5_for_bfloat16_training, train_with_fast_attention
from inpars.errors import ConfigError
from inpars.models import loading as models
from inpars.models.folders import CLASSIFIER_ENDING
from inpars.models.hardware import describe, pick_device, pick_dtype
from inpars.models.networks import pad_id
from inpars.models.processor import memory_bytes
from inpars.progress import SILENT, Progress
from inpars.prompts.templates import Prompt
from inpars.rerankers.kinds import RERANKERS, ScorerKind
from inpars.rerankers.load import PUBLISHED, load_pair_model
from inpars.rerankers.pair_model import Batch, EncodedPair, ModelScorer, PairModel, collate, save_pair_model
from inpars.training.examples import Group, batches_of
from inpars.training.gradient_cache import cached_loss, graph_bytes, parallel_loss, plain_loss
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
from inpars.training.losses import LOSSES, POINTWISE, LossName
from inpars.training.options import RerankerOptions, steps_of
from inpars.training.ranking_losses import FUNCTIONS, tables
from inpars.training.validation import BestWeights, DevSet, reranking_value

# Answers for an encoder-decoder whose config names none; they are saved with the model. mT5's vocabulary has no single
# token for `false`, and FLAN-T5 was trained to answer yes or no (Chung et al., arXiv 2210.11416).
YES, TRUE = ("▁yes", "▁no"), ("▁true", "▁false")
FAMILY_ANSWERS = {"t5": TRUE, "mt5": YES, "umt5": YES}  # by model_type of config.json
INSTRUCTED = "flan"  # in the name of a T5 that answers yes or no
ADAPTER_RATE = 3e-5  # at 2e-4 a query-likelihood reranker ranked worse than untrained


def train_reranker(
    groups: Sequence[Group],
    options: RerankerOptions,
    *,
    output: Path,
    fingerprint: Mapping[str, Any],
    dev: DevSet | None = None,
    teacher: Teacher | None = None,
    prompt: Prompt | None = None,
    progress: Progress = SILENT,
) -> tuple[Curve, str]:
    """Train and save a Hugging Face folder for `load_scorer`; returns the loss curve and the device.

    With `dev`, the weights with the best validation are saved. `teacher` has a score for every pair. A query-likelihood
    model is trained with `prompt` around each document, if given, and saves it.
    """
    device = pick_device(options.device)
    dtype = pick_dtype(options.dtype, device)
    model = _load(options, device, prompt)
    loss = choose_loss(options, model.kind, teacher is not None)
    if loss != POINTWISE and not LOSSES[loss].several and any(group.more for group in groups):
        several = [name for name, one in LOSSES.items() if one.several and name != "margin-mse"]
        raise ConfigError(f"--loss {loss} compares one positive; for several use {', '.join(several)}, or --no-graded")
    set_dropout(model.network, options.dropout)
    if options.gradient_checkpointing:
        with_less_memory(model.network)
    model.network.train()
    fast = options.dropout == 0 and train_with_fast_attention(model.network, dtype)  # it has no dropout
    patch_t5_for_bfloat16_training(model.network, dtype)
    if device.type == "cpu" and model.kind == "monot5" and not fast:
        # T5's position biases have gradients, for which torch's fused attention is a third slower
        model.network.set_attn_implementation("eager")
    rank = options.lora_rank if options.lora_rank is not None else RERANKERS[model.kind].lora_rank
    rate = options.learning_rate or (ADAPTER_RATE if rank else RERANKERS[model.kind].learning_rate)
    trained = with_adapters(model.network, rank, options.seed) if rank else model.network
    groups = [with_negatives(group, options.negatives, options.seed) for group in groups]
    examples = EncodedGroups(groups, model, teacher)
    trainer = LossTrainer(
        model=trained,
        args=_arguments(options, device, output, steps_of(batches_of(len(groups), options.batch_size), options), rate),
        train_dataset=examples,
        data_collator=lambda items: collate_groups(items, pad_id(model.tokenizer)),
    )
    parallel = computes_side_by_side(options, device, dtype)
    parallel = parallel and (loss == POINTWISE or getattr(model, "thread_safe", False))
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):  # as the trainer computes
        limit = _tokens_in_memory(model, trained, collate_groups([examples[0]], pad_id(model.tokenizer)), device)
    trainer.batch_loss = _batch_loss(model, loss, _PartsLoss(parallel, limit))
    trainer.model_accepts_loss_kwargs = False  # losses are means
    best = None
    if dev is not None:
        best = BestWeights(trained, lambda: _value(dev, model, device, dtype), checkpoint_folder(output))
    curve = run_trainer(
        trainer,
        settings=fingerprint,
        output=output,
        save=lambda folder: _save(model, trained, folder, best),
        progress=progress,
        description=f"train reranker ({model.kind})",
        validate=best,
        validate_every=options.validate_every,
        patience=options.patience,
    )
    return curve, describe(device, dtype)


def choose_loss(options: RerankerOptions, kind: ScorerKind, has_teacher: bool) -> LossName:
    """The loss by name. Raises ConfigError for one that does not fit the kind or the teacher."""
    default_loss = RERANKERS[kind].loss
    loss = options.loss if options.loss != "auto" else "margin-mse" if has_teacher else default_loss
    if loss == POINTWISE != default_loss:
        raise ConfigError(
            f"--loss pointwise is monoT5's; {options.model} becomes a {kind} reranker, use listwise or bce"
        )
    distilling = [name for name, one in LOSSES.items() if one.teacher]
    if has_teacher and loss not in distilling:
        raise ConfigError(f"--loss {loss} does not read a teacher's scores; use {', '.join(distilling)}")
    if loss == "margin-mse" and not has_teacher:
        raise ConfigError("--loss margin-mse learns a teacher's scores; give --teacher MODEL")
    return loss


def _load(options: RerankerOptions, device: torch.device, prompt: Prompt | None) -> PairModel:
    answers: Any = (options.true_token, options.false_token)
    if answers == (None, None) and options.kind in ("auto", "monot5"):
        config = models.load_config(options.model, trust_remote_code=options.trust_remote_code)
        classifies = any(name.endswith(CLASSIFIER_ENDING) for name in config.architectures or [])
        if config.is_encoder_decoder and not classifies:
            answers = taught_answers(options.model, config) or answers
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)  # for a new head
        return load_pair_model(
            options.model,
            kind=options.kind,
            device=str(device),
            dtype="float32",
            max_length=options.max_length,
            true_token=answers[0],
            false_token=answers[1],
            prompt=prompt,
            for_training=True,
            trust_remote_code=options.trust_remote_code,
        )


def taught_answers(model: str, config: Any) -> tuple[str, str] | None:
    """The answers to train an encoder-decoder with; None if it has its own. Raises ConfigError for unknown families."""
    saved = getattr(config, "inpars", None) or {}
    if "true_token" in saved or any(model.startswith(prefix) for prefix, *_ in PUBLISHED):
        return None
    family = getattr(config, "model_type", "")
    if family not in FAMILY_ANSWERS:
        raise ConfigError(
            f"{model}: the answer words of a {family or 'nameless'} checkpoint are unknown; name two words of its "
            "vocabulary, each one token, with --true-token and --false-token"
        )
    return YES if family == "t5" and INSTRUCTED in model.lower() else FAMILY_ANSWERS[family]


def _arguments(
    options: RerankerOptions, device: torch.device, output: Path, steps: int, rate: float
) -> TrainingArguments:
    common = training_arguments(options, device, checkpoint_folder(output), steps)
    reranker_arguments = {
        "learning_rate": rate,
        "lr_scheduler_type": "linear" if options.schedule == "linear" else "constant_with_warmup",
        "optim": "adafactor" if options.optimizer == "adafactor" else "adamw_torch_fused",
        "remove_unused_columns": False,
    }
    return TrainingArguments(**common | reranker_arguments)


def _save(model: PairModel, trained: Any, folder: Path, best: BestWeights | None) -> None:
    """Save the best weights as an ordinary checkpoint, with adapters merged."""
    if best is not None:
        best.restore()
    if isinstance(trained, PeftModel):
        model.network = trained.merge_and_unload()
    save_pair_model(model, folder)


def _value(dev: DevSet, model: PairModel, device: torch.device, dtype: torch.dtype) -> float:
    """The validation metric of the current weights, in the training's number format."""
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        return reranking_value(dev, ModelScorer(model, "in training"))


def _tokens_in_memory(model: PairModel, network: nn.Module, batch: Batch, device: torch.device) -> float:
    """How many tokens of a step may have their graphs in memory at once, judged by `batch`; GPUs have no limit.

    A process that needs more than a computer's memory is killed without a word.
    """
    memory = memory_bytes() if device.type == "cpu" else None
    if memory is None:
        return math.inf
    size = graph_bytes(lambda part: model.margins(part, network), batch, network)
    return float(GRAPHS_SHARE * memory / max(size, 1) * batch["input_ids"].numel())


@dataclass(frozen=True, slots=True)
class _PartsLoss:
    """How the loss of a batch in parts is computed: at once, one thread per part, or in the memory of one part."""

    parallel: bool  # whether parts may run on one thread each
    tokens_in_memory: float  # batches of more tokens read their parts twice, one after the other

    def __call__(
        self,
        parts: Sequence[dict[str, Tensor]],
        compute: Callable[[dict[str, Tensor]], Tensor],
        loss_of: Callable[[Tensor], Tensor],
        network: nn.Module,
    ) -> Tensor:
        """`loss_of` the joined results of `compute`."""
        if sum(part["input_ids"].numel() for part in parts) > self.tokens_in_memory:
            autocast = torch.is_autocast_enabled("cpu")  # ends before the backward pass, which computes again
            return cached_loss(lambda part: _in_autocast(autocast, compute, dict(part)), parts, loss_of)
        if self.parallel and torch.is_grad_enabled() and should_parallelize(len(parts)):
            return parallel_loss(lambda part: _in_own_autocast(compute, part), parts, loss_of, network)
        return plain_loss(compute, parts, loss_of)


def _in_own_autocast(compute: Callable[[dict[str, Tensor]], Tensor], part: dict[str, Tensor]) -> Tensor:
    """The trainer's autocast is per thread."""
    return _in_autocast(True, compute, part) if in_worker_thread() else compute(part)


def _in_autocast(enabled: bool, compute: Callable[[dict[str, Tensor]], Tensor], part: dict[str, Tensor]) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16, enabled=enabled, cache_enabled=False):
        return compute(part)


def _batch_loss(model: PairModel, loss: LossName, total: _PartsLoss) -> Callable[[dict[str, Any], nn.Module], Tensor]:
    """The batch loss as a function of the inputs and the wrapped network."""
    answer_loss: Any = getattr(model, "answer_loss", None)  # only of kinds with a pointwise loss

    def pointwise(inputs: dict[str, Any], network: nn.Module) -> Tensor:
        count = len(inputs["column"])

        def share(part: dict[str, Tensor]) -> Tensor:
            loss: Tensor = answer_loss(part, part["relevance"] > 0, network)
            return (loss * (len(part["column"]) / count))[None]

        return total(by_length(inputs), share, torch.sum, network)

    def ranking(inputs: dict[str, Any], network: nn.Module) -> Tensor:
        parts = by_length(inputs)
        labels, group, column = (torch.cat([part[name] for part in parts]) for name in ("relevance", "group", "column"))

        def of_margins(margins: Tensor) -> Tensor:
            return FUNCTIONS[loss](tables(margins, labels, group, column))

        return total(parts, lambda part: model.margins(part, network), of_margins, network)

    return pointwise if loss == POINTWISE else ranking


GRAPHS_SHARE = 0.4  # of the memory, for what a step keeps until its backward pass
ROWS_ON_CPU, ROWS_ON_GPU = 8, 64  # pairs per forward pass

Teacher: TypeAlias = Mapping[tuple[str, str], float]
"""(query, document) -> score."""


def with_negatives(group: Group, count: int | None, seed: int) -> Group:
    """Sample at most `count` negatives per positive, keeping their order."""
    if count is None or len(group.negatives) <= (limit := count * (1 + len(group.more))):
        return group
    drawn = random.Random(f"{seed}\0{group.query}\0{group.positive}").sample(range(len(group.negatives)), limit)
    return replace(group, negatives=tuple(group.negatives[index] for index in sorted(drawn)))


@dataclass(frozen=True, slots=True)
class LabelledGroup:
    """A group's tokenized pairs, positives first, with their labels."""

    pairs: Sequence[EncodedPair]
    labels: Sequence[float]


class EncodedGroups(torch.utils.data.Dataset[LabelledGroup]):
    """Groups, tokenized on access."""

    def __init__(self, groups: Sequence[Group], model: PairModel, teacher: Teacher | None) -> None:
        self._groups, self._model, self._teacher = groups, model, teacher

    def __len__(self) -> int:
        return len(self._groups)

    def __getitem__(self, position: int) -> LabelledGroup:
        pairs = self._groups[position].pairs
        labels = self._groups[position].labels if self._teacher is None else [self._teacher[pair] for pair in pairs]
        return LabelledGroup(self._model.encode(pairs), labels)


def collate_groups(groups: Sequence[LabelledGroup], pad: int) -> dict[str, Tensor]:
    """All pairs of the groups as one batch; `group` and `column` locate each, column 0 being the best positive."""
    batch = collate([pair for group in groups for pair in group.pairs], pad)
    batch["group"] = torch.tensor([number for number, group in enumerate(groups) for _ in group.pairs])
    batch["column"] = torch.tensor([column for group in groups for column in range(len(group.pairs))])
    batch["relevance"] = torch.tensor([label for group in groups for label in group.labels])
    return batch


def by_length(inputs: Mapping[str, Tensor], rows: int | None = None) -> list[dict[str, Tensor]]:
    """Split the batch into parts of similar length, each padded to its longest row."""
    lengths = inputs["attention_mask"].sum(1)
    rows = rows or (ROWS_ON_CPU if lengths.device.type == "cpu" else ROWS_ON_GPU)
    parts = []
    for index in torch.split(lengths.argsort(descending=True, stable=True), rows):
        width = int(lengths[index[0]])
        parts.append(
            {name: tensor[index][:, :width] if tensor.dim() > 1 else tensor[index] for name, tensor in inputs.items()}
        )
    return parts
