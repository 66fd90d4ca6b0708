"""`python -m inpars.filter` with the flags of the InPars toolkit's command of that name.

Runs `inpars filter`; with `--filter_strategy reranker`, after `inpars score`, whose scores are kept next to the output.
As in the toolkit, only the length and, on request, copies are checked: duplicates stay.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from inpars.errors import ConfigError
from inpars.toolkit import CallableModule, dataset_name, flags_of, run_translated, toolkit_parser

IGNORED_FLAGS = {"fp16": "bfloat16 is used"}
STRATEGIES = ("scores", "reranker")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `inpars filter` with the toolkit's flags; returns the exit code."""
    return run_translated(_parser(), arguments, translate, IGNORED_FLAGS, _ignored)


def translate(flags: argparse.Namespace) -> list[list[str]]:
    """The arguments of the `inpars` commands that do the same."""
    if flags.filter_strategy == "scores":
        return [_filter(flags, {"scoring-function": "mean_log_probs"})]
    if flags.dataset is None:
        raise ConfigError("--filter_strategy reranker reads the documents: give them with --dataset")
    scores = scores_path(Path(flags.output))
    options = {
        "kind": "reranker",
        "input": flags.input,
        "dataset": dataset_name(flags.dataset),
        "model": flags.model_name_or_path,
        "dtype": "bfloat16" if flags.fp16 else "float32",
        "device": flags.device,
        "batch-size": flags.batch_size,
        "output": scores,
    }
    return [["score", *flags_of(options)], _filter(flags, {"scores": scores, "scoring-function": "reranker"})]


def scores_path(output: Path) -> Path:
    """The file of the reranker's scores: `kept.reranker.jsonl` for `kept.jsonl`."""
    return output.with_name(f"{output.name.removesuffix('.jsonl')}.reranker.jsonl")


def _filter(flags: argparse.Namespace, ranking: dict[str, object]) -> list[str]:
    options = {
        "input": flags.input,
        **ranking,
        "top-k": flags.keep_top_k,
        "min-tokens": flags.min_tokens,
        "max-tokens": flags.max_tokens,
        "output": flags.output,
    }
    copied = "--drop-copied" if flags.skip_questions_copied_from_context else "--no-drop-copied"
    return ["filter", *flags_of(options), copied, "--no-drop-duplicates", "--no-drop-unstopped"]


def _ignored(flags: argparse.Namespace) -> list[str]:
    unused = flags.filter_strategy == "scores" and flags.dataset is not None
    return ["--dataset (the queries bring their scores and documents)"] if unused else []


def _parser() -> argparse.ArgumentParser:
    parser = toolkit_parser("filter", "filter")
    parser.add_argument("--input", required=True, help="synthetic queries, JSON lines")
    parser.add_argument("--output", required=True, help="kept queries, JSON lines, best first")
    parser.add_argument(
        "--filter_strategy", required=True, choices=STRATEGIES, help="mean log-probability, or a reranker's score"
    )
    parser.add_argument("--dataset", help="BEIR name, ir_datasets name, or path of a corpus; for the reranker")
    parser.add_argument("--dataset_source", default="ir_datasets", help="accepted for compatibility, ignored")
    parser.add_argument("--keep_top_k", type=int, default=10_000, help="how many to keep (%(default)s)")
    parser.add_argument(
        "--model_name_or_path", default="castorini/monot5-3b-msmarco-10k", help="the reranker (%(default)s)"
    )
    parser.add_argument("--min_tokens", type=int, default=3, help="fewest tokens of a query (%(default)s)")
    parser.add_argument("--max_tokens", type=int, default=1000, help="most tokens of a query (%(default)s)")
    parser.add_argument(
        "--skip_questions_copied_from_context",
        action="store_true",
        help="drop queries that their document contains word for word",
    )
    parser.add_argument("--device", help="cpu, cuda or cuda:N")
    parser.add_argument("--fp16", action="store_true", help=IGNORED_FLAGS["fp16"])
    parser.add_argument("--batch_size", type=int, help="pairs scored together")
    return parser


sys.modules[__name__].__class__ = CallableModule
if __name__ == "__main__":
    sys.exit(main())
