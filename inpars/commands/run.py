"""The whole pipeline into one folder: write queries, filter, mine, train, retrieve, rerank, judge.

Run again with other settings it redoes only what they touch; killed at any moment, the same command goes on.
"""

from __future__ import annotations

import argparse

from inpars.commands.common import (
    add_dataset_flags,
    add_output_flags,
    add_split_flag,
    console,
    dataset_source,
    open_dataset,
    print_result,
)
from inpars.evaluation.measures import DEFAULT_METRICS, parse_metrics
from inpars.options import add_flags, from_flags
from inpars.pipeline.options import PipelineOptions
from inpars.pipeline.results import Asked
from inpars.pipeline.run import run_pipeline
from inpars.prompting.example_choice import ExampleOptions, choose_prompt
from inpars.prompting.prompts import load_prompt
from inpars.reports.commands import command_line
from inpars.stages.evaluating import as_values, table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's flags."""
    add_dataset_flags(parser)
    add_split_flag(parser)
    parser.add_argument(
        "--prompt", default="inpars", metavar="NAME|PATH", help="shipped prompt or prompt file (default: inpars)"
    )
    add_flags(parser, ExampleOptions)
    add_flags(parser, PipelineOptions)
    parser.add_argument(
        "--metrics",
        default=" ".join(DEFAULT_METRICS),
        metavar="NAMES",
        help="measures as ir_measures writes them (default: %(default)s)",
    )
    add_output_flags(parser, "folder of this run")


def run(flags: argparse.Namespace) -> None:
    """Run everything."""
    progress, metrics = console(flags), parse_metrics(flags.metrics)
    options = from_flags(PipelineOptions, flags)
    prompt = choose_prompt(load_prompt(flags.prompt), from_flags(ExampleOptions, flags), options.seed)
    finished = run_pipeline(
        open_dataset(flags, progress),
        prompt,
        options,
        output=flags.output,
        split=flags.split,
        metrics=metrics,
        asked=Asked(command_line("run", add_arguments, flags), dataset_source(flags), flags.prompt),
        progress=progress,
        overwrite=flags.overwrite,
    )
    if finished.results:
        text = f"{table(finished.results, finished.differences, metrics)}\nreport: {finished.report}"
    else:
        text = (
            f"no judged queries, nothing measured; models and queries are in {flags.output}\nreport: {finished.report}"
        )
    print_result(flags, text, as_values(finished.results, finished.differences))
