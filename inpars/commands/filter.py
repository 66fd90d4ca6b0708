"""Keep the queries that the model itself finds likely, and say what was left out and why."""

from __future__ import annotations

import argparse
from pathlib import Path

from inpars.commands.common import add_dataset_flags, add_output_flags, console, open_dataset_if_named, print_result
from inpars.options import add_flags, from_flags
from inpars.prompts import load_prompt, read_examples
from inpars.stages.filtering import FilterOptions, filter_file
from inpars.stages.stage import dropped_line


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's flags."""
    parser.add_argument("--input", type=Path, required=True, metavar="PATH", help="synthetic queries, JSON lines")
    add_dataset_flags(parser)
    parser.add_argument(
        "--prompt", metavar="NAME|PATH", help="the prompt they were written with: its examples' queries are left out"
    )
    parser.add_argument("--examples", type=Path, metavar="PATH", help="the examples they were written with, likewise")
    add_flags(parser, FilterOptions)
    add_output_flags(parser, "kept queries, JSON lines, best first")


def run(flags: argparse.Namespace) -> None:
    """Filter."""
    progress = console(flags)
    examples = [
        *(load_prompt(flags.prompt).examples if flags.prompt else ()),
        *(read_examples(flags.examples) if flags.examples else ()),
    ]
    dataset = open_dataset_if_named(flags, progress)
    manifest = filter_file(
        flags.input,
        from_flags(FilterOptions, flags),
        output=flags.output,
        example_queries=[example.query for example in examples],
        corpus=dataset.corpus if dataset else None,
        corpus_stamp=dataset.corpus_stamp if dataset else None,
        progress=progress,
        overwrite=flags.overwrite,
    )
    text = f"{flags.output}: {manifest.output.records} of {manifest.results['read']} queries kept"
    values = {"output": str(flags.output), "kept": manifest.output.records, "dropped": manifest.dropped}
    print_result(flags, f"{text} ({dropped_line(manifest.dropped)})", values)
