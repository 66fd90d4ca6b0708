"""Training options and their flags. Loads no torch, so that `inpars train --help` is fast."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from inpars.errors import ConfigError
from inpars.models.compute_options import ComputingOptions
from inpars.models.retrievers import DENSE, RetrieverKindName, kind_words
from inpars.options import POSITIVE, SEED, SHARE, Bounds, option
from inpars.rerankers.kinds import ScorerKind, kind_help, learning_rates
from inpars.training.losses import LossName, loss_help

RecipeName: TypeAlias = Literal["none", "inpars", "small"]

RECIPES: MappingProxyType[RecipeName, dict[str, Any]] = MappingProxyType(
    {
        "none": {},
        # InPars (arXiv 2202.05144) and v2 (2301.01820): 156 steps of 128 examples, half of them negatives. The papers
        # report Adafactor at a constant 1e-3; the authors trained with 3e-4 (InPars issue 21), used here with AdamW.
        "inpars": {
            "model": "castorini/monot5-base-msmarco",
            "loss": "pointwise",
            "max_steps": 156,
            "batch_size": 64,
            "negatives": 1,
            "learning_rate": 3e-4,
            "optimizer": "adamw",
            "schedule": "constant",
            "warmup": 0.0,
            "weight_decay": 0.0,
        },
        # for models up to about 60M parameters, which learn to rank sooner than to answer
        "small": {
            "loss": "listwise",
            "epochs": 2.0,
            "batch_size": 16,
            "negatives": 4,
            "learning_rate": 1e-4,
            "optimizer": "adamw",
            "schedule": "linear",
        },
    }
)
OF_RECIPES = frozenset(name for settings in RECIPES.values() for name in settings)


def with_recipe(recipe: RecipeName, settings: dict[str, Any]) -> dict[str, Any]:
    """The recipe's settings, overridden by `settings`; epochs that are given replace its number of steps."""
    merged = {**RECIPES[recipe], **settings}
    if "epochs" in settings and "max_steps" not in settings:
        merged.pop("max_steps", None)
    return merged


def _recipe_help() -> str:
    lines = (
        f"{name}: " + ", ".join(f"{key.replace('_', '-')} {value}" for key, value in settings.items())
        for name, settings in RECIPES.items()
        if settings
    )
    return "; ".join(lines)


READER_MAX_LENGTH = 384  # same as `inpars.rerankers.answerability.MAX_LENGTH`
RATE = Bounds(above=0, below=100)
PART = Bounds(minimum=0, below=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOptions(ComputingOptions):
    """Settings shared by all trainings."""

    model: str = option("minilm", help="model to start from: embedded name, folder or hub id")
    epochs: float = option(1.0, help="training epochs", bounds=POSITIVE)
    max_steps: int | None = option(None, help="training steps; overrides --epochs", minimum=1)
    batch_size: int = option(32, help="batch size in queries", minimum=1)
    gradient_accumulation: int = option(1, help="batches per optimizer step", minimum=1, advanced=True)
    gradient_checkpointing: bool = option(
        False, help="recompute activations in the backward pass to save memory", advanced=True
    )
    learning_rate: float | None = option(
        2e-5, help="peak learning rate, after warm-up over the first tenth of the steps, before decay to 0", bounds=RATE
    )
    warmup: float = option(0.1, help="share of the steps spent on warm-up", bounds=SHARE, advanced=True)
    weight_decay: float = option(0.01, help="weight decay of AdamW", minimum=0, advanced=True)
    dropout: float = option(0.0, help="dropout; 0 is much faster on a CPU", bounds=PART, advanced=True)
    max_length: int | None = option(
        None, help="maximum input length in tokens (default: the model's limit, at most 256 or 512)", minimum=1
    )
    limit: int | None = option(None, help="use only the first N triples, for a quick try", minimum=1, advanced=True)
    seed: int = option(0, help="seed for shuffling and initialisation", bounds=SEED)


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidatedOptions(TrainOptions):
    """Training options with validation."""

    validate_every: int | None = option(
        None,
        help="measure dev nDCG@10 before training, every N steps and at the end, and keep the best weights; "
        "0: only before and after (default: off)",
        minimum=0,
    )
    patience: int = option(3, help="stop after this many validations without improvement", minimum=1, advanced=True)
    dev_queries: Path | None = option(
        None, help="held-out queries as `inpars split` writes them (default: 5% of the documents, at most 200 queries)"
    )
    dev_qrels: Path | None = option(None, help="judgements of --dev-queries")
    dev_depth: int = option(20, help="candidates per dev query", minimum=2, advanced=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class RerankerOptions(ValidatedOptions):
    """Settings of reranker training."""

    model: str = option("smollm2-135m", help="model to start from: embedded name, folder or hub id")
    kind: ScorerKind | Literal["auto"] = option("auto", help=kind_help("kind to train"))
    recipe: RecipeName = option("none", help=f"preset settings; flags override them ({_recipe_help()})")
    loss: LossName = option(
        "auto",
        help=f"pointwise: the answer token, only for monoT5; {loss_help()} (default: pointwise for monoT5, margin-mse "
        "with a teacher, listwise for the others)",
    )
    teacher: str | None = option(
        None, help="teacher to distil from (default for margin-mse: the scores stored by `inpars triples --rescore`)"
    )
    teacher_prompt: str | None = option(
        None, help="prompt of a teacher that writes queries", metavar="NAME|PATH", advanced=True
    )
    batch_size: int = option(8, help="queries per step, each with its positive and negatives", minimum=1)
    negatives: int | None = option(
        None, help="negatives per positive, drawn from its triples (default: all)", minimum=1, advanced=True
    )
    graded: bool | None = option(
        None,
        help="rank all positives of a query in one list, by the grades kept by inpars triples --graded (default: if "
        "there are any)",
        changes_result="unless default",
    )
    optimizer: Literal["adamw", "adafactor"] = option(
        "adamw", help="optimizer; adafactor needs less memory", advanced=True
    )
    schedule: Literal["linear", "constant"] = option(
        "linear", help="learning rate schedule after warm-up", advanced=True
    )
    lora_rank: int | None = option(
        None, help="LoRA rank, merged after training; 0: train all weights (default: 16 for decoders)", minimum=0
    )
    learning_rate: float | None = option(
        None, help=f"peak learning rate (default: {learning_rates()}, 3e-5 with adapters)", bounds=RATE
    )
    true_token: str | None = option(None, help="output token that means relevant", advanced=True)
    false_token: str | None = option(None, help="output token that means not relevant", advanced=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrieverOptions(ValidatedOptions):
    """Settings of retriever training."""

    kind: RetrieverKindName = option(DENSE, help=f"kind to train ({kind_words()})", changes_result="unless default")
    loss: Literal["mnrl", "cached-mnrl", "margin-mse"] = option(
        "mnrl",
        help="mnrl: in-batch softmax (MultipleNegativesRankingLoss); cached-mnrl: the same for large batches "
        "in constant memory; margin-mse: a teacher's score margins",
    )
    negatives: bool = option(True, help="use mined negatives in addition to in-batch negatives")
    pooling: Literal["mean", "cls", "last"] | None = option(
        None,
        help="pooling of a plain encoder (default: mean; sentence-transformers models have their own)",
        advanced=True,
    )
    scale: float | None = option(
        None,
        help="scale of the similarity before the softmax (default: 20 for cosine, 1 for dot product and MaxSim)",
        bounds=POSITIVE,
        advanced=True,
    )
    teacher: str | None = option(
        None, help="teacher for margin-mse (default: the scores stored by `inpars triples --rescore`)"
    )
    teacher_prompt: str | None = option(
        None, help="prompt of a teacher that writes queries", metavar="NAME|PATH", advanced=True
    )
    margin_scale: float | None = option(
        None,
        help="scale of the teacher's margins (default: so that they spread like the untrained student's)",
        bounds=POSITIVE,
        advanced=True,
    )
    matryoshka_dims: str | None = option(
        None, help="Matryoshka dimensions, 384,256,128,64 for instance", metavar="N,N", advanced=True
    )
    flops_queries: float = option(
        5e-5,
        help="weight of the FLOPS regulariser on queries, for --kind sparse: higher is sparser",
        changes_result="unless default",
        minimum=0,
        advanced=True,
    )
    flops_documents: float = option(
        3e-5, help="the same for documents", changes_result="unless default", minimum=0, advanced=True
    )
    query_prefix: str | None = option(None, help="prefix of every query (default: the model's own)")
    document_prefix: str | None = option(None, help="prefix of every document (default: the model's own)")
    lora_rank: int = option(0, help="LoRA rank, merged after training; 0: train all weights", minimum=0)
    start_share: float = option(
        0.0,
        help="interpolate with the untuned weights (WiSE-FT): their share in the saved model, 0.5 for the mean",
        bounds=PART,
        advanced=True,
    )
    learning_rate: float | None = option(
        None, help="peak learning rate (default: 2e-5; with adapters 2e-4)", bounds=RATE
    )
    mini_batch_size: int | None = option(
        None,
        help="texts per forward pass, sorted by length (default: 16 on a CPU, 128 on a GPU)",
        changes_result=False,
        minimum=1,
        advanced=True,
    )

    @property
    def dimensions(self) -> tuple[int, ...]:
        """Matryoshka dimensions; empty without them. Raises ConfigError."""
        try:
            dimensions = tuple(int(part) for part in (self.matryoshka_dims or "").split(",") if part.strip())
        except ValueError:
            dimensions = (0,)
        if any(width < 1 for width in dimensions):
            raise ConfigError(f"--matryoshka-dims is {self.matryoshka_dims!r}; give numbers like 384,256,128,64")
        return dimensions


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderOptions(TrainOptions):
    """Settings of reader training."""

    model: str = option("minilm", help="encoder to start from: embedded name, folder or hub id")
    epochs: float = option(3.0, help="training epochs", bounds=POSITIVE)
    batch_size: int = option(16, help="text windows per training step", minimum=1)
    learning_rate: float | None = option(
        1e-4, help="peak learning rate, after warm-up over the first tenth of the steps, before decay to 0", bounds=RATE
    )
    max_length: int | None = option(
        None,
        help="maximum tokens of a question and its window of text (default: the model's limit, at most "
        f"{READER_MAX_LENGTH})",
        minimum=16,
    )
    limit: int | None = option(None, help="use only the first N questions, for a quick try", minimum=1)
    held_out: float = option(
        0.2, help="share of the articles held out to calibrate the answer threshold", bounds=PART, advanced=True
    )


def processes() -> int:
    """Number of training processes under torchrun or accelerate, which also set LOCAL_RANK; otherwise 1."""
    rank, size = (os.environ.get(name, "") for name in ("LOCAL_RANK", "WORLD_SIZE"))
    return max(1, int(size)) if rank.isdigit() and size.isdigit() else 1


def steps_of(batches: int, options: TrainOptions) -> int:
    """Optimizer steps for `batches` batches per epoch, divided among the processes."""
    steps_per_epoch = max(1, -(-batches // (options.gradient_accumulation * processes())))
    return options.max_steps or max(1, math.ceil(options.epochs * steps_per_epoch))


def examples_seen(count: int, options: TrainOptions) -> int:
    """How many of `count` examples the steps reach, with fewer steps than an epoch has."""
    batch = options.batch_size * options.gradient_accumulation * processes()
    return min(count, steps_of(-(-count // options.batch_size), options) * batch)
