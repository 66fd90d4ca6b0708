"""Compare two runs: settings that differ, measures with paired tests, queries that gained or lost, and time.

Both are folders of `inpars run` over the same documents; a positive difference favours the second. Tests are paired
over the queries judged in both, Holm-adjusted for the number of systems that differ.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from inpars.cli.common import add_display_flags, add_path, print_result, say_no_result
from inpars.contrib.comparison.runs import SHOWN, compare_runs, comparison_lines, write_comparison
from inpars.options import Bounds, add_number
from inpars.pipeline.folder import read_run_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    for name, text in (("first", "baseline run"), ("second", "run to compare with it")):
        parser.add_argument(name, type=Path, metavar="RUN_DIR", help=text)
    add_number(
        parser,
        "--moved",
        bounds=Bounds(minimum=0),
        default=SHOWN,
        help="queries with the largest gains and losses to show per system (default: %(default)s)",
    )
    add_path(parser, "--report", "also write it as an HTML page with plots")
    add_display_flags(parser)


def run(flags: argparse.Namespace) -> int:
    """Compare; the exit code is 1 if measured runs have no system or no query in common."""
    comparison = compare_runs(read_run_folder(flags.first), read_run_folder(flags.second), flags.moved)
    if flags.report is not None:
        write_comparison(comparison, flags.report)
    print_result(flags, "\n".join(comparison_lines(comparison)), asdict(comparison))
    return say_no_result(comparison.problems)
