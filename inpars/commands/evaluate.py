"""Measure TREC runs against judgements, side by side, with paired tests of their differences.

The first run is the baseline. A judged query that a run lacks scores 0, and their number is shown.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from inpars.commands.common import DatasetFlags, add_dataset_flags, add_display_flags, add_split_flag, print_result
from inpars.datasets import load_qrels
from inpars.evaluation.measures import DEFAULT_METRICS, parse_metrics
from inpars.options import from_flags
from inpars.stages.evaluating import as_values, evaluate_runs, read_runs, table, write_metrics
from inpars.stages.examples import leave_out, left_out_line, read_ids


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's flags."""
    add_dataset_flags(parser)
    add_split_flag(parser)
    parser.add_argument(
        "--run", type=Path, action="append", required=True, metavar="PATH", help="TREC run; may be given several times"
    )
    parser.add_argument(
        "--metrics",
        default=" ".join(DEFAULT_METRICS),
        metavar="NAMES",
        help="measures as ir_measures writes them (default: %(default)s)",
    )
    parser.add_argument(
        "--leave-out",
        type=Path,
        metavar="PATH",
        help="ids of queries not to be judged by, one a line: those that a prompt showed as examples",
    )
    parser.add_argument("--output", type=Path, metavar="PATH", help="write measures, per query too, to this JSON file")
    add_display_flags(parser)


def run(flags: argparse.Namespace) -> None:
    """Evaluate."""
    chosen, metrics = from_flags(DatasetFlags, flags), parse_metrics(flags.metrics)
    runs = read_runs(flags.run)
    judged = load_qrels(chosen.dataset, chosen.qrels, flags.split)
    qrels = leave_out(judged, set(read_ids(flags.leave_out)) if flags.leave_out else ())
    absent = len(judged) - len(qrels)
    results, differences = evaluate_runs(runs, qrels, metrics)
    values = as_values(results, differences) | ({"left_out": absent} if absent else {})
    if flags.output:
        write_metrics(flags.output, values)
    lines = [table(results, differences, metrics), *filter(None, [left_out_line(absent)])]
    print_result(flags, "\n".join(lines), values)
