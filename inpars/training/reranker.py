"""Fine-tune a reranker on groups of one positive and its negatives.

monoT5 learns to answer true or false (Nogueira et al., arXiv 2003.06713). The other kinds learn to give the positive
the highest margin of its group, by softmax cross-entropy over the group (RankT5, Zhuang et al., arXiv 2210.10634).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from transformers import Trainer, TrainingArguments

from inpars.errors import ConfigError
from inpars.hardware import describe, pick_device, pick_dtype
from inpars.networks import pad_id
from inpars.options import option
from inpars.progress import SILENT, Progress
from inpars.scoring import ScorerKind
from inpars.scoring.loading import load_pair_model
from inpars.scoring.monot5 import MonoT5
from inpars.scoring.pair_model import EncodedPair, PairModel, collate, save_pair_model
from inpars.training.examples import Group, batches_of
from inpars.training.loop import (
    Curve,
    TrainOptions,
    checkpoint_folder,
    run_trainer,
    training_arguments,
    without_dropout,
)

Loss = Literal["auto", "listwise", "pointwise"]
ADAPTER_RATE = 3e-5  # at 2e-4 a query-likelihood reranker ranked worse than before its training
DEFAULT_RANKS = {"causal": 16, "query-likelihood": 16}
DEFAULT_RATES = {"monot5": 3e-4}  # with AdamW; the paper's 1e-3 is Adafactor's


@dataclass(frozen=True, slots=True, kw_only=True)
class RerankerOptions(TrainOptions):
    """How a reranker is trained."""

    model: str = option("smollm2-135m", help="the model to start from: an embedded name, a folder or a hub id")
    kind: ScorerKind | Literal["auto"] = option("auto", help="what it becomes; auto reads its configuration")
    loss: Loss = option("auto", help="auto: pointwise (true or false) for monoT5, listwise for the others")
    batch_size: int = option(8, help="queries a step, each with its positive and negatives", minimum=1)
    lora_rank: int | None = option(
        None,
        help="rank of low-rank adapters (LoRA), merged at the end; 0: all weights (default: 16 for decoders)",
    )
    learning_rate: float | None = option(
        None, help="highest learning rate (default: 3e-5 with adapters, 2e-5 without; 3e-4 for monoT5)"
    )
    true_token: str | None = option(None, help="what the model shall answer where the document is relevant")
    false_token: str | None = option(None, help="what it shall answer where it is not")


def train_reranker(
    groups: Sequence[Group],
    options: RerankerOptions,
    *,
    output: Path,
    fingerprint: Mapping[str, Any],
    progress: Progress = SILENT,
) -> tuple[Curve, str]:
    """Train on the groups and save a Hugging Face folder that `load_scorer` understands; loss curve and device."""
    device = pick_device(options.device)
    model = load_pair_model(
        options.model,
        kind=options.kind,
        device=str(device),
        dtype="float32",
        max_length=options.max_length,
        true_token=options.true_token,
        false_token=options.false_token,
        for_training=True,
        trust_remote_code=options.trust_remote_code,
    )
    pointwise = options.loss == "pointwise" or (options.loss == "auto" and model.kind == "monot5")
    if pointwise and not isinstance(model, MonoT5):
        raise ConfigError(
            f"--loss pointwise is monoT5's; {options.model} becomes a {model.kind} reranker, use listwise"
        )
    without_dropout(model.network, options.dropout)
    model.network.train()
    rank = options.lora_rank if options.lora_rank is not None else DEFAULT_RANKS.get(model.kind, 0)
    rate = options.learning_rate or (ADAPTER_RATE if rank else DEFAULT_RATES.get(model.kind, 2e-5))
    trained = _with_adapters(model.network, rank) if rank else model.network
    steps = max(1, round(batches_of(len(groups), options.batch_size) * options.epochs))
    arguments = TrainingArguments(
        **training_arguments(options, device, checkpoint_folder(output), steps) | {"learning_rate": rate},
        remove_unused_columns=False,
    )
    trainer = _GroupTrainer(
        model=trained,
        args=arguments,
        train_dataset=_Encoded(groups, model),
        data_collator=lambda items: collate_groups(items, pad_id(model.tokenizer)),
    )
    trainer.pair_model, trainer.pointwise = model, pointwise
    curve = run_trainer(
        trainer,
        settings=fingerprint,
        output=output,
        save=lambda folder: _save(model, trained, folder),
        progress=progress,
        description=f"train reranker ({model.kind})",
    )
    return curve, describe(device, pick_dtype(options.dtype, device))


def _with_adapters(network: Any, rank: int) -> Any:  # noqa: ANN401
    """The network with a trainable low-rank product beside each of its matrices (Hu et al., arXiv 2106.09685)."""
    return get_peft_model(network, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear"))


def _save(model: PairModel, trained: Any, folder: Path) -> None:  # noqa: ANN401
    """An ordinary checkpoint: adapters are multiplied into the weights first."""
    if isinstance(trained, PeftModel):
        model.network = trained.merge_and_unload()
    save_pair_model(model, folder)


class _Encoded(torch.utils.data.Dataset[list[EncodedPair]]):
    """Groups as tokens, made when they are asked for."""

    def __init__(self, groups: Sequence[Group], model: PairModel) -> None:
        self._groups, self._model = groups, model

    def __len__(self) -> int:
        return len(self._groups)

    def __getitem__(self, position: int) -> list[EncodedPair]:
        return self._model.encode(self._groups[position].pairs)


def collate_groups(groups: Sequence[Sequence[EncodedPair]], pad: int) -> dict[str, Tensor]:
    """All pairs of some groups in one batch; `group` and `place` say where each belongs, place 0 being the positive."""
    batch = collate([pair for group in groups for pair in group], pad)
    batch["group"] = torch.tensor([number for number, group in enumerate(groups) for _ in group])
    batch["place"] = torch.tensor([place for group in groups for place in range(len(group))])
    return batch


class _GroupTrainer(Trainer):
    """transformers' trainer with our losses."""

    pair_model: PairModel
    pointwise: bool

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:  # noqa: ANN401
        """Loss of one batch of groups."""
        group, place = inputs.pop("group"), inputs.pop("place")
        if self.pointwise and isinstance(self.pair_model, MonoT5):
            loss = self.pair_model.answer_loss(inputs, place == 0, model)
        else:
            loss = listwise_loss(self.pair_model.margins(inputs, model), group, place)
        return (loss, {}) if return_outputs else loss


def listwise_loss(margins: Tensor, group: Tensor, place: Tensor) -> Tensor:
    """Mean over groups of -log softmax of the positive's margin among its group's, all (pairs,)."""
    table = margins.new_full((int(group.max()) + 1, int(place.max()) + 1), -torch.inf)
    table = table.index_put((group, place), margins)
    return -table.log_softmax(dim=1)[:, 0].mean()
