"""Shared by all trainings: transformers' training loop with our losses, checkpoints, progress and validation steps.

A killed training resumes from its last checkpoint in `<output>.checkpoints`, which is deleted once the model is saved.
`inpars.training.validation` defines what a validation measures and keeps the best weights.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import PrinterCallback, ProgressCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from inpars import tracking
from inpars.errors import BackendError, ConfigError
from inpars.io.storage import replace_folder, storage_errors
from inpars.models.hardware import pick_dtype
from inpars.progress import Progress
from inpars.training.options import TrainOptions, processes

CHECKPOINT_SUFFIX = ".checkpoints"
LOGS_PER_TRAINING = 40
TRACKED = ("loss", "grad_norm", "learning_rate")
SECONDS_BETWEEN_CHECKPOINTS = 120.0
SETTINGS_FILE = "settings.json"
VALIDATION_KEY = "validation"


@dataclass(slots=True)
class Curve:
    """Training loss by step and validation metric by step; step 0 is the untrained model."""

    steps: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    validation_steps: list[int] = field(default_factory=list)
    validations: list[float] = field(default_factory=list)


class _Reporter(TrainerCallback):
    """Reports steps and losses to a `Progress` and the tracker; requests a checkpoint every two minutes."""

    def __init__(self, progress: Progress, description: str) -> None:
        self._progress, self._description = progress, description
        self._track: Any = None
        self._loss = ""
        self._saved = time.monotonic()

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        steps = range(state.global_step, state.max_steps)
        track = self._progress.track(
            steps, total=state.max_steps, description=self._description, unit="steps", done=state.global_step
        )
        self._track = iter(track)
        next(self._track, None)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._progress.advance(1, self._loss)
        next(self._track, None)
        due = time.monotonic() - self._saved > SECONDS_BETWEEN_CHECKPOINTS and state.global_step < state.max_steps
        if due and args.world_size == 1:
            control.should_save = True
            self._saved = time.monotonic()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if "loss" in (logs or {}):
            self._loss = f"loss {float(logs['loss']):.4f}"
            subject = _subject(self._description)
            values = {f"{subject}/{name}": float(logs[name]) for name in TRACKED if name in logs}
            tracking.log(values, state.global_step)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        for _rest in self._track:
            pass


def _curve(log: Sequence[Mapping[str, Any]]) -> Curve:
    losses = [entry for entry in log if "loss" in entry]
    validations = [entry for entry in log if VALIDATION_KEY in entry]
    return Curve(
        [int(entry["step"]) for entry in losses],
        [round(float(entry["loss"]), 5) for entry in losses],
        [int(entry["step"]) for entry in validations],
        [float(entry[VALIDATION_KEY]) for entry in validations],
    )


class _Validating(TrainerCallback):
    """Validates before the first step, every N steps if any and after the last; stops early after `patience`.

    Values are kept in the trainer's log, which is part of a checkpoint.
    """

    def __init__(self, validate: Callable[[], float], every: int | None, patience: int | None, name: str) -> None:
        self._validate, self._every, self._patience, self._name = validate, every, patience, name

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 0:
            self._measure(state)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        due = bool(self._every) and state.global_step % self._every == 0
        if due or state.global_step >= state.max_steps:
            values = self._measure(state)
            since_best = len(values) - 1 - values.index(max(values))
            if self._patience is not None and since_best >= self._patience:
                control.should_training_stop = True

    def _measure(self, state: Any) -> list[float]:
        """Validate; all values so far."""
        with torch.random.fork_rng():  # validation must not change dropout or shuffling
            value = self._validate()
        tracking.log({self._name: value}, state.global_step)
        state.log_history.append({VALIDATION_KEY: value, "step": state.global_step})
        return [entry[VALIDATION_KEY] for entry in state.log_history if VALIDATION_KEY in entry]


def computes_side_by_side(options: TrainOptions, device: torch.device, dtype: torch.dtype) -> bool:
    """Whether the parts of a batch may run on one thread each: bfloat16 on a CPU, without random numbers."""
    plain = options.dropout == 0 and not options.gradient_checkpointing and processes() == 1
    return plain and device.type == "cpu" and dtype == torch.bfloat16


class LossTrainer(Trainer):
    """transformers' trainer with our own loss: `batch_loss(inputs, wrapped network)`."""

    batch_loss: Callable[[dict[str, Any], nn.Module], Tensor]

    def __init__(self, *, args: TrainingArguments, **others: Any) -> None:
        """One process trains on one device: the trainer would split each batch among all GPUs of a machine."""
        args._n_gpu = min(args.n_gpu, 1)
        super().__init__(args=args, **others)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        loss = self.batch_loss(inputs, model)
        if not torch.isfinite(loss):  # the trainer leaves such losses out of its log, and would save weights of NaN
            step = self.state.global_step + 1
            raise BackendError(f"the loss of step {step} is {loss.item()}: training diverged; lower --learning-rate")
        return (loss, {}) if return_outputs else loss


def training_arguments(options: TrainOptions, device: torch.device, folder: Path, total_steps: int) -> dict[str, Any]:
    """`TrainingArguments` shared by all trainings. Raises ConfigError for another GPU than the first."""
    if device.index:  # the trainer uses the first, whatever is given
        visible = f"CUDA_VISIBLE_DEVICES={device.index}"
        raise ConfigError(f"--device {device}: trainings use the first GPU; set {visible} instead")
    return {
        "output_dir": str(folder),
        "num_train_epochs": options.epochs,
        "max_steps": options.max_steps or -1,
        "per_device_train_batch_size": options.batch_size,
        "gradient_accumulation_steps": options.gradient_accumulation,
        "learning_rate": options.learning_rate,
        "warmup_steps": round(total_steps * options.warmup),
        "weight_decay": options.weight_decay,
        "seed": options.seed,
        "data_seed": options.seed,
        "bf16": pick_dtype(options.dtype, device) == torch.bfloat16,
        "use_cpu": device.type == "cpu",
        "dataloader_pin_memory": device.type != "cpu",
        "logging_steps": max(1, total_steps // LOGS_PER_TRAINING),
        "save_strategy": "no",  # `_Reporter` requests checkpoints by time
        "save_total_limit": 1,
        "report_to": "none",
        "disable_tqdm": True,
    }


def run_trainer(
    trainer: Any,
    *,
    settings: Mapping[str, Any],
    output: Path,
    save: Callable[[Path], None],
    progress: Progress,
    description: str,
    validate: Callable[[], float] | None = None,
    validate_every: int | None = None,
    patience: int | None = None,
) -> Curve:
    """Train, resuming from the last checkpoint with the same settings, and save the model to `output`.

    `validate` returns a metric, higher is better. It runs before the first step, every `validate_every` steps, if any,
    and after the last; training stops after `patience` values without improvement. It may keep the best weights in
    `checkpoint_folder(output)` for `save` to restore.

    With several processes (torchrun) the first one saves and the others exit after training. They write no checkpoints,
    because their clocks differ. Raises ConfigError if they would have to validate.
    """
    folder = checkpoint_folder(output)
    if trainer.args.world_size > 1 and validate is not None:
        raise ConfigError("several processes cannot validate while they train; leave --validate-every out")
    with trainer.accelerator.main_process_first():
        checkpoint = _usable_checkpoint(folder, settings, progress)
    for callback in list(trainer.callback_handler.callbacks):
        if isinstance(callback, PrinterCallback | ProgressCallback) or "ModelCard" in type(callback).__name__:
            trainer.remove_callback(callback)
    if validate is not None:
        trainer.add_callback(_Validating(validate, validate_every, patience, f"{_subject(description)}/dev"))
    trainer.add_callback(_Reporter(progress, description))
    with storage_errors(folder):
        try:
            trainer.train(resume_from_checkpoint=checkpoint)
        except torch.OutOfMemoryError as error:
            raise BackendError(f"{description}: out of GPU memory; lower --batch-size or --max-length") from error
        if trainer.args.process_index > 0:
            raise SystemExit(0)
        working = output.with_name(f".{output.name}.tmp")
        shutil.rmtree(working, ignore_errors=True)
        if getattr(getattr(trainer.model, "config", None), "use_cache", None) is False:
            trainer.model.config.use_cache = True  # disabled by the trainer; `generate` is much slower without it
        save(working)
    replace_folder(working, output)
    shutil.rmtree(folder, ignore_errors=True)
    return _curve(trainer.state.log_history)


def _subject(description: str) -> str:
    """`reranker` for `train reranker (monot5)`."""
    return description.split()[1]


def checkpoint_folder(output: Path) -> Path:
    """The folder of a running training's checkpoints."""
    return output.with_name(output.name + CHECKPOINT_SUFFIX)


def set_dropout(network: torch.nn.Module, dropout: float) -> None:
    """Set every dropout rate of a network."""
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = dropout
        for name in ("dropout", "dropout_prob", "attention_dropout", "dropout_rate"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, dropout)


def with_adapters(network: Any, rank: int, seed: int) -> Any:
    """The network with LoRA adapters on all linear layers (Hu et al., arXiv 2106.09685)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # for the adapters
        return get_peft_model(network, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear"))


def with_less_memory(network: Any) -> None:
    """Turn on gradient checkpointing: activations are recomputed in the backward pass."""
    names = ("activation_checkpointing_enable", "gradient_checkpointing_enable")  # transformers' new and old name
    next(getattr(network, name) for name in names if hasattr(network, name))({"use_reentrant": False})


def _usable_checkpoint(folder: Path, settings: Mapping[str, Any], progress: Progress) -> str | None:
    marker, fingerprint = folder / SETTINGS_FILE, json.dumps(dict(settings), sort_keys=True, default=str)
    with storage_errors(folder):
        if not marker.exists() or marker.read_text(encoding="utf-8") != fingerprint:
            if marker.exists():
                progress.note(f"{folder}: removing checkpoints made with other settings")
            shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        marker.write_text(fingerprint, encoding="utf-8")
    checkpoint: str | None = get_last_checkpoint(str(folder))  # type: ignore[no-untyped-call]
    if checkpoint is not None and not (Path(checkpoint) / "trainer_state.json").exists():
        shutil.rmtree(checkpoint)  # incomplete: the process was killed while writing it
        checkpoint = get_last_checkpoint(str(folder))  # type: ignore[no-untyped-call]
    if checkpoint is not None:
        progress.note(f"resuming from {checkpoint}")
    return checkpoint
