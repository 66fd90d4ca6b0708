"""`python -m inpars.evaluate` with the flags of the InPars toolkit's command of that name.

Runs `inpars evaluate`, after `inpars search` if the run is `bm25`. A --qrels file must exist; the toolkit silently used
the dataset's judgements if its path was mistyped.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from inpars.errors import ConfigError
from inpars.toolkit import CallableModule, dataset_name, flags_of, run_translated, toolkit_parser

MS_MARCO = "msmarco-passage/dev/small"
BM25 = "bm25"
K = 1000  # of the toolkit's BM25 runs


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `inpars evaluate` with the toolkit's flags; returns the exit code."""
    return run_translated(_parser(), arguments, translate)


def translate(flags: argparse.Namespace) -> list[list[str]]:
    """The arguments of the `inpars` commands that do the same."""
    if flags.relevance_threshold < 1:
        raise ConfigError(f"--relevance_threshold is {flags.relevance_threshold}; it must be at least 1")
    dataset = judged_dataset(flags.dataset)
    search = flags.run == BM25 and not Path(BM25).is_file()
    run = f"run.{dataset.strip('/.').replace('/', '-')}.bm25.trec" if search else flags.run
    first = [["search", *flags_of({"dataset": dataset, "retriever": BM25, "k": K, "output": run})]] if search else []
    options = {
        "dataset": dataset if flags.qrels is None else None,
        "qrels": flags.qrels,
        "run": run,
        "metrics": measures(flags.relevance_threshold),
        "order": "score",
    }
    extra = [name for name, on in (("--judged-only", flags.remove_unjudged), ("--json", flags.json)) if on]
    return [*first, ["evaluate", *flags_of(options), *extra]]


def judged_dataset(name: str) -> str:
    """The toolkit's evaluation sets: MS MARCO's small dev set, and BEIR's test splits."""
    if name == "msmarco":
        return MS_MARCO
    full = dataset_name(name)
    import ir_datasets  # slow to import

    return f"{full}/test" if f"{full}/test" in list(ir_datasets.registry) else full


def measures(threshold: int) -> str:
    """The measures that the toolkit prints; grades from `threshold` count as relevant, except for nDCG."""
    rel = "" if threshold == 1 else f"(rel={threshold})"
    return f"RR{rel} R{rel}@1000 nDCG@10 nDCG@20 AP{rel} P{rel}@10"


def _parser() -> argparse.ArgumentParser:
    parser = toolkit_parser("evaluate", "evaluate")
    parser.add_argument("--run", required=True, help="TREC run, or bm25 for that of the dataset's own documents")
    parser.add_argument("--dataset", default="msmarco", help="BEIR name, ir_datasets name, or path (%(default)s)")
    parser.add_argument("--qrels", help="judgements instead of the dataset's")
    parser.add_argument(
        "--relevance_threshold", type=int, default=1, help="least grade that binary measures count (%(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--remove_unjudged", action="store_true", help="leave unjudged documents out of the run")
    return parser


sys.modules[__name__].__class__ = CallableModule
if __name__ == "__main__":
    sys.exit(main())
