"""Fine-tune a reranker on groups of one positive and its negatives.

monoT5 learns to answer true or false (Nogueira et al., arXiv 2003.06713). Every kind can learn to rank its group by one
of `ranking_losses`, from labels or from a teacher's scores. Batches are computed in parts of like length.
"""

from __future__ import annotations

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
from inpars.progress import SILENT, Progress
from inpars.prompts.templates import Prompt
from inpars.rerankers.kinds import RERANKERS, ScorerKind
from inpars.rerankers.load import PUBLISHED, load_pair_model
from inpars.rerankers.pair_model import EncodedPair, ModelScorer, PairModel, collate, save_pair_model
from inpars.training.examples import Group, batches_of
from inpars.training.gradient_cache import parallel_loss, plain_loss
from inpars.training.loop import (
    Curve,
    LossTrainer,
    checkpoint_folder,
    computes_side_by_side,
    run_trainer,
    set_dropout,
    training_arguments,
    with_adapters,
)
from inpars.training.losses import LOSSES, POINTWISE, LossName, RankingLoss
from inpars.training.options import RerankerOptions, steps_of
from inpars.training.ranking_losses import FUNCTIONS, tables
from inpars.training.validation import BestWeights, DevSet, reranking_value

# What an encoder-decoder that names no answers is taught to say. A vocabulary decides: mT5's has no single token for
# `false`. FLAN-T5 has learnt to answer yes or no (Chung et al., arXiv 2210.11416). The words are saved with the model.
YES, TRUE = ("▁yes", "▁no"), ("▁true", "▁false")
OF_FAMILY = {"t5": TRUE, "mt5": YES, "umt5": YES}  # by model_type of config.json
ANY_LOSS = RankingLoss("", "")
INSTRUCTED = "flan"  # in the name of a T5 that answers yes or no
ADAPTER_RATE = 3e-5  # at 2e-4 a query-likelihood reranker ranked worse than before its training


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
    """Train on the groups and save a Hugging Face folder that `load_scorer` understands; loss curve and device.

    With `dev` it is validated, and the weights of the best value are saved. `teacher` has a score of every pair. A
    query likelihood is shown the `prompt` around every document and keeps it; without one, the document alone.
    """
    device = pick_device(options.device)
    dtype = pick_dtype(options.dtype, device)
    model = _load(options, device, prompt)
    loss = choose_loss(options, model.kind, teacher is not None)
    if not LOSSES.get(loss, ANY_LOSS).several and any(group.more for group in groups):
        several = [name for name, one in LOSSES.items() if one.several and name != "margin-mse"]
        raise ConfigError(f"--loss {loss} compares one positive; for several use {', '.join(several)}, or --no-graded")
    set_dropout(model.network, options.dropout)
    model.network.train()
    fast = options.dropout == 0 and train_with_fast_attention(model.network, dtype)  # which draws nothing
    patch_t5_for_bfloat16_training(model.network, dtype)
    if device.type == "cpu" and model.kind == "monot5" and not fast:
        # its position biases have gradients: torch's joined attention then takes the long way, a third slower
        model.network.set_attn_implementation("eager")
    rank = options.lora_rank if options.lora_rank is not None else RERANKERS[model.kind].lora_rank
    rate = options.learning_rate or (ADAPTER_RATE if rank else RERANKERS[model.kind].learning_rate)
    trained = with_adapters(model.network, rank) if rank else model.network
    groups = [with_negatives(group, options.negatives, options.seed) for group in groups]
    trainer = LossTrainer(
        model=trained,
        args=_arguments(options, device, output, steps_of(batches_of(len(groups), options.batch_size), options), rate),
        train_dataset=EncodedGroups(groups, model, teacher),
        data_collator=lambda items: collate_groups(items, pad_id(model.tokenizer)),
    )
    alone = computes_side_by_side(options, device, dtype)
    alone = alone and (loss == POINTWISE or getattr(model, "thread_safe", False))
    trainer.batch_loss, trainer.model_accepts_loss_kwargs = _batch_loss(model, loss, alone), False  # losses are means
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


def choose_loss(options: RerankerOptions, kind: ScorerKind, taught: bool) -> LossName:
    """The loss by name. Raises ConfigError for one that does not fit the kind or the teacher."""
    default_loss = RERANKERS[kind].loss
    loss = options.loss if options.loss != "auto" else "margin-mse" if taught else default_loss
    if loss == POINTWISE != default_loss:
        raise ConfigError(
            f"--loss pointwise is monoT5's; {options.model} becomes a {kind} reranker, use listwise or bce"
        )
    readers = [name for name, one in LOSSES.items() if one.teacher]
    if taught and loss not in readers:
        raise ConfigError(f"--loss {loss} does not read a teacher's scores; use {', '.join(readers)}")
    if loss == "margin-mse" and not taught:
        raise ConfigError("--loss margin-mse learns a teacher's scores; give --teacher MODEL")
    return loss


def _load(options: RerankerOptions, device: torch.device, prompt: Prompt | None) -> PairModel:
    answers: Any = (options.true_token, options.false_token)
    if answers == (None, None) and options.kind in ("auto", "monot5"):
        config = models.load_config(options.model, trust_remote_code=options.trust_remote_code)
        classifies = any(name.endswith(CLASSIFIER_ENDING) for name in config.architectures or [])
        if config.is_encoder_decoder and not classifies:
            answers = taught_answers(options.model, config) or answers
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
    """The answers to give an encoder-decoder; None where it names its own. Raises ConfigError for other families."""
    saved = getattr(config, "inpars", None) or {}
    if "true_token" in saved or any(model.startswith(prefix) for prefix, *_ in PUBLISHED):
        return None
    family = getattr(config, "model_type", "")
    if family not in OF_FAMILY:
        raise ConfigError(
            f"{model}: nothing is known of the answers of a {family or 'nameless'!s} checkpoint; name two words of its "
            "vocabulary, each one token, with --true-token and --false-token"
        )
    return YES if family == "t5" and INSTRUCTED in model.lower() else OF_FAMILY[family]


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
    """An ordinary checkpoint of the best weights: adapters are multiplied into the others first."""
    if best is not None:
        best.restore()
    if isinstance(trained, PeftModel):
        model.network = trained.merge_and_unload()
    save_pair_model(model, folder)


def _value(dev: DevSet, model: PairModel, device: torch.device, dtype: torch.dtype) -> float:
    """What the network as it is now is worth, scored in the training's number format."""
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        return reranking_value(dev, ModelScorer(model, "in training"))


def _batch_loss(model: PairModel, loss: LossName, alone: bool) -> Callable[[dict[str, Any], nn.Module], Tensor]:
    """The loss of a batch as a function of its inputs and the network as training wraps it.

    `alone` says whether the batch's parts may have a thread each.
    """

    def whole(
        parts: Sequence[dict[str, Tensor]],
        compute: Callable[[dict[str, Tensor]], Tensor],
        loss_of: Callable[[Tensor], Tensor],
        network: nn.Module,
    ) -> Tensor:
        def computed(part: dict[str, Tensor]) -> Tensor:
            if not in_worker_thread():
                return compute(part)
            with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):  # the trainer sets its own thread's alone
                return compute(part)

        if alone and torch.is_grad_enabled() and should_parallelize(len(parts)):
            return parallel_loss(computed, parts, loss_of, network)
        return plain_loss(compute, parts, loss_of)

    answer_loss: Any = getattr(model, "answer_loss", None)  # of a kind whose loss is pointwise

    def answered(inputs: dict[str, Any], network: nn.Module) -> Tensor:
        count = len(inputs["place"])

        def share(part: dict[str, Tensor]) -> Tensor:
            loss: Tensor = answer_loss(part, part["relevance"] > 0, network)
            return (loss * (len(part["place"]) / count))[None]

        return whole(by_length(inputs), share, torch.sum, network)

    def ranked(inputs: dict[str, Any], network: nn.Module) -> Tensor:
        parts = by_length(inputs)
        labels, group, column = (torch.cat([part[name] for part in parts]) for name in ("relevance", "group", "place"))

        def of_margins(margins: Tensor) -> Tensor:
            return FUNCTIONS[loss](tables(margins, labels, group, column))

        return whole(parts, lambda part: model.margins(part, network), of_margins, network)

    return answered if loss == POINTWISE else ranked


ROWS_OF_A_PASS = {"cpu": 8}  # pairs of like length that go through the network together
ROWS_ELSEWHERE = 64

Teacher: TypeAlias = Mapping[tuple[str, str], float]
"""(query, document) -> score."""


def with_negatives(group: Group, count: int | None, seed: int) -> Group:
    """The group with at most so many negatives of each positive, drawn by seed and query, in their order."""
    if count is None or len(group.negatives) <= (limit := count * (1 + len(group.more))):
        return group
    drawn = random.Random(f"{seed}\0{group.query}\0{group.positive}").sample(range(len(group.negatives)), limit)
    return replace(group, negatives=tuple(group.negatives[index] for index in sorted(drawn)))


@dataclass(frozen=True, slots=True)
class LabelledGroup:
    """A group's pairs as tokens, positives first, and what each is worth."""

    pairs: Sequence[EncodedPair]
    labels: Sequence[float]


class EncodedGroups(torch.utils.data.Dataset[LabelledGroup]):
    """Groups as tokens, encoded on access."""

    def __init__(self, groups: Sequence[Group], model: PairModel, teacher: Teacher | None) -> None:
        self._groups, self._model, self._teacher = groups, model, teacher

    def __len__(self) -> int:
        return len(self._groups)

    def __getitem__(self, position: int) -> LabelledGroup:
        pairs = self._groups[position].pairs
        labels = self._groups[position].labels if self._teacher is None else [self._teacher[pair] for pair in pairs]
        return LabelledGroup(self._model.encode(pairs), labels)


def collate_groups(groups: Sequence[LabelledGroup], pad: int) -> dict[str, Tensor]:
    """All pairs of some groups in one batch; `group` and `column` say where each belongs, place 0 being the best."""
    batch = collate([pair for group in groups for pair in group.pairs], pad)
    batch["group"] = torch.tensor([number for number, group in enumerate(groups) for _ in group.pairs])
    batch["place"] = torch.tensor([column for group in groups for column in range(len(group.pairs))])
    batch["relevance"] = torch.tensor([label for group in groups for label in group.labels])
    return batch


def by_length(inputs: Mapping[str, Tensor], rows: int | None = None) -> list[dict[str, Tensor]]:
    """The batch in parts of like length, each padded no further than its longest, so that little padding is computed.

    The loss of a batch does not depend on its parts.
    """
    lengths = inputs["attention_mask"].sum(1)
    rows = rows or ROWS_OF_A_PASS.get(lengths.device.type, ROWS_ELSEWHERE)
    parts = []
    for chosen in torch.split(lengths.argsort(descending=True, stable=True), rows):
        width = int(lengths[chosen[0]])
        parts.append(
            {name: tensor[chosen][:, :width] if tensor.dim() > 1 else tensor[chosen] for name, tensor in inputs.items()}
        )
    return parts
