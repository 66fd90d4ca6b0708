"""`python -m inpars.train` with the flags of the InPars toolkit's command of that name.

Runs `inpars train reranker`. The toolkit's flags are those of Hugging Face's trainer; those without an effect here are
accepted and listed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from inpars.errors import ConfigError
from inpars.toolkit import flags_of, run_translated, toolkit_parser

TYPO = 0.9  # high, because Hugging Face's trainer has many flags similar to those read here
IGNORED_FLAGS = {  # and what happens instead
    "do_train": "it always trains",
    "do_eval": "--validate-every of `inpars train reranker` does",
    "fp16": "bfloat16 is used",
    "save_steps": "a checkpoint is saved every two minutes",
    "save_strategy": "a checkpoint is saved every two minutes",
    "save_total_limit": "the last checkpoint is kept while it trains",
    "logging_steps": "the curve of the loss has forty points",
    "logging_dir": "the curve is in the manifest",
    "evaluation_strategy": "--validate-every of `inpars train reranker` does",
    "eval_strategy": "--validate-every of `inpars train reranker` does",
    "report_to": "nothing is reported elsewhere",
    "predict_with_generate": "two logits are read",
    "per_device_eval_batch_size": "not needed",
    "dataloader_num_workers": "not needed",
    "generation_max_length": "one token is generated",
    "resume_from_checkpoint": "it always resumes from the last checkpoint",
}
SWITCHES = ("do_train", "do_eval", "fp16", "bf16", "overwrite_output_dir", "gradient_checkpointing")
SWITCHES_LEFT = ("predict_with_generate",)
SCHEDULES = {"linear": "linear", "constant": "constant", "constant_with_warmup": "constant"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `inpars train reranker` with the toolkit's flags; returns the exit code."""
    return run_translated(_parser(), arguments, lambda flags: [translate(flags)], IGNORED_FLAGS, _ignored)


def translate(flags: argparse.Namespace) -> list[str]:
    """The arguments of the `inpars` command that does the same."""
    if flags.triples is None:
        raise ConfigError("--pairs cannot be read here; give triples of query, positive and negative with --triples")
    if flags.lr_scheduler_type not in SCHEDULES:
        raise ConfigError(f"--lr_scheduler_type {flags.lr_scheduler_type}: use {', '.join(SCHEDULES)}")
    if not flags.optim.startswith(("adamw", "adafactor")):
        raise ConfigError(f"--optim {flags.optim}: use adamw_torch or adafactor")
    options = {
        "triples": flags.triples,
        "model": flags.base_model,
        "output": flags.output_dir,
        "batch-size": max(1, flags.per_device_train_batch_size // 2),  # one query here is two examples in the toolkit
        "negatives": 1,
        "max-steps": flags.max_steps if flags.max_steps > 0 else None,
        "epochs": flags.num_train_epochs,
        "learning-rate": flags.learning_rate,
        "weight-decay": flags.weight_decay,
        "warmup": flags.warmup_ratio,
        "gradient-accumulation": flags.gradient_accumulation_steps,
        "optimizer": "adafactor" if flags.optim.startswith("adafactor") else "adamw",
        "schedule": SCHEDULES[flags.lr_scheduler_type],
        "max-length": flags.max_doc_length,
        "seed": flags.seed,
        "dtype": "bfloat16" if flags.bf16 or flags.fp16 else "float32",
        "device": "cpu" if flags.use_cpu or flags.no_cuda else None,
        "push-to-hub": flags.hub_model_id,
    }
    switches = {"overwrite": flags.overwrite_output_dir, "gradient-checkpointing": flags.gradient_checkpointing}
    return ["train", "reranker", *flags_of(options), *(f"--{name}" for name, is_set in switches.items() if is_set)]


def _ignored(flags: argparse.Namespace) -> list[str]:
    ignored = []
    if flags.pairs is not None:
        ignored.append("--pairs (the triples are read)")
    if flags.warmup_steps:
        ignored.append("--warmup_steps (give --warmup_ratio, a share of the steps)")
    return ignored


def _parser() -> argparse.ArgumentParser:
    parser = toolkit_parser("train", "train reranker", tolerance=TYPO)
    parser.add_argument("--triples", help="tab-separated texts: query, positive, negative")
    parser.add_argument("--pairs", help="refused: give --triples")
    parser.add_argument("--base_model", default="t5-base", help="the model to start from (%(default)s)")
    parser.add_argument("--output_dir", required=True, help="folder of the trained model")
    parser.add_argument(
        "--max_doc_length",
        type=int,
        default=300,
        help="maximum tokens of a pair; only the document is truncated (%(default)s)",
    )
    parser.add_argument("--max_steps", type=int, default=-1, help="steps in place of epochs")
    parser.add_argument("--num_train_epochs", type=float, default=3.0, help="passes (%(default)s)")
    parser.add_argument(
        "--per_device_train_batch_size",
        type=int,
        default=8,
        help="examples per batch, half of them negatives (%(default)s)",
    )
    parser.add_argument("--gradient_accumulation_steps", type=int, default=1, help="batches per step (%(default)s)")
    parser.add_argument("--learning_rate", type=float, default=5e-5, help="(%(default)s; the papers' is 3e-4)")
    parser.add_argument("--weight_decay", type=float, default=0.0, help="(%(default)s)")
    parser.add_argument("--warmup_ratio", type=float, default=0.0, help="share of the steps (%(default)s)")
    parser.add_argument("--warmup_steps", type=int, default=0, help="accepted for compatibility, ignored")
    parser.add_argument("--optim", default="adamw_torch", help="adamw_torch or adafactor (%(default)s)")
    parser.add_argument("--lr_scheduler_type", default="linear", help="linear or constant (%(default)s)")
    parser.add_argument("--seed", type=int, default=42, help="(%(default)s)")
    parser.add_argument("--hub_model_id", help="upload the model to this repository")
    for name in (*SWITCHES, *SWITCHES_LEFT, "use_cpu", "no_cuda"):
        parser.add_argument(
            f"--{name}", nargs="?", const=True, default=False, type=_truth, help=IGNORED_FLAGS.get(name)
        )
    for name in sorted(IGNORED_FLAGS.keys() - {*SWITCHES, *SWITCHES_LEFT}):
        parser.add_argument(f"--{name}", help="accepted for compatibility, ignored")
    return parser


def _truth(text: str) -> bool:
    """The value of a boolean flag, which Hugging Face also accepts with a word."""
    if text.lower() in ("true", "yes", "1", "false", "no", "0"):
        return text.lower() in ("true", "yes", "1")
    raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")


if __name__ == "__main__":
    sys.exit(main())
