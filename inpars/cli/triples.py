"""Mine negatives for queries and write training triples, as texts and as ids.

With --input the queries are synthetic; without it they are the judged queries of --split, with triples for each
relevant document. A document judged relevant in any split, for a query of the same id or the same words, is never a
negative of that query.
"""

from __future__ import annotations

import argparse

from inpars.cli.common import (
    DatasetFlags,
    add_output_flags,
    add_path,
    add_split_flag,
    console,
    open_dataset,
    print_result,
)
from inpars.distributed import workers_of
from inpars.options import add_flags, from_flags
from inpars.stages.stage import dropped_line
from inpars.stages.triples import REPLACED, TriplesOptions, write_triples


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_path(parser, "--input", "kept queries, JSON lines (default: the judged queries of --split)")
    add_flags(parser, DatasetFlags)
    parser.set_defaults(unknown_judgements="keep")
    add_split_flag(parser)
    parser.add_argument(
        "--judgements",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="never take a document judged relevant as a negative (default: on; off in `inpars run`, so that "
        "no test judgement reaches training)",
    )
    add_flags(parser, TriplesOptions)
    add_output_flags(
        parser, "triples as texts, tab-separated; next to it NAME.ids.tsv, NAME.negatives.jsonl and negatives.trec"
    )


def run(flags: argparse.Namespace) -> None:
    progress = console(flags)
    options = from_flags(TriplesOptions, flags)
    dataset = open_dataset(flags, progress)
    manifest = write_triples(
        flags.input if flags.input is not None else dataset.topics(flags.split),
        dataset.corpus,
        options,
        output=flags.output,
        judgements=[load() for _, load in sorted(dataset.splits.items())] if flags.judgements else [],
        workers=workers_of(options),
        progress=progress,
        overwrite=flags.overwrite,
    )
    results = manifest.results
    text = (
        f"{flags.output}: {manifest.output.records} triples of {results['queries']} queries "
        f"({dropped_line(manifest.dropped)})"
    )
    if options.negatives != "random":
        missed = f"{results['positive_not_retrieved']} of {results['positives']} positives"
        text += f"; {missed} were not retrieved"
    if REPLACED in results:
        text += f"; {results[REPLACED]} positives replaced by a document that {options.rescore} scores higher"
    print_result(flags, text, {"output": str(flags.output), "triples": manifest.output.records, **results})
