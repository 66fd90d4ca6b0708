"""Convert triples, synthetic queries, a run or a dataset to the format of another toolkit or search engine.

Document texts come from --dataset or --corpus, else from triples.tsv or the synthetic queries.
"""

from __future__ import annotations

import argparse

from inpars.cli.common import (
    DatasetFlags,
    add_output_flags,
    add_path,
    add_split_flag,
    console,
    open_dataset_if_named,
    print_result,
)
from inpars.cli.import_ import listing
from inpars.contrib.interchange import FORMATS
from inpars.contrib.interchange.source import Source
from inpars.contrib.interchange.stage import ExportOptions, exchanged_line, export_file
from inpars.options import add_flags, from_flags


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_flags(parser, ExportOptions)
    add_path(parser, "--triples", "triples.tsv or triples.ids.tsv, with the files next to it")
    add_path(parser, "--input", "synthetic queries, JSON lines")
    add_path(parser, "--run", "TREC run")
    parser.add_argument(
        "--retriever",
        metavar="MODEL",
        help="sparse retriever for the word weights of opensearch, elasticsearch, qdrant",
    )
    add_flags(parser, DatasetFlags)
    add_split_flag(parser)
    add_output_flags(parser, "file or folder, depending on the format")
    parser.epilog = listing(FORMATS)


def run(flags: argparse.Namespace) -> None:
    progress = console(flags)
    source = Source(
        triples=flags.triples,
        synthetic=flags.input,
        run=flags.run,
        dataset=open_dataset_if_named(flags, progress),
        split=flags.split,
        retriever=flags.retriever,
        progress=progress,
    )
    options = from_flags(ExportOptions, flags)
    manifest = export_file(source, options, output=flags.output, progress=progress, overwrite=flags.overwrite)
    values = {"output": str(flags.output), **manifest.results, "dropped": manifest.dropped}
    print_result(flags, f"{flags.output}: {exchanged_line(manifest)}", values)
