"""Run the whole pipeline into one folder: generate queries, filter, mine, train, search, rerank, evaluate.

Starts from --dataset, or from --documents: PDF files, web pages, Markdown, plain text. Without judged queries, part of
the generated ones is held out by source file to evaluate on, and the report says what that shows.

Run the same command again to resume after an interruption. With other settings it redoes only what they affect, and
replaces finished results only with --overwrite.
"""

from __future__ import annotations

import argparse

from inpars.cli.common import DatasetFlags, add_output_flags, add_split_flag, add_track_flag, console, tracked
from inpars.cli.ingest import add_documents_flags
from inpars.documents.collection import ChunkOptions
from inpars.documents.readers import ReadOptions
from inpars.documents.web_pages import FetchOptions
from inpars.evaluation.measures import DEFAULT_METRICS
from inpars.options import add_flags
from inpars.pipeline.evidence import EvidenceOptions
from inpars.pipeline.judging_options import JudgingOptions
from inpars.pipeline.options import DEFAULT_PROMPT, TRIAL_DOCUMENTS, PipelineOptions
from inpars.prompts.load import ExampleOptions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_documents_flags(parser)
    add_flags(parser, DatasetFlags)
    add_split_flag(parser)
    parser.add_argument(
        "--prompt",
        action="append",
        metavar="NAME|PATH",
        help=f"shipped prompt or prompt file; two or three are tried on {TRIAL_DOCUMENTS} documents each (default: "
        f"{DEFAULT_PROMPT}, unless a trial finds that most of its queries do not look like queries and another "
        "prompt's do); see prompts/choice.json",
    )
    add_flags(parser, ExampleOptions)
    add_flags(parser, PipelineOptions)
    add_flags(parser, EvidenceOptions)
    add_flags(parser, JudgingOptions)
    for part in (ChunkOptions, ReadOptions, FetchOptions):
        add_flags(parser, part, advanced=True)
    parser.add_argument(
        "--metrics",
        default=" ".join(DEFAULT_METRICS),
        metavar="NAMES",
        help="measures in ir_measures notation (default: %(default)s)",
    )
    add_output_flags(
        parser,
        "folder of the run",
        overwrite="replace finished results: redo what changed settings affect, or everything if none changed",
    )
    add_track_flag(parser)


def run(flags: argparse.Namespace) -> int:
    from inpars.cli.whole_run import run_whole  # not for `--help`: it imports all stages

    progress = console(flags)
    with progress.watched(), tracked(flags, progress):
        return run_whole(flags, progress)
