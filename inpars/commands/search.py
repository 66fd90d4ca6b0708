"""Retrieve with BM25, a bi-encoder or a fusion of several, to a TREC run."""

from __future__ import annotations

import argparse

from inpars.commands.common import (
    add_dataset_flags,
    add_output_flags,
    add_split_flag,
    console,
    open_dataset,
    print_result,
)
from inpars.options import add_flags, from_flags
from inpars.stages.retrieving import DEFAULT_RETRIEVERS, SearchOptions, search_dataset


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's flags."""
    add_dataset_flags(parser)
    add_split_flag(parser)
    add_flags(parser, SearchOptions)
    add_output_flags(parser, "TREC run")


def run(flags: argparse.Namespace) -> None:
    """Search."""
    progress = console(flags)
    dataset = open_dataset(flags, progress)
    options = from_flags(SearchOptions, flags, retriever=tuple(flags.retriever or DEFAULT_RETRIEVERS))
    manifest = search_dataset(
        dataset,
        dataset.topics(flags.split),
        options,
        output=flags.output,
        progress=progress,
        overwrite=flags.overwrite,
    )
    queries, empty = manifest.results["queries"], manifest.results["without_results"]
    text = f"{flags.output}: {manifest.output.records} results of {queries} queries"
    print_result(
        flags,
        text + (f", {empty} found nothing" if empty else ""),
        {"output": str(flags.output), "results": manifest.output.records, **manifest.results},
    )
