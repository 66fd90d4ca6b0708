"""Export a tuned model to ONNX, OpenVINO, GGUF or PyLate, and check that it ranks as before.

The check uses judged queries of --dataset, or --triples; the table shows size and speed before and after.
"""

from __future__ import annotations

import argparse

from inpars.cli.common import (
    DatasetFlags,
    add_output_flags,
    add_path,
    add_split_flag,
    console,
    open_dataset,
    print_result,
)
from inpars.contrib.export.stage import ExportModelOptions, export_model, sample_of_dataset, sample_of_groups
from inpars.errors import ConfigError
from inpars.io.manifest import stamp
from inpars.options import add_flags, from_flags
from inpars.training.examples import grouped, read_triple_texts


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_flags(parser, ExportModelOptions)
    add_path(parser, "--triples", "tab-separated texts: query, positive, negative")
    add_flags(parser, DatasetFlags)
    add_split_flag(parser)
    add_output_flags(parser, "folder of the exported model")


def run(flags: argparse.Namespace) -> None:
    progress, options = console(flags), from_flags(ExportModelOptions, flags)
    if (flags.triples is None) == (flags.dataset is None and flags.corpus is None):
        raise ConfigError("the check needs queries: give either --dataset or --triples")
    if flags.triples is not None:
        inputs = {"triples": stamp(flags.triples)}
        groups = grouped(read_triple_texts(flags.triples))
        sampled = lambda: sample_of_groups(groups, options.sample, options.seed)  # noqa: E731
    else:
        dataset = open_dataset(flags, progress)
        topics = dataset.topics(flags.split)
        inputs = {"corpus": dataset.corpus_stamp, "queries": topics.query_stamp}
        sampled = lambda: sample_of_dataset(dataset, topics, options.sample, options.seed)  # noqa: E731
    manifest = export_model(options, sampled, inputs, output=flags.output, progress=progress, overwrite=flags.overwrite)
    rows = manifest.results["table"]
    lines = [f"{'form':19} {'MB':>9} {'pairs/s':>9} {'nDCG@10':>8} {'rank corr.':>10}"]
    lines += [
        f"{row['form']:19} {row['megabytes']:9.2f} {row['pairs_per_second']:9.1f} {row['ndcg']:8.4f} "
        f"{row['rank_correlation']:10.4f}"
        for row in rows
    ]
    print_result(flags, "\n".join([f"{flags.output}: {manifest.results['kind']}", *lines]), manifest.results)
