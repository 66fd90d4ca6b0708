"""`python -m inpars.rerank` with the flags of the InPars toolkit's command of that name.

Runs `inpars rerank`, after `inpars search` if no run is given; the toolkit downloaded a BM25 run instead. Scores are
margins; the toolkit wrote probabilities, which tie near 1.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from inpars.errors import ConfigError
from inpars.toolkit import CallableModule, dataset_name, flags_of, run_translated, toolkit_parser

IGNORED_FLAGS = {
    "fp16": "bfloat16 is used",
    "torch_compile": "not needed",
    "batch_size": "batches hold so many tokens, whatever the number of pairs",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `inpars rerank` with the toolkit's flags; returns the exit code."""
    return run_translated(_parser(), arguments, translate, IGNORED_FLAGS)


def translate(flags: argparse.Namespace) -> list[list[str]]:
    """The arguments of the `inpars` commands that do the same."""
    if flags.dataset is None and flags.corpus is None:
        raise ConfigError("the documents are needed: give them with --dataset, or with --corpus and --queries")
    for name in ("corpus", "queries"):
        if str(getattr(flags, name)).endswith(".csv"):
            raise ConfigError(f"--{name} {getattr(flags, name)}: give it as .tsv (id, text) or .jsonl")
    texts = {"dataset": flags.dataset and dataset_name(flags.dataset), "corpus": flags.corpus, "queries": flags.queries}
    search = flags.input_run is None or (flags.input_run == flags.dataset and not Path(flags.input_run).is_file())
    run = first_stage_path(Path(flags.output_run)) if search else flags.input_run
    options = {
        **texts,
        "run": run,
        "model": flags.model,
        "depth": flags.top_k,
        "dtype": "bfloat16" if flags.fp16 else "float32",
        "device": flags.device,
        "output": flags.output_run,
    }
    first = [["search", *flags_of({**texts, "retriever": "bm25", "k": flags.top_k, "output": run})]] if search else []
    return [*first, ["rerank", *flags_of(options)]]


def first_stage_path(output: Path) -> Path:
    """The file of BM25's run: `run.bm25.trec` for `run.trec`."""
    return output.with_name(f"{output.stem}.bm25.trec")


def _parser() -> argparse.ArgumentParser:
    parser = toolkit_parser("rerank", "rerank")
    parser.add_argument(
        "--model", default="castorini/monot5-small-msmarco-100k", help="the reranker: folder or hub id (%(default)s)"
    )
    parser.add_argument("--input_run", help="TREC run (default: BM25's, of the dataset's own documents)")
    parser.add_argument("--output_run", required=True, help="TREC run")
    parser.add_argument("--dataset", help="BEIR name, ir_datasets name, or path of a dataset")
    parser.add_argument("--dataset_source", default="ir_datasets", help="accepted for compatibility, ignored")
    parser.add_argument("--corpus", help="documents (.jsonl, .tsv) instead of the dataset's")
    parser.add_argument("--queries", help="queries (.jsonl, .tsv) instead of the dataset's")
    parser.add_argument("--device", help="cpu, cuda or cuda:N")
    parser.add_argument("--batch_size", type=int, help="accepted for compatibility, ignored")
    parser.add_argument("--top_k", type=int, default=1000, help="documents per query that are scored (%(default)s)")
    for name in ("fp16", "torch_compile"):
        parser.add_argument(f"--{name}", action="store_true", help=IGNORED_FLAGS[name])
    return parser


sys.modules[__name__].__class__ = CallableModule
if __name__ == "__main__":
    sys.exit(main())
