"""Mine BM25 negatives for kept queries and write training triples, as texts and as ids."""

from __future__ import annotations

import argparse
from pathlib import Path

from inpars.commands.common import add_dataset_flags, add_output_flags, console, open_dataset, print_result
from inpars.options import add_flags, from_flags
from inpars.stages.mining import TriplesOptions, write_triples
from inpars.stages.stage import dropped_line


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's flags."""
    parser.add_argument("--input", type=Path, required=True, metavar="PATH", help="kept queries, JSON lines")
    add_dataset_flags(parser)
    add_flags(parser, TriplesOptions)
    add_output_flags(parser, "triples as texts, tab-separated; ids beside it in NAME.ids.tsv")


def run(flags: argparse.Namespace) -> None:
    """Mine."""
    progress = console(flags)
    dataset = open_dataset(flags, progress)
    manifest = write_triples(
        flags.input,
        dataset.corpus,
        dataset.corpus_stamp,
        from_flags(TriplesOptions, flags),
        output=flags.output,
        progress=progress,
        overwrite=flags.overwrite,
    )
    absent, queries = manifest.results["positive_not_retrieved"], manifest.results["queries"]
    text = (
        f"{flags.output}: {manifest.output.records} triples of {queries} queries ({dropped_line(manifest.dropped)}); "
        f"BM25 misses the positive of {absent}"
    )
    print_result(flags, text, {"output": str(flags.output), "triples": manifest.output.records, **manifest.results})
