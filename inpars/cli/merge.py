"""Join the shards of an output into the file and manifest of a run without --shard.

Joins the given shards, or those next to --output. Reports a missing, unfinished or foreign shard with the --shard to
run again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from inpars.cli.common import add_output_flags, console, print_result
from inpars.stages.merge import merge_shards


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "shards",
        type=Path,
        nargs="*",
        metavar="SHARD",
        help="shard files, in any order (default: those next to --output)",
    )
    add_output_flags(parser, "what the command without --shard writes")


def run(flags: argparse.Namespace) -> None:
    manifest = merge_shards(flags.output, flags.shards, progress=console(flags), overwrite=flags.overwrite)
    shards = manifest.results["shards"]
    text = f"{flags.output}: {manifest.output.records} records of {len(shards)} shards"
    print_result(flags, text, {"output": str(flags.output), "records": manifest.output.records, "shards": shards})
