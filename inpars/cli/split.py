"""Hold out a development set of synthetic queries, by source document and cluster of near-duplicate documents.

No document, nor a near-duplicate, has queries on both sides. The development queries are also written in BEIR format
with judgements, for search, rerank and evaluate: --queries FILE --qrels FILE.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from inpars.cli.common import add_dataset_flags, add_display_flags, console, open_dataset, print_result
from inpars.options import add_flags, from_flags
from inpars.stages.split import SplitFiles, SplitOptions, split_file
from inpars.stages.stage import dropped_line


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--input", type=Path, required=True, metavar="PATH", help="synthetic queries, JSON lines")
    add_dataset_flags(parser)
    add_flags(parser, SplitOptions)
    for name, text in (("train", "queries to train on"), ("dev", "development queries, as they were read")):
        parser.add_argument(f"--output-{name}", type=Path, required=True, metavar="PATH", help=text)
    parser.add_argument(
        "--queries-dev", type=Path, metavar="PATH", help="the same in BEIR's form (default: DEV.queries.jsonl)"
    )
    parser.add_argument(
        "--qrels-dev", type=Path, metavar="PATH", help="judgements of these, BEIR's form (default: DEV.qrels.tsv)"
    )
    parser.add_argument("--overwrite", action="store_true", help="rebuild the outputs even if they are up to date")
    add_display_flags(parser)


def run(flags: argparse.Namespace) -> None:
    progress = console(flags)
    options = from_flags(SplitOptions, flags)
    dataset = open_dataset(flags, progress)
    files = SplitFiles.named(flags.output_train, flags.output_dev, flags.queries_dev, flags.qrels_dev)
    manifest = split_file(
        flags.input,
        dataset.corpus,
        dataset.corpus_stamp,
        options,
        files=files,
        progress=progress,
        overwrite=flags.overwrite,
    )
    counts = manifest.results
    text = (
        f"{counts['queries']} queries of {counts['documents']} documents in {counts['clusters']} clusters "
        f"(the largest of {counts['largest_cluster']})\n"
        f"{files.train}: {counts['train']} queries of {counts['clusters'] - counts['dev_clusters']} clusters "
        f"({dropped_line(manifest.dropped)})\n"
        f"{files.dev}: {counts['dev']} queries of {counts['dev_clusters']} clusters\n"
        f"to judge by them: --queries {files.queries_dev} --qrels {files.qrels_dev}"
    )
    print_result(flags, text, {"train": str(files.train), "dev": str(files.dev), "counts": counts})
