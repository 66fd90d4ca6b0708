"""One local model says how likely it finds queries of any origin, so that filters mean the same for all of them.

The rows come out as they went in, with new log-probabilities, one for each token of the query. Killed at any moment,
the same command goes on after the last part that was saved.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from inpars.commands.common import add_dataset_flags, add_output_flags, console, open_dataset_if_named, print_result
from inpars.example_choice import ExampleOptions, choose_prompt
from inpars.options import add_flags, from_flags
from inpars.prompts import load_prompt
from inpars.stages.scoring import ScoreOptions, load_query_scorer, score_file


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's flags."""
    parser.add_argument("--input", type=Path, required=True, metavar="PATH", help="queries with doc_id, JSON lines")
    add_dataset_flags(parser)
    parser.add_argument(
        "--prompt", default="inpars", metavar="NAME|PATH", help="shipped prompt or prompt file (default: inpars)"
    )
    add_flags(parser, ExampleOptions)
    add_flags(parser, ScoreOptions)
    add_output_flags(parser, "the same queries with new log-probabilities, JSON lines")


def run(flags: argparse.Namespace) -> None:
    """Score."""
    progress, options = console(flags), from_flags(ScoreOptions, flags)
    prompt = choose_prompt(load_prompt(flags.prompt), from_flags(ExampleOptions, flags), options.seed)
    dataset = open_dataset_if_named(flags, progress)
    manifest = score_file(
        flags.input,
        prompt,
        options,
        output=flags.output,
        make_scorer=lambda: load_query_scorer(options, prompt),
        corpus=dataset.corpus if dataset else None,
        corpus_stamp=dataset.corpus_stamp if dataset else None,
        progress=progress,
        overwrite=flags.overwrite,
    )
    mean = manifest.results["mean_log_prob"]
    shown = "no tokens" if mean is None else f"mean log-probability of a token {mean:.4f}"
    values = {"output": str(flags.output), "queries": manifest.output.records, **manifest.results}
    print_result(
        flags, f"{flags.output}: {manifest.output.records} queries scored with {options.model}, {shown}", values
    )
