"""`python -m inpars.generate_triples` with the flags of the InPars toolkit's command of that name.

Runs `inpars triples`. `--max_hits` (the last rank) and `--threads` have an effect here; the toolkit ignored them. A
query's own document is never its negative.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from inpars.errors import ConfigError
from inpars.toolkit import dataset_name, flags_of, run_translated, toolkit_parser

IGNORED_FLAGS = {
    "index": "an index of the dataset's own documents is built",
    "batch_size": "queries are searched in blocks of 500",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `inpars triples` with the toolkit's flags; returns the exit code."""
    return run_translated(_parser(), arguments, lambda flags: [translate(flags)], IGNORED_FLAGS)


def translate(flags: argparse.Namespace) -> list[str]:
    """The arguments of the `inpars` command that does the same."""
    if flags.dataset is None:
        raise ConfigError("the documents are needed: give them with --dataset")
    options = {
        "input": flags.input,
        "dataset": dataset_name(flags.dataset),
        "negatives": "bm25",
        "ranks": f"1-{flags.max_hits}",
        "per-query": flags.n_samples,
        "seed": flags.seed,
        "threads": flags.threads,
        "output": flags.output,
    }
    return ["triples", *flags_of(options)]


def _parser() -> argparse.ArgumentParser:
    parser = toolkit_parser("generate_triples", "triples")
    parser.add_argument("--input", required=True, help="kept queries, JSON lines")
    parser.add_argument("--output", required=True, help="triples as texts, tab-separated; ids and origins next to it")
    parser.add_argument("--dataset", help="BEIR name, ir_datasets name, or path of a corpus")
    parser.add_argument("--dataset_source", default="ir_datasets", help="accepted for compatibility, ignored")
    parser.add_argument("--index", help="accepted for compatibility, ignored")
    parser.add_argument("--max_hits", type=int, default=1000, help="last BM25 rank of a negative (%(default)s)")
    parser.add_argument("--n_samples", type=int, default=100, help="negatives per query (%(default)s)")
    parser.add_argument("--batch_size", type=int, help="accepted for compatibility, ignored")
    parser.add_argument("--threads", type=int, help="search threads (default: one per core)")
    parser.add_argument("--seed", type=int, default=1, help="seed of the draw (%(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
