"""Rerank the top documents of a TREC or MS MARCO run, or of several runs fused; the rest keep their order.

Run the same command again to resume after an interruption.
"""

from __future__ import annotations

import argparse

from inpars.cli.common import (
    DatasetFlags,
    add_output_flags,
    add_path,
    add_prompt_flags,
    add_split_flag,
    console,
    open_dataset,
    print_result,
    shown_prompt,
)
from inpars.distributed import workers_of
from inpars.errors import ConfigError
from inpars.io.runs import DEFAULT_FUSION
from inpars.options import add_flags, from_flags
from inpars.stages.rerank import RerankOptions, reorder_file, rerank_file, run_scorer_maker
from inpars.stages.stage import Running
from inpars.stages.workers import own_output


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_flags(parser, DatasetFlags)
    add_split_flag(parser)
    add_path(
        parser, "--run", "TREC or MS MARCO run to rerank; repeat it to fuse several first", several=True, required=True
    )
    add_path(
        parser,
        "--scores",
        "run already scored by a reranker, instead of --model: reorder the top --depth by the sum of both z-scores",
    )
    add_prompt_flags(parser, "for --kind query-likelihood with an untrained model: the prompt")
    add_flags(parser, RerankOptions)
    add_output_flags(parser, "reranked TREC run")


def run(flags: argparse.Namespace) -> None:
    progress = console(flags)
    options = from_flags(RerankOptions, flags)
    if flags.scores is not None:
        _reorder(flags, options)
        return
    output = own_output(flags.output, options)
    prompt = shown_prompt(flags, options)
    dataset = open_dataset(flags, progress)
    manifest = rerank_file(
        flags.run,
        dataset,
        dataset.topics(flags.split),
        options,
        output=output,
        make_scorer=run_scorer_maker(options, prompt),
        prompt=prompt,
        workers=workers_of(options),
        progress=progress,
        overwrite=flags.overwrite,
    )
    text = f"{output}: {manifest.results['queries']} queries reranked to depth {options.depth}"
    print_result(flags, text, {"output": str(output), **manifest.results})


def _reorder(flags: argparse.Namespace, options: RerankOptions) -> None:
    if len(flags.run) > 1 or options.part is not None:
        raise ConfigError("--scores reorders one --run as a whole; leave --shard and further runs out")
    if flags.prompt is not None or options.limit is not None or options.fusion != DEFAULT_FUSION:
        raise ConfigError("--scores adds z-scores, without a model; leave --prompt, --limit and --fusion out")
    running: Running = {"progress": console(flags), "overwrite": flags.overwrite}
    reorder_file(flags.run[0], flags.scores, options.depth, output=flags.output, **running)
    text = f"{flags.output}: the first {options.depth} documents of {flags.run[0]} reordered by {flags.scores}"
    print_result(flags, text, {"output": str(flags.output)})
