"""Hold out a development set of synthetic queries, by source document and cluster of near-duplicate documents.

No document, nor a near-duplicate, has queries on both sides. The development queries are also written in BEIR format
with judgements, for search, rerank and evaluate: --queries FILE --qrels FILE.
"""

from __future__ import annotations

import argparse

from inpars.cli.common import DatasetFlags, add_display_flags, add_path, console, open_dataset, print_result
from inpars.options import add_flags, from_flags
from inpars.stages.split import SplitFiles, SplitOptions, split_file
from inpars.stages.stage import dropped_line


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_path(parser, "--input", "synthetic queries, JSON lines", required=True)
    add_flags(parser, DatasetFlags)
    add_flags(parser, SplitOptions)
    for name, text in (("train", "queries to train on"), ("dev", "development queries, in the input's format")):
        add_path(parser, f"--output-{name}", text, required=True)
    add_path(parser, "--queries-dev", "development queries in BEIR's format (default: DEV.queries.jsonl)")
    add_path(parser, "--qrels-dev", "their judgements in BEIR's format (default: DEV.qrels.tsv)")
    parser.add_argument("--overwrite", action="store_true", help="rebuild the outputs even if they are up to date")
    add_display_flags(parser)


def run(flags: argparse.Namespace) -> None:
    progress = console(flags)
    options = from_flags(SplitOptions, flags)
    dataset = open_dataset(flags, progress)
    files = SplitFiles.named(flags.output_train, flags.output_dev, flags.queries_dev, flags.qrels_dev)
    manifest = split_file(
        flags.input, dataset.corpus, options, files=files, progress=progress, overwrite=flags.overwrite
    )
    counts = manifest.results
    text = (
        f"{counts['queries']} queries of {counts['documents']} documents in {counts['clusters']} clusters "
        f"(the largest of {counts['largest_cluster']})\n"
        f"{files.train}: {counts['train']} queries of {counts['clusters'] - counts['dev_clusters']} clusters "
        f"({dropped_line(manifest.dropped)})\n"
        f"{files.dev}: {counts['dev']} queries of {counts['dev_clusters']} clusters\n"
        f"to evaluate on them: --queries {files.queries_dev} --qrels {files.qrels_dev}"
    )
    print_result(flags, text, {"train": str(files.train), "dev": str(files.dev), "counts": counts})
