"""The settings of the trainings, as flags. Loads no torch, so that `inpars train --help` need not wait for it."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from inpars.errors import ConfigError
from inpars.models.compute_options import ComputingOptions
from inpars.models.retrievers import DENSE, RetrieverKindName, kind_words
from inpars.options import POSITIVE, SEED, SHARE, Bounds, option
from inpars.scoring.kinds import ScorerKind, kind_help, learning_rates
from inpars.training.losses import LossName, loss_help
from inpars.training.recipes import RecipeName, described

READER_MAX_LENGTH = 384  # `inpars.scoring.answerability`'s
RATE = Bounds(above=0, below=100)
PART = Bounds(minimum=0, below=1)  # a share that leaves something


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOptions(ComputingOptions):
    """Settings that both trainings know."""

    model: str = option("minilm", help="the model to start from: an embedded name, a folder or a hub id")
    epochs: float = option(1.0, help="passes over the triples", bounds=POSITIVE)
    max_steps: int | None = option(None, help="steps in place of --epochs", minimum=1)
    batch_size: int = option(32, help="queries per training step", minimum=1)
    gradient_accumulation: int = option(1, help="batches whose gradients make one step", minimum=1)
    gradient_checkpointing: bool = option(False, help="compute activations twice, for less memory")
    learning_rate: float | None = option(
        2e-5, help="highest learning rate; it rises over the first tenth and falls to 0", bounds=RATE
    )
    warmup: float = option(0.1, help="share of the steps over which the learning rate rises", bounds=SHARE)
    weight_decay: float = option(0.01, help="weight decay of AdamW", minimum=0)
    dropout: float = option(0.0, help="dropout of the network; 0 is much faster on a processor", bounds=PART)
    max_length: int | None = option(
        None, help="tokens of a text (default: the model's limit, at most 256 or 512)", minimum=1
    )
    limit: int | None = option(None, help="only the first N triples, to try things out", minimum=1)
    seed: int = option(0, help="seed of order and initialisation", bounds=SEED)


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidatedOptions(TrainOptions):
    """Training options with those of a validation."""

    validate_every: int | None = option(
        None,
        help="measure dev nDCG@10 before the first step, every N steps and at the end, and keep the best weights; "
        "0: before and after only (default: not at all)",
        minimum=0,
    )
    patience: int = option(3, help="stop when so many values in a row were no better than the best", minimum=1)
    dev_queries: Path | None = option(
        None, help="held-out queries as `inpars split` writes them (default: 5% of the documents, at most 200 queries)"
    )
    dev_qrels: Path | None = option(None, help="judgements of --dev-queries")
    dev_depth: int = option(20, help="candidates of each dev query", minimum=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class RerankerOptions(ValidatedOptions):
    """How a reranker is trained."""

    model: str = option("smollm2-135m", help="the model to start from: an embedded name, a folder or a hub id")
    kind: ScorerKind | Literal["auto"] = option("auto", help=kind_help("what it becomes"))
    recipe: RecipeName = option("none", help=f"settings by name, which flags override ({described()})")
    loss: LossName = option(
        "auto",
        help=f"pointwise: the answer, of monoT5 alone; {loss_help()} (default: pointwise for monoT5, margin-mse with a "
        "teacher, listwise for the others)",
    )
    teacher: str | None = option(
        None, help="scorer whose scores are learnt (default for margin-mse: those that `inpars triples --rescore` left)"
    )
    teacher_prompt: str | None = option(None, help="prompt of a teacher that writes queries", metavar="NAME|PATH")
    batch_size: int = option(8, help="queries per training step, each with its positive and negatives", minimum=1)
    negatives: int | None = option(
        None, help="negatives of each positive, drawn from its triples (default: all)", minimum=1
    )
    optimizer: Literal["adamw", "adafactor"] = option("adamw", help="which one; adafactor needs less memory")
    schedule: Literal["linear", "constant"] = option("linear", help="the learning rate after warm-up")
    lora_rank: int | None = option(
        None,
        help="rank of low-rank adapters (LoRA), merged at the end; 0: all weights (default: 16 for decoders)",
        minimum=0,
    )
    learning_rate: float | None = option(
        None,
        help=f"highest learning rate (default: {learning_rates()}, 3e-5 with adapters)",
        bounds=RATE,
    )
    true_token: str | None = option(None, help="what the model shall answer where the document is relevant")
    false_token: str | None = option(None, help="what it shall answer where it is not")


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrieverOptions(ValidatedOptions):
    """How a retriever is trained."""

    kind: RetrieverKindName = option(DENSE, help=f"what it becomes ({kind_words()})", changes_result="unless default")
    loss: Literal["mnrl", "cached-mnrl", "margin-mse"] = option(
        "mnrl",
        help="mnrl: the positive against all documents of the batch; cached-mnrl: the same in the memory of a "
        "mini-batch, for batches of thousands; margin-mse: a teacher's score differences",
    )
    negatives: bool = option(True, help="use the mined negatives beside those of the batch")
    pooling: Literal["mean", "cls", "last"] | None = option(
        None,
        help="how a plain encoder's tokens become one vector (default: mean; sentence-transformers have their own)",
    )
    scale: float | None = option(
        None,
        help="factor on the similarity before the softmax (default: 20 for a cosine, 1 for a dot product and MaxSim)",
        bounds=POSITIVE,
    )
    teacher: str | None = option(
        None, help="scorer that margin-mse learns from (default: the scores that mining left beside the triples)"
    )
    teacher_prompt: str | None = option(None, help="prompt of a teacher that writes queries", metavar="NAME|PATH")
    margin_scale: float | None = option(
        None,
        help="factor on the teacher's margins (default: they spread as the untrained student's do)",
        bounds=POSITIVE,
    )
    matryoshka_dims: str | None = option(
        None, help="train these leading dimensions too, 384,256,128,64 for instance", metavar="N,N"
    )
    flops_queries: float = option(
        5e-5,
        help="weight of the FLOPS regulariser on queries, of sparse ones alone: more of it leaves them fewer words",
        changes_result="unless default",
        minimum=0,
    )
    flops_documents: float = option(3e-5, help="the same on documents", changes_result="unless default", minimum=0)
    query_prefix: str | None = option(None, help="stands before every query (default: the model's own)")
    document_prefix: str | None = option(None, help="stands before every document (default: the model's own)")
    lora_rank: int = option(0, help="rank of low-rank adapters (LoRA), merged at the end; 0: all weights", minimum=0)
    start_share: float = option(
        0.0,
        help="share of the untuned weights in those that are saved, 0.5 for the mean of both: keeps more of what the "
        "model could do before",
        bounds=PART,
    )
    learning_rate: float | None = option(
        None, help="highest learning rate (default: 2e-5; with adapters 2e-4)", bounds=RATE
    )
    mini_batch_size: int | None = option(
        None,
        help="texts embedded together, of like length (default: 16 on a processor, 128 on a GPU)",
        changes_result=False,
        minimum=1,
    )

    @property
    def dimensions(self) -> tuple[int, ...]:
        """The numbers of leading dimensions, empty for the whole embedding alone. Raises ConfigError."""
        try:
            found = tuple(int(part) for part in (self.matryoshka_dims or "").split(",") if part.strip())
        except ValueError:
            found = (0,)
        if any(width < 1 for width in found):
            raise ConfigError(f"--matryoshka-dims is {self.matryoshka_dims!r}; give numbers like 384,256,128,64")
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderOptions(TrainOptions):
    """How a reader is trained."""

    model: str = option("minilm", help="the encoder to start from: an embedded name, a folder or a hub id")
    epochs: float = option(3.0, help="passes over the questions", bounds=POSITIVE)
    batch_size: int = option(16, help="text windows per training step", minimum=1)
    learning_rate: float | None = option(
        1e-4, help="highest learning rate; it rises over the first tenth and falls to 0", bounds=RATE
    )
    max_length: int | None = option(
        None,
        help=f"tokens of a question and a window of text (default: the model's limit, at most {READER_MAX_LENGTH})",
        minimum=16,
    )
    limit: int | None = option(None, help="only the first N questions, to try things out", minimum=1)
    held_out: float = option(
        0.2, help="share of the articles whose questions choose the least score of an answer", bounds=PART
    )


def processes() -> int:
    """How many train together, as torchrun and accelerate tell each of them, which then has a LOCAL_RANK as well."""
    rank, size = (os.environ.get(name, "") for name in ("LOCAL_RANK", "WORLD_SIZE"))
    return max(1, int(size)) if rank.isdigit() and size.isdigit() else 1


def steps_of(batches: int, options: TrainOptions) -> int:
    """Steps of a training whose every pass has so many batches, which several processes share."""
    a_pass = max(1, -(-batches // (options.gradient_accumulation * processes())))
    return options.max_steps or max(1, math.ceil(options.epochs * a_pass))
